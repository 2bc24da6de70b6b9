"""Where to compute, and in which number format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from medprior.errors import SettingsError
from medprior.training.heap import keep_freed, release_freed

Precision = Literal["auto", "bf16", "fp32"]


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


def precision(device: torch.device, wanted: Precision = "auto") -> AbstractContextManager[object]:
    """The number format inside: "auto" is bf16 autocast on GPUs that have it, else fp32 (on CPU bf16 is slower).

    Raises:
        SettingsError: bf16 was asked for where there is none.
    """
    has = device.type != "cuda" or torch.cuda.is_bf16_supported()
    if wanted == "bf16" and not has:
        raise SettingsError("this GPU has no bf16", where="setting pretrain.precision", do="Use auto or fp32")
    if wanted == "bf16" or (wanted == "auto" and device.type == "cuda" and has):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def channels_last(module: nn.Module, spatial_dims: int) -> None:
    """Lay the weights of convolutions out so that the channels of a pixel lie together; see `pixels_last`.

    On one core a ResNet-18 at 64 px trains about 6% faster so, on GPUs bf16 convolutions need it.
    """
    for parameter in module.parameters():
        if parameter.dim() == spatial_dims + 2:
            parameter.data = pixels_last(parameter.data)


def pixels_last(pixels: torch.Tensor) -> torch.Tensor:
    """The same (B, C, *S) with the channels of a pixel together in memory."""
    form = torch.channels_last if pixels.dim() == 4 else torch.channels_last_3d
    return pixels.contiguous(memory_format=form)


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
    """Compute on `count` CPU threads, denormals as zeros and freed memory kept, to the end of this process."""
    keep_freed()
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)


@contextmanager
def computing(count: int | None = None) -> Iterator[None]:
    """The outermost frame of a training: `count` CPU threads (None: all cores), denormals as zeros, freed memory kept.

    Denormals, which Adam's running averages decay into, can slow a CPU down many times; a GPU flushes them anyway.
    Afterwards everything is as torch has it by default. Does not nest.
    """
    keep_freed()
    torch.set_flush_denormal(True)
    try:
        with threads(count or os.cpu_count() or 1):
            yield
    finally:
        torch.set_flush_denormal(False)
        release_freed()
