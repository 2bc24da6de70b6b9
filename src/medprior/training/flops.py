"""What a step ought to cost: its arithmetic counted, the most a device computes, and the memory it took."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from medprior.methods.method import Batch, Method
from medprior.training.device import precision
from medprior.views.view import View

MATMUL_SIDE = {"cuda": 8192, "cpu": 1536}
MATMUL_SECONDS = 0.2


def step_flops(method: Method, views: Sequence[View], batch: Batch) -> int:
    """Floating-point operations of the loss and its gradients for this batch: additions and multiplications of
    matrix products, convolutions and attention, each counted as one.

    Attention is taken apart into its products, so that it counts the same whatever kernel computes it. Gradients are
    dropped again; nothing is recomputed, so that these are the model's operations and not the machine's.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.backward(method.forward(views, batch)["loss"])
    method.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def number_format(device: torch.device) -> torch.dtype:
    """The type that matrix products have during a training on this device."""
    with precision(device):
        one = torch.ones(1, 1, device=device)
        return (one @ one).dtype


def matmul_rate(device: torch.device) -> float:
    """Operations per second of a large square matrix product in the precision of training: the limit of any model."""
    side = MATMUL_SIDE.get(device.type, MATMUL_SIDE["cpu"])
    left, right = (torch.randn(side, side, device=device).to(number_format(device)) for _ in range(2))
    left @ right
    synchronise(device)
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < MATMUL_SECONDS:
        for _ in range(20 if device.type == "cuda" else 1):
            left @ right
            done += 1
        synchronise(device)
    return done * 2.0 * side**3 / (time.perf_counter() - began)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int | None:
    """Most bytes at once so far: of tensors on a GPU, else of this whole process; None where no one counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
