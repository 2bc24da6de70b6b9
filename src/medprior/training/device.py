"""Where to compute, and in which number format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from medprior.errors import SettingsError


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes a GPU when there is one.

    Raises:
        SettingsError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f'unknown device "{name}"', do="Use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f'there is no device "{name}" here',
            do=f"{torch.cuda.device_count()} GPUs are visible; use --set study.device=cpu",
        )
    return device


def precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 autocast on GPUs that have it; fp32 elsewhere (on CPU bf16 is slower)."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on `count` CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settle(count: int) -> None:
    """Compute on `count` CPU threads, with denormal numbers as zeros, to the end of this process."""
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)


@contextmanager
def computing(count: int | None = None) -> Iterator[None]:
    """The outermost frame of a training: `count` CPU threads (None: all cores), and denormal numbers as zeros.

    Denormals, which Adam's running averages decay into, can slow a CPU down many times; a GPU flushes them anyway.
    Afterwards everything is as torch has it by default. Does not nest.
    """
    torch.set_flush_denormal(True)
    try:
        with threads(count or os.cpu_count() or 1):
            yield
    finally:
        torch.set_flush_denormal(False)
