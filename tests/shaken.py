"""Encoders whose every weight has been moved, as training moves them: one that is lost on the way is missed."""

from __future__ import annotations

import torch

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder

SPREAD = {1: 0.05, 3: 0.02}
"""How far weights of so many axes are moved: scales and offsets by much, kernels by little."""


def shaken(name: str, channels: int = 1, dims: int = 2, size: int = 32, seed: int = 0) -> Encoder:
    """An encoder in use, standardised by numbers that no library has by itself."""
    mean, std = [0.31 + 0.05 * i for i in range(channels)], [0.23 - 0.02 * i for i in range(channels)]
    encoder = create_encoder(name, channels, dims, size, mean=mean, std=std, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for place, value in encoder.network.state_dict().items():
            if value.is_floating_point() and not place.endswith("attn_mask"):
                factor = 0.8 + 0.4 * torch.rand(value.shape, generator=generator)
                value.mul_(factor).add_(
                    torch.randn(value.shape, generator=generator), alpha=SPREAD.get(value.ndim, 1e-3)
                )
                if place.endswith("running_var"):
                    value.abs_()
    return encoder
