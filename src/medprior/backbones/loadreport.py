"""What of a network was found in a file of weights, name by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]
SHOWN = 6


@dataclass(frozen=True)
class LoadReport:
    """What of a network was found in a file.

    Attributes:
        matched: names that were found, those that were fitted included.
        fitted: names whose channels, depth or positions were fitted to this network's.
        missing: names of the network that the file does not hold, or holds in another shape.
        unused: names of the file that the network has no use for.
        aside: names of the file that its layout says are no encoder's: heads, decoders, other networks.
        sizes: of every name of the network, how many values it holds.
        shapes: of the fitted names, what the file held and what the network has.
        layout, title: of the file.
        note: what its layout says of such weights.
    """

    matched: tuple[str, ...]
    fitted: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    aside: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    layout: str = ""
    title: str = ""
    note: str = ""

    @property
    def share(self) -> float:
        """Matched part of the network: of its names or of its values, whichever is less."""
        names = len(self.matched) / max(1, len(self.matched) + len(self.missing))
        return min(names, self.weight_share)

    @property
    def weight_share(self) -> float:
        """Matched part of the network's values."""
        total = sum(self.sizes.get(name, 1) for name in (*self.matched, *self.missing))
        return sum(self.sizes.get(name, 1) for name in self.matched) / max(1, total)

    def __str__(self) -> str:
        names = f"{len(self.matched)} of {len(self.matched) + len(self.missing)} names"
        return f"{names} and {_percent(self.weight_share)} of the weights matched, {len(self.unused)} unused"

    def lines(self) -> list[str]:
        """For people: what was found and, shortened, every name that was not."""
        shapes = (f"{name} {_by(before)} to {_by(after)}" for name, (before, after) in self.shapes.items())
        found = [
            f"{self.title or 'weights'}: {self}",
            *_told("fitted", shapes),
            *_told("missing", folded(self.missing)),
            *_told("unused", folded(self.unused)),
        ]
        if self.aside:
            found.append(f"{len(self.aside)} names set aside: no part of an encoder")
        return [*found, *([self.note] if self.note else [])]

    def told(self, title: str) -> list[str]:
        """The lines as a terminal shows them, of a file or name that is called `title`."""
        first, *more = self.lines()
        return [f"Weights  {title}, {first}", *(f"         {line}" for line in more)]

    def as_json(self) -> dict[str, Any]:
        """Every name, to be kept beside what was trained."""
        return {
            "layout": self.layout,
            "title": self.title,
            "names": {"matched": len(self.matched), "of": len(self.matched) + len(self.missing)},
            "weights_matched": self.weight_share,
            "fitted": {name: {"from": before, "to": after} for name, (before, after) in self.shapes.items()},
            "missing": list(self.missing),
            "unused": list(self.unused),
            "set_aside": list(self.aside),
            **({"note": self.note} if self.note else {}),
        }


def folded(names: Iterable[str]) -> Iterator[str]:
    """Every name, those that differ by their numbers alone as one: "blocks.#.norm1.weight (12)"."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+(?=\.)", "#", name), []).append(name)
    for pattern, found in alike.items():
        yield found[0] if len(found) == 1 else f"{pattern} ({len(found)})"


def _told(what: str, names: Iterable[str]) -> list[str]:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return [f"{what}: {', '.join(listed[:SHOWN])}{more}"] if listed else []


def _percent(share: float) -> str:
    """Never 100% of what is not whole."""
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
