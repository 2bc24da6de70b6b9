"""Changes of intensity, drawn per sample: first those of the acquisition, then brightness, contrast, gamma, colour,
blur and noise, in this order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medprior.views.acquisition import broad
from medprior.views.draws import Key, between, happens, normal
from medprior.views.recipe import ViewRecipe
from medprior.views.smooth import smooth

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def change(pixels: Tensor, valid: Tensor, recipe: ViewRecipe, key: Key) -> Tensor:
    """Pixels (B, C, *S) in [0, 1] after the recipe's intensity changes; 0 stays where valid (B, 1, *S) is false."""
    changed = pixels
    seen = valid.to(pixels.dtype)  # once: a CPU multiplies with numbers far faster than with truth values
    gate = _gate(recipe, key)
    for acquired in recipe.acquisition:
        # Padding stays black throughout: what follows takes its means over the view.
        changed = acquired.apply(changed, valid, key) * seen
    if recipe.intensity_probability:
        changed = _jitter(changed, seen, gate, recipe, key)
    if pixels.shape[1] == 3:
        changed = _colour(changed, gate, recipe, key)
    if recipe.blur_probability:
        changed = _blur(changed, seen, recipe, key)
    if recipe.noise_probability:
        changed = _noise(changed, recipe, key)
    return changed if changed is pixels else changed * seen


def rescaled(pixels: Tensor, seen: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Pixels (B, C, *S) times brightness (B,), then their distance to their mean where seen times contrast (B,).

    They are 0 where seen (B, 1, *S) is, and what leaves [0, 1] is cut off.
    """
    dims = tuple(range(1, pixels.dim()))
    count = seen.sum(dim=dims).clamp(min=1) * pixels.shape[1]
    mean = brightness * pixels.sum(dim=dims) / count
    shift = mean * (1 - contrast)
    return torch.addcmul(broad(shift, pixels), pixels, broad(brightness * contrast, pixels)).clamp_(0, 1)


def blurred(pixels: Tensor, seen: Tensor, width: Tensor, widest: float) -> Tensor:
    """Pixels (B, C, *S) under a Gaussian of each sample's own width (B,) in pixels, up to `widest`; see `over_seen`."""
    d = pixels.dim() - 2
    return over_seen(lambda both: smooth(both, [width] * d, [widest] * d), pixels, seen)


def over_seen(filtered: Callable[[Tensor], Tensor], pixels: Tensor, seen: Tensor) -> Tensor:
    """Pixels (B, C, *S) after a linear filter over those where seen (B, 1, *S) is 1 alone: neither padding nor border
    lends darkness."""
    both = filtered(torch.cat([pixels * seen, seen], dim=1))
    return (both[:, :-1] / both[:, -1:].clamp(min=1e-6)).clamp(max=1)


def _jitter(pixels: Tensor, seen: Tensor, gate: Tensor, recipe: ViewRecipe, key: Key) -> Tensor:
    brightness = _factor(recipe.brightness, "brightness", gate, key)
    contrast = _factor(recipe.contrast, "contrast", gate, key)
    if recipe.brightness or recipe.contrast:
        pixels = rescaled(pixels, seen, brightness, contrast)
    if recipe.gamma:
        most = math.log1p(recipe.gamma)
        exponent = torch.where(gate, between(key, "gamma", -most, most), 0.0).exp()
        # A power by way of the logarithm: thrice as fast as pow, and 0 -> -inf -> 0 as it should.
        pixels = pixels.log2().mul_(broad(exponent, pixels)).exp2_()
    return pixels


def _colour(pixels: Tensor, gate: Tensor, recipe: ViewRecipe, key: Key) -> Tensor:
    if not (recipe.saturation and recipe.intensity_probability) and not recipe.grey_probability:
        return pixels
    weights = torch.stack([torch.full((), w, device=pixels.device) for w in LUMA]).view(1, 3, *[1] * (pixels.dim() - 2))
    grey = (pixels * weights).sum(dim=1, keepdim=True)
    keep = _factor(recipe.saturation, "saturation", gate, key)
    keep = torch.where(happens(key, "grey", recipe.grey_probability), 0.0, keep)
    return torch.lerp(grey, pixels, broad(keep, pixels)).clamp(0, 1)


def _blur(pixels: Tensor, seen: Tensor, recipe: ViewRecipe, key: Key) -> Tensor:
    width = between(key, "blur width", *recipe.blur) * recipe.size
    width = torch.where(happens(key, "blur", recipe.blur_probability), width, 0.0).clamp(min=1e-3)
    return blurred(pixels, seen, width, recipe.blur[1] * recipe.size)


def _noise(pixels: Tensor, recipe: ViewRecipe, key: Key) -> Tensor:
    strength = between(key, "noise strength", *recipe.noise)
    strength = torch.where(happens(key, "noise", recipe.noise_probability), strength, 0.0)
    field = normal(key, "noise field", tuple(pixels.shape[1:]))
    return (pixels + broad(strength, pixels) * field).clamp(0, 1)


def _gate(recipe: ViewRecipe, key: Key) -> Tensor:
    """(B,) bool: one toss for brightness, contrast, gamma and saturation together, as in SimCLR."""
    return happens(key, "intensity", recipe.intensity_probability)


def _factor(strength: float, name: str, gate: Tensor, key: Key) -> Tensor:
    return torch.where(gate, between(key, name, 1 - strength, 1 + strength), 1.0)
