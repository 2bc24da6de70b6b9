"""Are the hand-written views worth it? The same views by medprior, kornia, torchvision and torchio.

    PYTHONPATH=rivals python benchmarks/views/run.py --out benchmarks/views/results.json

Every way cuts the same kind of views from the same stored scans, resident as 8-bit tensors, in turn within one run:
2D, 64 px from 128 px, batch 64; 3D, 32 cubed from 64 cubed, batch 8. Beside the speed:

- rms: difference to the exact area average in float64, of views of patients, in per cent of the range.
- leaked: contrast left of patterns too fine for the view (a chequerboard, waves of 2 to 3 stored pixels at reduction
  2), 0 where nothing aliases. kept: contrast left of a wave of 4 view pixels, 1 where nothing is blurred.
- alone: whether a scan's view is the same when it is rendered alone and within a batch.
- breaks: breaks of the graph under torch.compile.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import flat
import numpy as np
import solid
import torch
from exact import exact, inside
from PIL import Image
from scans import Scans, make_scans
from ways import SHARE, Way

HALF = (0.9, 1.0)  # shares that leave a reduction near 2
PATIENTS = {2: 256, 3: 16}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="batches of each way in a round")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, help="where to draw what each way makes of fine rings")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch._logging.set_logs(dynamo=logging.CRITICAL)
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    found = {f"{dims}D": measure(dims, device, asked) for dims in asked.dims}
    if asked.out:
        asked.out.write_text(json.dumps({**about(device, asked), **found}, indent=2) + "\n")


def measure(dims: int, device: torch.device, asked: argparse.Namespace) -> dict:
    room = {2: flat, 3: solid}[dims]
    with tempfile.TemporaryDirectory() as place:
        scans = make_scans(Path(place), dims=dims, size=room.STORED, patients=PATIENTS[dims])
        ways = room.ways(scans, device)
        rates = speeds(ways, scans, room.BATCH, device, asked)
        ideal = exact_way(ways[0], scans, room.SIZE)
        found = {way.name: {**quality(way, scans, room.SIZE, device), "note": way.note} for way in ways}
        lost, held = (contrast(ideal, scans, scans.rows[kind], room.SIZE) for kind in ("lost", "held"))
        if asked.figure and dims == 2:
            draw(ways, scans, device, asked.figure)
    print(f"{dims}D {ideal.name}: leaked {lost:.3f}, kept {held:.3f}", flush=True)
    for name, facts in found.items():
        shares = [own / other for own, other in zip(rates["medprior"], rates[name], strict=True)]
        facts["images_per_second"] = round(statistics.median(rates[name]), 1)
        facts["medprior_is_faster"] = [round(f(shares), 2) for f in (statistics.median, min, max)]
        print(f"{dims}D {name}: {json.dumps(facts)}", flush=True)
    return {**found, ideal.name: {"leaked": round(lost, 3), "kept": round(held, 3)}}


def exact_way(own: Way, scans: Scans, size: int) -> Way:
    """The exact area average at medprior's own places: what it would leak and keep."""

    def crop(rows: torch.Tensor, step: int, share: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
        _, affines = own.crop(rows, step, share)
        pairs = zip(rows.tolist(), affines.cpu().double().numpy(), strict=True)
        views = [exact(scans.whole[row, 0].numpy(), affine, size) / 255 for row, affine in pairs]
        return torch.from_numpy(np.stack(views)).unsqueeze(1), affines

    return Way("exact area average", own.views, own.held, crop)


def speeds(ways: list[Way], scans: Scans, batch: int, device: torch.device, asked: argparse.Namespace) -> dict:
    """Views per second of every way, one figure per round, the ways in turn."""
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    rng = np.random.default_rng(0)
    for number in range(-1, asked.rounds):
        for way in ways if number % 2 else ways[::-1]:
            choices = [torch.from_numpy(rng.choice(scans.rows["patients"].numpy(), batch)) for _ in range(asked.calls)]
            choices = [rows.to(device) for rows in choices]
            settle(device)
            began = time.perf_counter()
            for step, rows in enumerate(choices):
                way.views(rows, step + asked.calls * number + asked.calls)
            settle(device)
            if number >= 0:  # the first round warms up
                rates[way.name].append(batch * asked.calls / (time.perf_counter() - began))
    return rates


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def quality(way: Way, scans: Scans, size: int, device: torch.device) -> dict:
    rows = {kind: found.to(device) for kind, found in scans.rows.items()}
    return {
        "rms_percent": round(100 * rms(way, scans, rows["patients"][:8], size), 3),
        "leaked": round(contrast(way, scans, rows["lost"], size), 3),
        "kept": round(contrast(way, scans, rows["held"], size), 3),
        "alone": alone(way, rows["patients"][:8]),
        "breaks": breaks(way, rows["patients"][:8]),
    }


def rms(way: Way, scans: Scans, rows: torch.Tensor, size: int) -> float:
    """Root mean square difference to the exact view, where no way sees a border and each view pixel covers one."""
    views, affines = way.crop(rows, 1, (2.0**-scans.dims, SHARE[1]))
    errors = []
    for row, view, affine in zip(rows.tolist(), views.cpu().numpy(), affines.cpu().double().numpy(), strict=True):
        image = scans.whole[row, 0].numpy()
        kept = inside(affine, size, image.shape[-1])
        errors.append((view[0] - exact(image, affine, size) / 255)[kept])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def contrast(way: Way, scans: Scans, rows: torch.Tensor, size: int) -> float:
    """Deviation within the views of patterns over that of the patterns, at reduction 2."""
    shares = []
    for step in range(4):
        views, affines = way.crop(rows, step, HALF)
        for row, view, affine in zip(rows.tolist(), views.cpu().numpy(), affines.cpu().numpy(), strict=True):
            image = scans.whole[row, 0].numpy() / 255
            shares.append(view[0][inside(affine, size, image.shape[-1])].std() / image.std())
    return float(np.sqrt(np.mean(np.square(shares))))


def alone(way: Way, rows: torch.Tensor) -> bool:
    """Whether the fourth scan of a batch looks as when it is rendered alone, at the same seed and step."""
    torch.manual_seed(5)
    within = way.views(rows, 5)[3:4]
    torch.manual_seed(5)
    return bool(torch.allclose(within, way.views(rows[3:4], 5), atol=1e-5))


def breaks(way: Way, rows: torch.Tensor) -> int | str:
    torch._dynamo.reset()
    make = way.held(rows)
    try:
        return int(torch._dynamo.explain(make)(torch.tensor(3, device=rows.device)).graph_break_count)
    except Exception as error:  # what a library raises under the compiler is a finding
        return f"fails: {type(error).__name__}"
    finally:
        torch._dynamo.reset()


def draw(ways: list[Way], scans: Scans, device: torch.device, path: Path) -> None:
    """The rings as each way makes them, side by side, in the order of the table, three times as large."""
    views = [way.crop(scans.rows["rings"].to(device), 0, HALF)[0][0, 0].cpu() for way in ways]
    strip = torch.cat([torch.nn.functional.pad(view, (2, 2, 2, 2), value=1.0) for view in views], dim=1)
    pixels = (strip.clamp(0, 1) * 255).byte().repeat_interleave(3, 0).repeat_interleave(3, 1).numpy()
    Image.fromarray(pixels).save(path, optimize=True)


def about(device: torch.device, asked: argparse.Namespace) -> dict:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "kornia", "torchvision", "torchio")}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": where,
        "threads": asked.threads,
        "cores": os.cpu_count(),
        "rounds": asked.rounds,
        "calls": asked.calls,
        **versions,
    }


if __name__ == "__main__":
    main()
