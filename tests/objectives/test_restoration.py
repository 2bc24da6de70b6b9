import pytest
import torch

from medprior.objectives.restoration import absolute_error, squared_error


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 1, 3, 4, 5)])
def test_every_valid_pixel_of_every_channel_counts_once(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    restored, target = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    valid = torch.rand(len(restored), 1, *shape[2:], generator=generator) < 0.6
    errors = [
        restored[b, channel][valid[b, 0]] - target[b, channel][valid[b, 0]]
        for b in range(shape[0])
        for channel in range(shape[1])
    ]
    torch.testing.assert_close(squared_error(restored, target, valid), torch.cat(errors).square().mean())
    torch.testing.assert_close(absolute_error(restored, target, valid), torch.cat(errors).abs().mean())


@pytest.mark.parametrize("loss", [squared_error, absolute_error])
def test_nothing_but_padding_costs_nothing(loss: object) -> None:
    restored = torch.rand(2, 1, 4, 4, requires_grad=True)
    found = loss(restored, torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.bool))  # type: ignore[operator]
    found.backward()
    assert found.item() == 0
    assert torch.equal(restored.grad, torch.zeros_like(restored))  # type: ignore[arg-type]


def test_it_is_computed_in_full_precision() -> None:
    restored = torch.full((1, 1, 64, 64), 0.5, dtype=torch.bfloat16)
    target = torch.full((1, 1, 64, 64), 0.5001)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = absolute_error(restored, target, torch.ones(1, 1, 64, 64, dtype=torch.bool))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(1e-4, rel=1e-3)
