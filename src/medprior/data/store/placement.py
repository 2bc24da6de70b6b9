"""Where stored pixels lie while batches are cut from them: chosen by their size against the memory that is free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from medprior.errors import SettingsError

if TYPE_CHECKING:
    import torch

Kind = Literal["device", "host", "disk"]
"""In the memory of a GPU; in this machine's memory, one copy for all processes; or read from the disk as needed."""
Asked = Literal["auto", "device", "host", "disk"]

SHARE = 0.5
"""How much of the free memory the pixels may take ("half", it is told); the rest is for the model and its batches."""


@dataclass(frozen=True)
class Placement:
    """Where pixels lie, and why in words that can follow a colon."""

    kind: Kind
    reason: str


def choose_placement(
    nbytes: int, device: torch.device, asked: Asked = "auto", *, unpacked: int | None = None
) -> Placement:
    """The fastest place that `nbytes` of pixels fit into, or the one that was asked for.

    On a CPU the memory of the device is this machine's, so "device" is never chosen there.

    Args:
        nbytes: of the files, which this machine's memory would hold as they are.
        device: where batches are used.
        unpacked: bytes in the memory of a GPU, where files are compressed.

    Raises:
        SettingsError: a GPU was asked for that has no room.
    """
    import torch

    on_gpu = nbytes if unpacked is None else unpacked
    there = None if device.type == "cpu" else free_memory(device)
    if asked == "auto":
        return fitting(nbytes, on_gpu, free_memory(torch.device("cpu")), there)
    return _as_asked(asked, on_gpu, there)


def fitting(nbytes: int, on_gpu: int, here: int, there: int | None) -> Placement:
    """The fastest place with room.

    Args:
        nbytes: what the pixels take in this machine's memory, with
        on_gpu: what they take in that of a GPU.
        here: free bytes of this machine, with
        there: those of the GPU; None without one.
    """
    kind: Kind = "host" if nbytes <= SHARE * here else "disk"
    fits = "fit" if kind == "host" else "do not fit"
    if there is None:
        return Placement(kind, f"{size_in_words(nbytes)} of pixels {fits} {_half(here)}")
    if on_gpu <= SHARE * there:
        return Placement("device", f"{size_in_words(on_gpu)} of pixels fit {_half(there)} on the GPU")
    gpu = f"{size_in_words(on_gpu)} of pixels do not fit {_half(there)} on the GPU"
    return Placement(kind, f"{gpu}, {'but' if kind == 'host' else 'nor'} {_half(here)} of this machine")


def free_memory(device: torch.device) -> int:
    """Free bytes of a device; for the CPU what the machine, and the container around us, still allow."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return min(_machine_free(), _container_free())


def size_in_words(nbytes: int) -> str:
    """`1.2 GB`, or `3.4 MB` below a tenth of a gigabyte."""
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


def _half(free: int) -> str:
    return f"into half of the {size_in_words(free)} free"


def _as_asked(asked: Kind, on_gpu: int, there: int | None) -> Placement:
    if asked != "device":
        return Placement(asked, "as was asked")
    if there is None:
        return Placement("host", "as was asked; the memory of a CPU is this machine's")
    if on_gpu > there:
        what = f"{size_in_words(on_gpu)} of pixels do not fit into the {size_in_words(there)} free on the GPU"
        raise SettingsError(what, where="setting data.placement", do="Leave it at auto, or choose host or disk")
    return Placement("device", "as was asked")


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _pages_free()


def _pages_free() -> int:
    """Half of the memory where the system does not say what is free."""
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _container_free() -> int:
    """What the control group (version 2) leaves; pages that can be dropped count as free."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return int(np.iinfo(np.int64).max)
    return max(0, most - used + int(stat.get("inactive_file", 0)))
