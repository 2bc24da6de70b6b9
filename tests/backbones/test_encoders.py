"""What every encoder must keep, whatever network is inside."""

import copy

import pytest
import torch

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder

CASES = [
    ("resnet18", 1, 2, 64),
    ("resnet50", 3, 2, 32),
    ("convnext_atto", 1, 2, 64),
    ("convnext_tiny", 2, 2, 32),
    ("efficientnet_b0", 1, 2, 64),
    ("densenet121", 3, 2, 32),
    ("swin_tiny", 3, 2, 48),
    ("eva02_tiny_patch14_224", 1, 2, 56),
    ("vit_tiny", 1, 2, 64),
    ("vit_tiny_patch8", 4, 2, 32),
    ("vit_small", 3, 2, 48),
    ("vit_small_patch14_reg4_dinov2", 1, 2, 28),
    ("vit_tiny", 1, 3, 32),
    ("vit_tiny_patch8", 2, 3, 16),
    ("test_resnet", 2, 3, 32),
    ("resnet18", 1, 3, 32),
    ("convnext_atto", 1, 3, 32),
    ("efficientnet_b0", 1, 3, 32),
    ("densenet121", 1, 3, 32),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def case(request: pytest.FixtureRequest) -> tuple[Encoder, torch.Tensor]:
    name, channels, dims, size = request.param
    encoder = create_encoder(name, channels, dims, size, seed=0)
    return encoder, torch.rand(2, channels, *[size] * dims, generator=torch.Generator().manual_seed(1))


def test_maps_have_the_promised_channels_and_strides(case: tuple[Encoder, torch.Tensor]) -> None:
    encoder, x = case
    maps = encoder.eval()(x)
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    for found, stride in zip(maps, encoder.strides, strict=True):
        assert found.shape[2:] == tuple(-(-length // stride) for length in x.shape[2:])
    assert list(encoder.strides) == sorted(set(encoder.strides)), "finest first, one map for each stride"
    assert encoder.pool(maps).shape == (2, encoder.embed_dim)


def test_an_encoder_is_its_body_after_its_stem(case: tuple[Encoder, torch.Tensor]) -> None:
    encoder, x = case
    encoder.eval()
    for whole, parts in zip(encoder(x), encoder.body(encoder.stem(x)), strict=True):
        assert torch.equal(whole, parts)


def test_no_parameter_is_idle(case: tuple[Encoder, torch.Tensor]) -> None:
    """Idle ones would break distributed training, and weigh for nothing."""
    encoder, x = copy.deepcopy(case[0]).train(), case[1]
    encoder.pool(encoder(x)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_layers_hold_every_parameter_once_from_input_to_output(case: tuple[Encoder, torch.Tensor]) -> None:
    encoder, _ = case
    groups = encoder.layer_groups()
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in encoder.named_parameters())
    assert 4 <= len(groups) <= 26
    first = next(name for name, p in encoder.named_parameters() if p.ndim == encoder.spatial_dims + 2)
    assert first in groups[0], "the input convolution belongs to the first layer"


@pytest.mark.parametrize(
    ("name", "dims", "size"),
    [("convnext_atto", 2, 32), ("vit_tiny", 2, 32), ("vit_tiny", 3, 32), ("test_resnet", 3, 32)],
)
def test_the_statistics_of_the_data_are_inside(name: str, dims: int, size: int) -> None:
    encoder = create_encoder(name, 2, dims, size, seed=0)
    other = create_encoder(name, 2, dims, size, mean=[0.2, 0.2], std=[0.1, 0.1], seed=0).eval()
    x = torch.rand(2, 2, *[size] * dims)
    shifted = (x - 0.5) / 0.25 * 0.1 + 0.2  # the same images for eyes set to 0.2 and 0.1
    for a, b in zip(encoder.eval()(x), other(shifted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_large_encoder_runs_once() -> None:
    encoder = create_encoder("vit_base", 1, 2, 32, seed=0).eval()
    with torch.inference_mode():
        pooled = encoder.pool(encoder(torch.rand(1, 1, 32, 32)))
    assert pooled.shape == (1, encoder.embed_dim) and torch.isfinite(pooled).all()


@pytest.mark.parametrize(("name", "dims"), [("resnet18", 2), ("convnext_atto", 2), ("vit_tiny", 2), ("test_resnet", 3)])
def test_a_seed_decides_the_weights_and_disturbs_nothing(name: str, dims: int) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (create_encoder(name, spatial_dims=dims, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)
