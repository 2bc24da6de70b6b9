"""Ways of making 3D views: zoom, rotation and shift in one crop, gamma, Gaussian blur and noise."""

from __future__ import annotations

import importlib.metadata
import math

import kornia
import torch
from kornia.enhance import adjust_gamma
from kornia.geometry.transform import get_affine_matrix3d, warp_affine3d
from scans import Scans
from torch import Tensor
from ways import Cut, Range, Way, medprior_way, other_way

from medprior.views.recipe import ViewRecipe

STORED, SIZE, BATCH = 64, 32, 8
DEGREES = 10.0
GAMMA, BLUR, NOISE = 0.2, (0.5, 1.0), (0.0, 0.05)  # BLUR in pixels of the view


def ways(scans: Scans, device: torch.device) -> list[Way]:
    recipe = ViewRecipe(
        SIZE,
        3,
        scale=(0.2, 1.0),
        rotation=DEGREES,
        intensity_probability=0.8,
        gamma=GAMMA,
        blur_probability=0.5,
        blur=(BLUR[0] / SIZE, BLUR[1] / SIZE),
        noise_probability=0.5,
        noise=NOISE,
    )
    whole, version = scans.whole.to(device), f"kornia {kornia.__version__}"
    made = [medprior_way(scans.store.resident(device), recipe)]
    made.append(other_way(f"{version}, one warp", whole, kornia_cutter, kornia_change, aspect=(1, 1), note="no blur"))
    if importlib.metadata.version("torchio").startswith("1."):
        from torchio_one import torchio_ways
    else:
        from torchio_two import torchio_ways
    return made + torchio_ways(whole)


def side(share: Range) -> Range:
    """Shares of a volume as shares of its side."""
    return share[0] ** (1 / 3), share[1] ** (1 / 3)


def kornia_cutter(share: Range, aspect: Range) -> Cut:
    """kornia's random classes keep the size of a volume, so its warp is called with matrices drawn here."""
    low, high = side(share)

    def cut(images: Tensor) -> Tensor:
        count, stored = len(images), images.shape[-1]
        drawn = torch.empty(count, 1).uniform_(low, high)
        room = (1 / drawn - 1) * SIZE / 2
        shift = torch.empty(count, 3).uniform_(-1, 1) * room
        centre = torch.full((count, 3), (stored - 1) / 2)
        angles = torch.empty(count, 3).uniform_(-DEGREES, DEGREES)
        matrix = get_affine_matrix3d(shift, centre, (SIZE / stored / drawn).expand(count, 3), angles)
        matrix[:, :3, 3] -= (stored - SIZE) / 2  # from the middle of the volume to that of the view
        return warp_affine3d(images, matrix[:, :3].to(images.device), (SIZE,) * 3, align_corners=False)

    return cut


def kornia_change(views: Tensor) -> Tensor:
    most = math.log1p(GAMMA)
    count = len(views)
    exponents = torch.where(torch.rand(count) < 0.8, torch.empty(count).uniform_(-most, most), 0.0).exp()
    strengths = torch.where(torch.rand(count) < 0.5, torch.empty(count).uniform_(*NOISE), 0.0)
    views = adjust_gamma(views.clamp(0, 1), exponents.to(views.device))
    return (views + torch.randn_like(views) * strengths.to(views.device).view(-1, 1, 1, 1, 1)).clamp(0, 1)
