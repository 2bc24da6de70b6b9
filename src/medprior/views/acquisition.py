"""What the acquisition of an image can change, as data: each change a few ranges, drawn per sample, and its formula.

Every change takes pixels (B, C, *S) in [0, 1] and gives such pixels; it does nothing to a sample where
its toss says so. Which modality has which changes, and how strong, stands in `recipes.yaml`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import reduce
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.errors import unknown
from medprior.views.average import contract
from medprior.views.draws import Key, between, happens, normal
from medprior.views.limits import Range, is_range, require
from medprior.views.smooth import gaussian, smooth

ANY = "(low, high), finite"
ABOVE_0 = "(low, high) above 0"
ACROSS = 2.0
"""Ultrasound resolves about half as well across its beam as along it."""
DARKEST = 1 / 255
"""Transmission below which the optical density of 8 bits says nothing."""
_OD = np.array([(0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)])
STAINS = _OD / np.linalg.norm(_OD, axis=1, keepdims=True)
"""Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok & Johnston, 2001), of length 1."""


@dataclass(frozen=True)
class Change(ABC):
    """A change that happens to a sample with `probability`.

    Raises:
        SettingsError: a value is outside what it may be.
    """

    name: ClassVar[str]
    probability: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._require(0 <= self.probability <= 1, "probability", "from 0 to 1")
        self._validate()

    @abstractmethod
    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        """Pixels (B, C, *S) after the change; what it makes of those where valid (B, 1, *S) is false means nothing."""

    @abstractmethod
    def _validate(self) -> None: ...

    def _require(self, met: bool, setting: str, allowed: str) -> None:
        require(met, f"acquisition.{self.name}.{setting}", getattr(self, setting), allowed)

    def _drawn(self, key: Key, what: str, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) float32, uniform in [low, high); 0, which must mean no change, where this does not happen."""
        happened = happens(key, self.name, self.probability).view(-1, *[1] * len(shape))
        return torch.where(happened, between(key, f"{self.name} {what}", low, high, shape), 0.0)

    def _ratio(self, key: Key, what: str, limits: Range) -> Tensor:
        """(B,) float32, uniform on a log scale, so that halving is as likely as doubling; 1 for no change."""
        low, high = (math.log(limit) for limit in limits)
        return self._drawn(key, what, low, high).exp()


@dataclass(frozen=True)
class Window(Change):
    """Another linear window of the stored range: its middle goes to 0.5, its edges to 0 and 1.

    Attributes:
        level: by how much the middle moves, in HU.
        width: of the new window as a share of the stored one, evenly on a log scale.
        units: HU that the stored range [0, 1] spans.
    """

    name: ClassVar[str] = "window"
    level: Range
    width: Range
    units: float = 2000.0

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        middle = 0.5 + self._drawn(key, "level", *self.level) / self.units
        width = self._ratio(key, "width", self.width)
        return ((pixels - broad(middle, pixels)) / broad(width, pixels) + 0.5).clamp(0, 1)

    def _validate(self) -> None:
        self._require(is_range(self.level, -math.inf, math.inf), "level", ANY)
        self._require(is_range(self.width, 0, math.inf, open_low=True), "width", ABOVE_0)
        self._require(0 < self.units < math.inf, "units", "above 0")


@dataclass(frozen=True)
class BiasField(Change):
    """A smooth gain with mean 1 over the valid view, as the receive coils of an MR scanner leave it.

    The logarithm is a sum of the lowest cosines over the view (as in Ashburner & Friston, NeuroImage 2005), which are
    orthogonal, in a direction drawn evenly from all of theirs.

    Attributes:
        strength: standard deviation of the logarithm over the view, just so.
        order: half waves along all axes together, at most.
    """

    name: ClassVar[str] = "bias_field"
    strength: Range
    order: int = 2

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        d = pixels.dim() - 2
        waves = torch.arange(self.order + 1, device=pixels.device)
        cosines = [_cosines(waves, side).expand(len(pixels), -1, -1) for side in pixels.shape[2:]]
        total = reduce(torch.add, [waves.view(*[-1 if axis == i else 1 for i in range(d)]) for axis in range(d)])
        drawn = normal(key, "bias_field shape", (self.order + 1,) * d) * ((total > 0) & (total <= self.order))
        strength = self._drawn(key, "strength", *self.strength) / drawn.flatten(1).norm(dim=1).clamp(min=1e-6)
        coefficients = (drawn * broad(strength, drawn)).unsqueeze(1)
        field = contract(coefficients, cosines).exp()
        return (pixels * (field / broad(_mean(field, valid), pixels))).clamp(0, 1)

    def _validate(self) -> None:
        self._require(is_range(self.strength, 0, math.inf), "strength", "(low, high) from 0")
        self._require(isinstance(self.order, int) and 1 <= self.order <= 8, "order", "a whole number from 1 to 8")


@dataclass(frozen=True)
class Exposure(Change):
    """Dose and beam energy of an X-ray: 1 - x becomes gain · (1 - x)^attenuation.

    More absorption is brighter, so 1 - x stands for the share of the beam that is transmitted, exp(-∫μ) by Beer and
    Lambert. Another tube voltage multiplies every μ, which raises the transmission to a power; another dose multiplies
    what arrives. The power leaves black and white where they are, as the scaling of each film to its own percentiles
    does.

    Attributes:
        gain: of the dose, evenly on a log scale.
        attenuation: factor of every μ, evenly on a log scale.
    """

    name: ClassVar[str] = "exposure"
    gain: Range
    attenuation: Range

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        gain = self._ratio(key, "gain", self.gain).log2()
        attenuation = self._ratio(key, "attenuation", self.attenuation)
        # As in gamma: a power by way of the logarithm, 0 -> -inf -> 0.
        transmitted = torch.addcmul(broad(gain, pixels), (1 - pixels).log2(), broad(attenuation, pixels)).exp2()
        return (1 - transmitted).clamp(0, 1)

    def _validate(self) -> None:
        for setting in ("gain", "attenuation"):
            self._require(is_range(getattr(self, setting), 0, math.inf, open_low=True), setting, ABOVE_0)


@dataclass(frozen=True)
class Speckle(Change):
    """Multiplicative speckle with mean 1: x becomes x · (1 + strength · (r - 1)), r Rayleigh-distributed.

    r is the magnitude of a complex normal field, smoothed, as the envelope of echoes from many small scatterers is
    (Wagner et al., IEEE Trans. Sonics Ultrason. 1983). All channels share it.

    Attributes:
        strength: share of fully developed speckle, from 0 to 1.
        grain: standard deviation of the smoothing along the beam, as a share of its longest side; twice that across.
    """

    name: ClassVar[str] = "speckle"
    strength: Range
    grain: Range

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        d, shape = pixels.dim() - 2, pixels.shape[2:]
        grain = (between(key, "speckle grain", *self.grain) * max(shape)).clamp(min=1e-3)
        across = [1.0 if axis == d - 2 else ACROSS for axis in range(d)]
        widths = [grain * factor for factor in across]
        widest = [self.grain[1] * max(shape) * factor for factor in across]
        waves = smooth(normal(key, "speckle field", (2, *shape)), widths, widest)
        for axis, (width, side) in enumerate(zip(widths, shape, strict=True)):
            waves = waves / _deviation(width, side).view(-1, *[side if axis + 1 == i else 1 for i in range(d + 1)])
        rayleigh = (waves.square().sum(dim=1, keepdim=True) * (2 / math.pi)).sqrt()
        strength = broad(self._drawn(key, "strength", *self.strength), pixels)
        return (pixels * (1 + strength * (rayleigh - 1))).clamp(0, 1)

    def _validate(self) -> None:
        self._require(is_range(self.strength, 0, 1), "strength", "(low, high) within [0, 1]")
        self._require(is_range(self.grain, 0, 0.1), "grain", "(low, high) within [0, 0.1], as a share of size")


@dataclass(frozen=True)
class DepthGain(Change):
    """A gain that grows or falls exponentially with depth, 1 in the middle: attenuation, or its compensation, amiss.

    Depth runs along the last axis but one of the view: down in an image (H, W) and in each frame of (D, H, W).

    Attributes:
        slope: natural logarithm of the gain at the bottom of the view over that at its top.
    """

    name: ClassVar[str] = "depth_gain"
    slope: Range

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        size = pixels.shape[-2]
        depth = (torch.arange(size, device=pixels.device) + 0.5) / size - 0.5
        slope = broad(self._drawn(key, "slope", *self.slope), pixels)
        return (pixels * (slope * depth.unsqueeze(1)).exp()).clamp(0, 1)

    def _validate(self) -> None:
        self._require(is_range(self.slope, -math.inf, math.inf), "slope", ANY)


@dataclass(frozen=True)
class StainJitter(Change):
    """Each stain s of a slide becomes scale · s + shift (Tellez et al., IEEE TMI 2018, arXiv 1808.05896).

    Stains are unmixed from optical density, -ln x, by the vectors of Ruifrok & Johnston (2001) for haematoxylin, eosin
    and DAB. For three channels only; others are left alone.

    Attributes:
        scale: factor of each stain.
        shift: added to each stain, in units of optical density.
    """

    name: ClassVar[str] = "stain"
    scale: Range
    shift: Range

    def apply(self, pixels: Tensor, valid: Tensor, key: Key) -> Tensor:
        if pixels.shape[1] != len(STAINS):
            return pixels
        stains, unmixed = _constant(STAINS, pixels), _constant(np.linalg.inv(STAINS.T), pixels)
        low, high = self.scale
        scale = 1 + self._drawn(key, "scale", low - 1, high - 1, (3,))
        shift = self._drawn(key, "shift", *self.shift, (3,))
        seen = pixels.clamp(min=DARKEST)
        density = -seen.log().flatten(2)
        mixing = stains.T @ (scale.unsqueeze(2) * unmixed)
        changed = torch.baddbmm((shift @ stains).unsqueeze(2), mixing, density)
        # No light stays no light, whatever the stains: what is darker than can be trusted keeps its share.
        return ((-changed).exp().view_as(pixels) * (pixels / seen)).clamp(0, 1)

    def _validate(self) -> None:
        self._require(is_range(self.scale, 0, math.inf), "scale", "(low, high) from 0")
        self._require(is_range(self.shift, -math.inf, math.inf), "shift", ANY)


CHANGES: dict[str, type[Change]] = {
    change.name: change for change in (Window, BiasField, Exposure, Speckle, DepthGain, StainJitter)
}


def change_of(data: Mapping[str, Any]) -> Change:
    """The change that `data_of` wrote, or a YAML file: `change` names it.

    Raises:
        SettingsError: an unknown name, or a value outside what it may be.
    """
    settings = dict(data)
    name = str(settings.pop("change", ""))
    if name not in CHANGES:
        raise unknown("change of acquisition", name, CHANGES)
    names = [field.name for field in fields(CHANGES[name])]
    for setting in settings:
        if setting not in names:
            raise unknown(f"setting of {name}", setting, names)
    return CHANGES[name](**settings)


def data_of(change: Change) -> dict[str, Any]:
    """Plain data, complete: `change_of(data_of(change)) == change`."""
    return {"change": change.name, **asdict(change)}


def broad(values: Tensor, pixels: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, …), to meet pixels (B, C, *S)."""
    return values.view(-1, *[1] * (pixels.dim() - 1))


def _cosines(waves: Tensor, size: int) -> Tensor:
    """(size, n) cosines of n numbers of half waves along an axis, orthonormal over it: each has a mean square of 1."""
    phase = math.pi / size * (torch.arange(size, device=waves.device) + 0.5).unsqueeze(1)
    return torch.where(waves > 0, math.sqrt(2), 1.0) * torch.cos(phase * waves)


def _deviation(width: Tensor, size: int) -> Tensor:
    """(B, size) of white noise with deviation 1 after `smooth` along one axis: the border has fewer neighbours."""
    place = torch.arange(size, device=width.device)
    return gaussian(place - place.unsqueeze(1), width).square().sum(dim=2).sqrt()


def _mean(field: Tensor, valid: Tensor) -> Tensor:
    """(B,) mean of (B, 1, *S) where valid."""
    dims = tuple(range(1, field.dim()))
    return (field * valid).sum(dim=dims) / valid.sum(dim=dims).clamp(min=1)


def _constant(values: NDArray[np.float64], like: Tensor) -> Tensor:
    """A small matrix, filled in on the device: to copy it there would make the host wait."""
    return torch.stack([torch.stack([torch.full((), float(v), device=like.device) for v in row]) for row in values])
