"""Compiling what every step calls, and going on without where the compiler cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Literal, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
Wanted = bool | Literal["auto"]
Report = Callable[[str], None]


def compiled(
    function: Callable[P, R], wanted: Wanted, device: torch.device, report: Report, *, backend: str = "inductor"
) -> Callable[P, R]:
    """`function` compiled at its first call, for the shapes it is called with; "auto" compiles on a GPU alone.

    Whatever fails in the compiled call is done again without: a fault of the function itself is then raised as its
    own, a fault of the compiler is told to `report` in one line, once, and never tried again.
    """
    if wanted is True or (wanted == "auto" and device.type == "cuda"):
        return _Guarded(function, report, backend)
    return function


class _Guarded(Generic[P, R]):
    """A function that is compiled until that fails."""

    def __init__(self, function: Callable[P, R], report: Report, backend: str) -> None:
        self._function, self._report, self._backend = function, report, backend
        self._fast: Callable[P, R] | None = None
        self._failed = False

    def __call__(self, *inputs: P.args, **named: P.kwargs) -> R:
        if self._failed:
            return self._function(*inputs, **named)
        try:
            return self._compiled(*inputs, **named)
        except Exception as error:
            result = self._function(*inputs, **named)
            self._failed, self._fast = True, None
            self._report(reason(error))
            return result

    def _compiled(self, *inputs: P.args, **named: P.kwargs) -> R:
        if self._fast is None:
            self._fast = torch.compile(self._function, dynamic=False, backend=self._backend)
        with _backward_at_once():
            return self._fast(*inputs, **named)


def reason(error: BaseException) -> str:
    """One line of what the compiler said: its own words where it wraps them."""
    inner: Any = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0][:200]}" if lines else type(inner).__name__


@contextmanager
def _backward_at_once() -> Iterator[None]:
    """Compile the backward pass with the forward, so that its faults come up here and not in the midst of it."""
    from torch._functorch import config

    if not hasattr(config, "force_non_lazy_backward_lowering"):  # torch 2.6
        yield
        return
    with config.patch(force_non_lazy_backward_lowering=True):
        yield
