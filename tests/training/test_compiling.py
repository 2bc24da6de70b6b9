"""Compiling is tried once: its faults are said in a line, those of the function are raised as its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medprior.training.compiling import compiled

CPU = torch.device("cpu")


def broken(_graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> None:
    raise RuntimeError("no compiler is in the path\nand many more lines")


def broken_backward(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
    """A backend that compiles the forward pass and fails at the backward pass."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    def forward(forward_graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        return make_boxed_func(forward_graph.forward)

    return aot_autograd(fw_compiler=forward, bw_compiler=broken)(graph, inputs)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sin()


@pytest.mark.parametrize("backend", [broken, broken_backward])
def test_a_compiler_that_fails_is_said_once_and_done_without(backend: object) -> None:
    said: list[str] = []
    module = Counting()
    function = compiled(module, True, CPU, said.append, backend=backend)  # type: ignore[arg-type]
    x = torch.randn(4, 3)
    for _ in range(2):
        found = function(x)
        torch.testing.assert_close(found, module(x))
        found.sum().backward()
    assert said == ["RuntimeError: no compiler is in the path"]


def test_a_fault_of_the_function_is_its_own() -> None:
    said: list[str] = []

    def faulty(x: torch.Tensor) -> torch.Tensor:
        return x @ x  # (2, 3) times (2, 3)

    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        compiled(faulty, True, CPU, said.append, backend="eager")(torch.ones(2, 3))
    assert said == []


def test_auto_leaves_a_cpu_alone() -> None:
    module = Counting()
    for wanted in ("auto", False):
        assert compiled(module, wanted, CPU, print) is module  # type: ignore[arg-type]
