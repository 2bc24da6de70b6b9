"""What is not finite is kept out of the weights on the device, and named by the host one step later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.errors import RunError
from medprior.training.run import Run
from medprior.views.view import View

SHOWN = 10
"""Rows in a line; the event names all."""
MOST_SKIPPED = 3
"""Updates in a row that may be left out because a gradient was not finite, before training is given up."""


def mend(views: Sequence[View]) -> tuple[list[View], Tensor]:
    """The views with every image that is not finite in one of them black and not valid, and which (B,) those were."""
    # One sum per image tells all: pixels lie in [0, 1], so that it is finite unless one of them is not.
    sums = [view.pixels.sum(dim=tuple(range(1, view.pixels.dim()))) for view in views]
    bad = ~torch.stack(sums).isfinite().all(dim=0)
    return [_without(view, bad) for view in views], bad


def _without(view: View, bad: Tensor) -> View:
    gone = bad.view(-1, *[1] * (view.pixels.dim() - 1))
    clean = None if view.clean is None else view.clean.masked_fill(gone, 0)
    return replace(view, pixels=view.pixels.masked_fill(gone, 0), valid=view.valid & ~gone, clean=clean)


def gradient_norms(parameters: Sequence[Tensor]) -> Tensor:
    """(P,) Euclidean lengths of the gradients, all of which are there."""
    return torch.stack(list(torch._foreach_norm([p.grad for p in parameters if p.grad is not None]))).float()


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimiser fit to have its first step skipped.

    Fused SGD would go on with a momentum of memory that was never written; from zeros its first step is the same.
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


@torch.no_grad()
def update(optimizer: torch.optim.Optimizer, sound: Tensor) -> None:
    """The step of a prepared optimiser where `sound`, () bool on the device, is true; else all stays as it is."""
    if all(group.get("fused") for group in optimizer.param_groups):
        # Fused optimisers skip by themselves what the scaler of half precision found to be infinite.
        optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
        optimizer.step()
        return
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for gradient in gradients:
        gradient.masked_fill_(~sound, 0)
    before = {tensor: tensor.clone() for tensor in _held(optimizer)}
    optimizer.step()
    for tensor in _held(optimizer):
        tensor.copy_(torch.where(sound, tensor, before.get(tensor, torch.zeros_like(tensor))))


def _held(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters, and what is remembered of each; what is not there yet begins with zeros."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = [v for p in parameters for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
    return [*parameters, *states]


@dataclass(frozen=True)
class Reading:
    """A step as the host sees it.

    Attributes:
        step: its number.
        losses: by name.
        bad_rows: catalog rows whose images were not finite and were left out.
        bad_weights: names of the weights whose gradients were not finite.
        images: how many there were.
    """

    step: int
    losses: dict[str, float]
    bad_rows: tuple[int, ...]
    bad_weights: tuple[str, ...]
    images: int

    @property
    def diverged(self) -> bool:
        """Whether the loss is no number."""
        return not math.isfinite(self.losses["loss"])

    @property
    def suspect(self) -> str:
        """The first thing that was not finite apart from the loss itself."""
        parts = [name for name, value in self.losses.items() if name != "loss" and not math.isfinite(value)]
        if parts:
            return f'its part "{parts[0]}"'
        return f"the gradient of {self.bad_weights[0]}" if self.bad_weights else "any gradient known"


class Outcome:
    """What a step left on the device, on its way to the host in one piece, without anyone waiting.

    Args:
        step: its number.
        rows: (B,) catalog rows.
        losses: () tensors by name.
        norms: (P,) lengths of the gradients of the weights `names`.
        bad: (B,) bool, images that were not finite.
    """

    def __init__(
        self,
        step: int,
        rows: NDArray[np.int64],
        losses: Mapping[str, Tensor],
        norms: Tensor,
        names: Sequence[str],
        bad: Tensor,
    ) -> None:
        self.step, self._rows, self._losses, self._names = step, rows, tuple(losses), tuple(names)
        parts = torch.stack([value.detach().float() for value in losses.values()])
        self._numbers, self._arrived = _to_host(torch.cat([parts, norms, bad.float()]))

    def read(self) -> Reading:
        """Wait for the step to be done, and look."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers = self._numbers.numpy()
        losses, norms, bad = np.split(numbers, np.cumsum([len(self._losses), len(self._names)]))
        return Reading(
            self.step,
            dict(zip(self._losses, losses.tolist(), strict=True)),
            tuple(sorted(self._rows[bad > 0].tolist())),
            tuple(name for name, norm in zip(self._names, norms, strict=True) if not np.isfinite(norm)),
            len(self._rows),
        )


def _to_host(numbers: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if numbers.device.type != "cuda":
        return numbers.cpu(), None
    host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    return host, torch.cuda.current_stream(numbers.device).record_event()


class Guard:
    """Names what was not finite, once each, and gives up where training cannot go on.

    Args:
        method: how it is called in errors.
        run: gets an event for everything named.
        say: prints a line.
    """

    def __init__(self, method: str, run: Run, say: Callable[[str], None]) -> None:
        self.method, self.run, self.say = method, run, say
        self._named: set[int] = set()
        self._skipped = 0

    def judge(self, reading: Reading) -> None:
        """Say what is new of a step.

        Raises:
            RunError: the loss is no number though the images are finite; no image is finite; or the gradients stay
                so for some steps.
        """
        if reading.bad_rows:
            self._name_rows(reading)
        if reading.diverged:
            what = f"the loss of {self.method} is {reading.losses['loss']} at step {reading.step}"
            raise self._ended(f"{what}, though its images are finite; so is not {reading.suspect}")
        self._skipped = self._skipped + 1 if reading.bad_weights else 0
        if reading.bad_weights:
            self._name_gradient(reading)

    def _name_rows(self, reading: Reading) -> None:
        fresh = [row for row in reading.bad_rows if row not in self._named]
        self._named.update(fresh)
        if fresh:
            self.run.event("images not finite", step=reading.step, rows=fresh)
            shown = ", ".join(map(str, fresh[:SHOWN])) + (", ..." if len(fresh) > SHOWN else "")
            rows = "Row" if len(fresh) == 1 else "Rows"
            self.say(f"{rows} {shown} of the catalog: views that are not finite, left out as black and not valid")
        if len(reading.bad_rows) == reading.images:
            what = f"none of the {reading.images} images of step {reading.step} is finite"
            raise RunError(what, where=str(self.run.folder), do="Build the store anew: delete it, repeat the command")

    def _name_gradient(self, reading: Reading) -> None:
        what = f"the gradient of {reading.bad_weights[0]} is not finite"
        self.run.event("update left out", step=reading.step, why=what)
        if self._skipped >= MOST_SKIPPED:
            raise self._ended(f"{what} at step {reading.step}, nor one in the {MOST_SKIPPED - 1} steps before")
        if self._skipped == 1:
            self.say(f"At step {reading.step} {what}: the weights were left as they were")

    def _ended(self, what: str) -> RunError:
        do = "Lower the rate (--set pretrain.lr=...) and repeat in another --out"
        return RunError(what, where=str(self.run.folder), do=do)
