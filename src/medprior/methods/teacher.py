"""A slow copy of a network, which follows it as a moving average."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A copy of `module` that learns from no gradient: `move` draws it towards the student.

    Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780; MoCo, BYOL and DINO use it. Called like the module itself,
    and in training or evaluation as the method that owns it.

    Attributes:
        module: the copy.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the copy makes of the inputs; no gradient runs through it, not even to the inputs."""
        return self.module(*inputs, **named)

    @torch.no_grad()
    def move(self, student: nn.Module, momentum: float) -> None:
        """Parameters become momentum * own + (1 - momentum) * the student's; buffers become the student's.

        Buffers are statistics and counters of a batch norm, averages already.

        Raises:
            RuntimeError, ValueError: the student is not built like the copy.
        """
        own: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(own, list[Tensor](student.parameters()), 1 - momentum)
        for buffer, other in zip(self.module.buffers(), student.buffers(), strict=True):
            buffer.copy_(other)
