"""Which process computes where."""

from __future__ import annotations

import torch


def devices_for(device: torch.device, gpus: int, cores: int, asked: int | None) -> tuple[torch.device, ...]:
    """The device of each process that works on cells: cores are shared, a GPU is not.

    Args:
        device: of the study; a GPU that was named by its number is the only one used.
        gpus: that this machine shows.
        cores: of this machine.
        asked: processes the user wants, None for as many as there is room for.
    """
    if device.type == "cpu":
        return (device,) * (asked or cores)
    if device.type != "cuda" or ":" in str(device):
        return (device,)
    most = max(1, gpus)
    return tuple(torch.device("cuda", index) for index in range(min(asked or most, most)))
