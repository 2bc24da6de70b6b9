"""Time the corruptions of medprior beside those of `plain.py`, in turns within one process.

OMP_NUM_THREADS=1 python benchmarks/corruptions/run.py --out benchmarks/corruptions/results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain
import torch

from medprior.views.bezier import bend_intensities
from medprior.views.corruption import add_noise, deform, down_and_up, flip_repeatedly
from medprior.views.cutting import cut_out
from medprior.views.draws import Key
from medprior.views.masking import mask_blocks, mask_channels
from medprior.views.painting import paint, paint_in, paint_out
from medprior.views.shuffling import shuffle_locally

SIZE, WINDOWS = (64, 64, 32), 10_000
TOKENS = (48, 32, 32, 16)

Call = Callable[[], object]


def pairs(batch: int, device: str) -> dict[str, tuple[Call, list[Call]]]:
    """By name: the batch at once, and each of its cubes in NumPy. But in `deform`, what has a probability happens."""
    rng = np.random.default_rng(0)
    cubes = rng.random((batch, 1, *SIZE), dtype=np.float32)
    tokens = rng.random((batch, *TOKENS), dtype=np.float32)
    x, z = torch.from_numpy(cubes).to(device), torch.from_numpy(tokens).to(device)
    key = Key(0, 0, torch.arange(batch, device=device), 0)

    def each(function: Callable[..., object], images: np.ndarray = cubes, *more: object) -> list[Call]:
        return [lambda image=image: function(image, rng, *more) for image in images]

    ahead = each(plain.deform, cubes, WINDOWS, plain.shuffle_ahead)
    return {
        "deform": (lambda: deform(x, key), each(plain.deform, cubes, WINDOWS)),
        "deform, windows drawn ahead": (lambda: deform(x, key), ahead),
        "flip": (lambda: flip_repeatedly(x, key), each(lambda *given: plain.flip(*given).copy())),
        "shuffle": (lambda: shuffle_locally(x, key, 1.0), each(plain.shuffle, cubes, WINDOWS)),
        "bend": (lambda: bend_intensities(x, key, 1.0), each(plain.bend)),
        "paint": (lambda: paint(x, key, 1.0), each(plain.paint)),
        "paint in": (lambda: paint_in(x, key), each(plain.paint_in)),
        "paint out": (lambda: paint_out(x, key), each(plain.paint_out)),
        "noise": (lambda: add_noise(x, key), each(plain.add_noise)),
        "down and up": (lambda: down_and_up(x, 4), each(plain.down_and_up)),
        "cut-out": (lambda: cut_out(x, key), each(plain.cut_out)),
        "blocks": (lambda: mask_blocks(key, SIZE), each(plain.mask_blocks)),
        "channels": (lambda: mask_channels(z, key), each(plain.mask_channels, tokens)),
    }


def seconds(calls: list[Call], device: str) -> float:
    """Of this process on the CPU, so that others who use it count less; by the clock where the work is elsewhere."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    for call in calls:
        call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begin


def measure(batch: int, rounds: int, device: str) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per cube of both, by name, one number for each round."""
    both = pairs(batch, device)
    found: dict[str, dict[str, list[float]]] = {name: {"medprior": [], "numpy": []} for name in both}
    for turn in range(rounds + 1):
        for name, (whole, single) in both.items():
            times = {"medprior": seconds([whole], device), "numpy": seconds(single, "cpu")}
            for way, spent in times.items() if turn else ():
                found[name][way].append(1e3 * spent / batch)
    return found


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """95 % of the ratio over the rounds, by bootstrap.

    It is of their mean, since NumPy does nothing where its coins ask for nothing, and of our median.
    """
    rounds = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    low, high = np.quantile(theirs[rounds].mean(axis=1) / np.median(ours[rounds], axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    found = measure(given.batch, given.rounds, given.device)
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    setting = {
        "batch": given.batch,
        "device": given.device,
        "torch": torch.__version__,
        **machine,
    }
    given.out.write_text(json.dumps({"setting": setting, "milliseconds per cube": found}, indent=1) + "\n", "utf-8")
    for name, times in found.items():
        ours, theirs = np.array(times["medprior"]), np.array(times["numpy"])
        low, high = interval(ours, theirs)
        ratio = f"{theirs.mean() / np.median(ours):7.1f} ({low:.1f} to {high:.1f})"
        print(f"{name:28} {np.median(ours):8.2f} ms {theirs.mean():8.2f} ms {ratio}")


if __name__ == "__main__":
    main()
