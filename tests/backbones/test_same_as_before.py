"""Encoders of cubes, and the decoder on their maps, are those that earlier folders were written with."""

import hashlib

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.backbones.unet import UNetDecoder

# encoder, dimensions, size, digest of names and shapes in their order, mean |last map|, mean |what the decoder gives|:
# recorded before strides could differ from axis to axis
RECORDED = [
    ("unet_4", 2, 16, "65a2678fa167", 0.43912, 0.364679),
    ("unet_4", 3, 16, "072ed1f92180", 0.417272, 0.260767),
    ("resenc_4", 2, 32, "1854da628481", 0.401534, 0.361333),
    ("resenc_4", 3, 16, "6f22c4af4363", 0.40685, 0.462458),
    ("segresnet_8", 3, 16, "ededd8a5eaa1", 0.40167, 0.248345),
    ("vit_micro_patch8", 2, 16, "1220c9bca22f", 0.81088, 0.320319),
    ("vit_micro_patch8", 3, 16, "fe864cf768ff", 0.806087, 0.446671),
    ("vit_small_patch14_dinov2", 2, 28, "2e79f4232ca4", 0.810191, 0.293154),
    ("resnet18", 2, 32, "7bfee9fe3c2e", 0.0295675, 0.294169),
]


@pytest.mark.parametrize(("name", "dims", "size", "digest", "coarsest", "restored"), RECORDED)
def test_names_shapes_and_answers_are_kept(
    name: str, dims: int, size: int, digest: str, coarsest: float, restored: float
) -> None:
    encoder = create_encoder(name, 1, dims, size, seed=0).eval()
    torch.manual_seed(0)
    decoder = UNetDecoder(encoder, 2, supervise=1).eval()
    states = [encoder.state_dict(), decoder.state_dict()]
    lines = "\n".join(f"{part} {tuple(value.shape)}" for state in states for part, value in state.items())
    assert hashlib.sha1(lines.encode()).hexdigest()[:12] == digest
    pixels = torch.rand(1, 1, *[size] * dims, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = encoder(pixels)
        found = decoder(maps)
    assert maps[-1].abs().mean().item() == pytest.approx(coarsest, rel=1e-3)
    assert found.abs().mean().item() == pytest.approx(restored, rel=1e-3)
