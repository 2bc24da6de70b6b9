"""Loss curves as a small SVG: one panel for each method, every seed and way."""

from __future__ import annotations

import numpy as np

COLOURS = {"fp32": "#3b6ea8", "fp32 nudged": "#9a9a9a", "bf16": "#c8553d"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 400, 240, 46, 30, 70
SMOOTH = 9


def draw(curves: dict[str, dict[str, list[list[float]]]], last: int) -> str:
    """Curves (seeds, steps) by method and way, smoothed over `SMOOTH` steps; the last steps are shaded."""
    panels = "".join(panel(name, ways, last, LEFT + i * (WIDTH + GAP)) for i, (name, ways) in enumerate(curves.items()))
    wide = LEFT + len(curves) * (WIDTH + GAP) - GAP + 20
    style = "<style>text{font:12px sans-serif;fill:#333}</style>"
    size = f'viewBox="0 0 {wide} {TOP + HEIGHT + 60}"'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{white}{panels}{legend()}</svg>\n'


def panel(name: str, ways: dict[str, list[list[float]]], last: int, left: float) -> str:
    smooth = {way: [np.convolve(c, np.ones(SMOOTH) / SMOOTH, "valid") for c in seeds] for way, seeds in ways.items()}
    every = np.concatenate([curve for seeds in smooth.values() for curve in seeds])
    low, high = np.floor(every.min() * 20) / 20, np.ceil(np.quantile(every, 0.995) * 20) / 20
    steps = len(next(iter(ways.values()))[0])

    def at(step: float, loss: float) -> tuple[float, float]:
        share = (min(loss, high) - low) / (high - low)
        return left + WIDTH * step / steps, TOP + HEIGHT * (1 - share)

    shade_from, _ = at(steps - last, low)
    parts = [
        f'<rect x="{shade_from:.1f}" y="{TOP}" width="{left + WIDTH - shade_from:.1f}" height="{HEIGHT}" fill="#eee"/>'
    ]
    for value in np.linspace(low, high, 5):
        _, y = at(0, value)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for step in range(0, steps + 1, steps // 4):
        parts.append(f'<text x="{at(step, low)[0]:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{step}</text>')
    for way, seeds in smooth.items():
        for curve in seeds:
            points = " ".join("{:.1f},{:.1f}".format(*at(i + SMOOTH // 2, v)) for i, v in enumerate(curve))
            line = f'fill="none" stroke="{COLOURS[way]}" stroke-width="1.1" stroke-opacity="0.85"'
            parts.append(f'<polyline points="{points}" {line}/>')
    parts.append(f'<text x="{left}" y="{TOP - 10}">{name}: loss of a step, mean over {SMOOTH}</text>')
    return "".join(parts)


def legend() -> str:
    entries = []
    for number, (way, colour) in enumerate(COLOURS.items()):
        x, y = LEFT + 120 * number, TOP + HEIGHT + 42
        entries.append(
            f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="3"/><text x="{x + 28}" y="{y + 4}">{way}</text>'
        )
    return "".join(entries)
