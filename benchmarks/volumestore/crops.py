"""What does a random crop of a stored volume cost, and why these chunks, blocks and this codec?

    python benchmarks/volumestore/crops.py OUT.json [--side 384] [--crops 60]

makes a chest CT of `side` cubed voxels (medprior's phantom, noise of a scanner included), stores it in several ways,
and cuts the same random crops of 64 and 96 cubed out of each, in turn: one crop of the first way, the same of the
second, and so on, so that other work on the machine falls on all alike. One thread, files in the page cache. Figures
are medians. `decoded` is the number of voxels decoded for each voxel wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import blosc2
import nibabel
import numpy as np

from medprior.data.phantom import anatomy, render_ct
from medprior.data.volumestore.file import BLOCK, VolumeFiles, decoded_share, write_volume

SIDES = (64, 96)
CHOSEN = "LZ4-5 bits, chunk 64, block 16"
BLOSC = {
    CHOSEN: {},
    "LZ4-5 bytes": {"filter": "SHUFFLE"},
    "LZ4-9 bits": {"level": 9},
    "LZ4HC-5 bits": {"codec": "LZ4HC"},
    "ZSTD-1 bytes": {"codec": "ZSTD", "level": 1, "filter": "SHUFFLE"},
    "ZSTD-5 bytes": {"codec": "ZSTD", "filter": "SHUFFLE"},
    "ZSTD-5 bits": {"codec": "ZSTD"},
    "chunk 128, block 16": {"chunk": 128},
    "chunk 96, block 24": {"chunk": 96, "block": 24},
    "chunk 64, block 32": {"block": 32},
    "chunk 128, block 32": {"chunk": 128, "block": 32},
    "chunk 256, block 32": {"chunk": 256, "block": 32},
    "chunk 64, block 64": {"block": 64},
    "chunk 128, block 128": {"chunk": 128, "block": 128},
}

Cut = Callable[[tuple[int, ...], int], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--crops", type=int, default=60)
    asked = parser.parse_args()
    volume = render_ct(anatomy(0, 1), asked.side).volume[None]
    with tempfile.TemporaryDirectory() as place:
        ways = stored(volume, Path(place))
        for side in SIDES:
            measure(volume, ways, side, asked.crops)
        whole_nifti(volume, Path(place), ways)
    about = {
        "shape": list(volume.shape),
        "crops": asked.crops,
        "raw_bytes": volume.nbytes,
        "chosen": CHOSEN,
        "blosc2": blosc2.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ways": {name: {key: value for key, value in way.items() if key != "cut"} for name, way in ways.items()},
    }
    asked.out.write_text(json.dumps(about, indent=2) + "\n")


def stored(volume: np.ndarray, place: Path) -> dict[str, dict]:
    """Every way of storing: its function that cuts, its share of the raw bytes, and the seconds to write."""
    ways = {}
    write_volume(place / "warm.b2nd", volume, {})
    for number, (name, how) in enumerate(BLOSC.items()):
        path = place / f"{number}.b2nd"
        began = time.perf_counter()
        write_volume(path, volume, {}, **how)
        spent, length = time.perf_counter() - began, path.stat().st_size
        block = how.get("block", BLOCK)
        ways[name] = {
            "cut": blosc_cut(VolumeFiles(place), path.name, length),
            "block": block,
            "share_of_raw": round(length / volume.nbytes, 4),
            "write_s": round(spent, 3),
        }
    began = time.perf_counter()
    np.save(place / "plain.npy", volume)
    mapped = np.load(place / "plain.npy", mmap_mode="r")
    ways["plain .npy, memory-mapped"] = {
        "cut": lambda at, side: np.array(mapped[(slice(None), *box(at, side))]),
        "share_of_raw": 1.0,
        "write_s": round(time.perf_counter() - began, 3),
    }
    return ways


def blosc_cut(files: VolumeFiles, name: str, length: int) -> Cut:
    return lambda at, side: files.read(name, length, box(at, side))


def box(at: tuple[int, ...], side: int) -> tuple[slice, ...]:
    return tuple(slice(start, start + side) for start in at)


def measure(volume: np.ndarray, ways: dict[str, dict], side: int, crops: int) -> None:
    """Milliseconds of each way, the same corners in turn; every crop compared with the volume itself."""
    rng = np.random.default_rng(side)
    corners = [tuple(int(rng.integers(0, n - side + 1)) for n in volume.shape[1:]) for _ in range(crops)]
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for at in corners:
        for name, way in ways.items():
            began = time.perf_counter()
            found = way["cut"](at, side)
            spent[name].append((time.perf_counter() - began) * 1e3)
            assert (found == volume[(slice(None), *box(at, side))]).all(), name
    for name, way in ways.items():
        way[f"ms_{side}"] = round(float(np.median(spent[name])), 3)
        if "block" in way:
            shares = [decoded_share(volume.shape[1:], at, (side,) * 3, way["block"]) for at in corners]
            way[f"decoded_{side}"] = round(float(np.mean(shares)), 2)


def whole_nifti(volume: np.ndarray, place: Path, ways: dict[str, dict]) -> None:
    """A gzip NIfTI has no parts: every crop decodes all of it. Measured three times, not once per crop."""
    path = place / "volume.nii.gz"
    began = time.perf_counter()
    nibabel.save(nibabel.Nifti1Image(volume[0], np.eye(4)), path)
    write, spent = time.perf_counter() - began, []
    for _ in range(3):
        began = time.perf_counter()
        np.asanyarray(nibabel.load(path).dataobj)[:64, :64, :64].copy()
        spent.append((time.perf_counter() - began) * 1e3)
    way = {"share_of_raw": round(path.stat().st_size / volume.nbytes, 4), "write_s": round(write, 3)}
    for side in SIDES:
        way |= {f"ms_{side}": round(float(np.median(spent)), 3), f"decoded_{side}": round(volume.size / side**3, 2)}
    ways["gzip NIfTI"] = way


if __name__ == "__main__":
    main()
