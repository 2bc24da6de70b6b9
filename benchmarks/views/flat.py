"""Ways of making 2D views: random resized crop, brightness, contrast, gamma, Gaussian blur."""

from __future__ import annotations

import kornia
import kornia.augmentation as K
import torch
from kornia.geometry.transform.crop2d import crop_by_indices
from scans import Scans
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf
from ways import Cut, Range, Way, medprior_way, other_way

from medprior.views.recipe import base_recipe

STORED, SIZE, BATCH = 128, 64, 64
ASPECT = (3 / 4, 4 / 3)
GAMMA = (1 / 1.2, 1.2)
BLUR = (0.1 / 224 * SIZE, 2.0 / 224 * SIZE)


class FilteredCrop(K.RandomResizedCrop):
    """kornia's crop with kornia's own filter before the reduction, which its class does not offer."""

    def apply_transform(self, input, params, flags, transform=None):
        return crop_by_indices(input, params["src"], flags["size"], align_corners=False, antialias=True)


def ways(scans: Scans, device: torch.device) -> list[Way]:
    whole, version = scans.whole.to(device), f"kornia {kornia.__version__}"
    change = nn.Sequential(
        K.ColorJitter(brightness=0.4, contrast=0.4, p=0.8, order=(0, 1)),
        K.RandomGamma(GAMMA, p=0.8),
        K.RandomGaussianBlur((5, 5), BLUR, p=0.5),
    )
    by_slices, by_warp = kornia_cutter(K.RandomResizedCrop, "slice"), kornia_cutter(K.RandomResizedCrop, "resample")
    filtered = kornia_cutter(FilteredCrop, "slice")
    return [
        medprior_way(scans.store.resident(device), base_recipe(None, SIZE).contrastive()),
        other_way(f"{version}, slices", whole, by_slices, change, aspect=ASPECT, note="its default"),
        other_way(f"{version}, one warp", whole, by_warp, change, aspect=ASPECT),
        other_way(f"{version}, slices filtered", whole, filtered, change, aspect=ASPECT, note="a subclass of ours"),
        other_way("torchvision, a loop", whole, torchvision_cutter, torchvision_change, aspect=ASPECT),
    ]


def kornia_cutter(kind: type[K.RandomResizedCrop], mode: str):
    def cutter(share: Range, aspect: Range) -> Cut:
        return kind((SIZE, SIZE), scale=share, ratio=aspect, cropping_mode=mode, align_corners=False)

    return cutter


def torchvision_cutter(share: Range, aspect: Range) -> Cut:
    crop = v2.RandomResizedCrop(SIZE, scale=share, ratio=aspect, antialias=True)
    return lambda images: torch.stack([crop(image) for image in images])


JITTER = v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4)], p=0.8)
BLURRED = v2.RandomApply([v2.GaussianBlur(5, BLUR)], p=0.5)


def torchvision_change(views: Tensor) -> Tensor:
    exponents = torch.where(torch.rand(len(views)) < 0.8, torch.empty(len(views)).uniform_(*GAMMA), 1.0).tolist()
    return torch.stack([BLURRED(tvf.adjust_gamma(JITTER(v), g)) for v, g in zip(views, exponents, strict=True)])
