"""A view as data: how large, which part of the scan, and what may change in position and intensity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from medprior.errors import unknown
from medprior.views.acquisition import Change, change_of, data_of
from medprior.views.limits import Range, is_range, require
from medprior.views.modalities import UNITS, family_of

ZOOM = 1.25
"""How much nearer and farther crops are seen that label maps are learnt from."""
OUTLINED_ROTATION = 15.0


@dataclass(frozen=True)
class ViewRecipe:
    """Ranges from which the parameters of every view are drawn, per sample.

    Geometry first, then intensity in the order of the fields, from `acquisition` on, each clamped to [0, 1]. The
    default changes nothing.

    Attributes:
        size: pixels along each axis of the view, or along its longest.
        spatial_dims: 2 or 3.
        within: crops stay inside the "content" (the scan without its letterbox padding) or the "frame" (the
            smallest square or cube around the content, so that the whole scan can be seen undistorted).
        scale: share of the area (3D: volume) of content or frame.
        pitch: stored pixels per view pixel, drawn evenly on a log scale. When given, a view covers shape * pitch stored
            pixels, whatever the length of the scan, and `within` and `scale` are without meaning.
        sides: pixels along each axis, the longest being `size`, of crops that are no squares or cubes, as those of
            volumes of few slices; only where there is a pitch.
        aspect: ratio of the sides, over that of `shape`, drawn evenly on a log scale for each axis against axis 0.
        flips: axes that are mirrored with probability 1/2.
        rotation: largest angle in degrees, both ways, in each plane of two axes.
        modality: DICOM code of the scans, which decides what `contrastive` and `adaptation` turn on.
        units: physical units (HU in CT) that the values [0, 1] span.
        acquisition: what the acquisition of the modality can change, in order, each kind once.
        intensity_probability: of brightness, contrast, gamma and saturation together.
        brightness, contrast, saturation: factor in 1 ± strength; contrast turns about the mean of the valid
            pixels, saturation (three channels only) about the grey image.
        gamma: exponent between 1 / (1 + strength) and 1 + strength.
        grey_probability: of losing all colour (three channels only).
        blur_probability, blur: Gaussian, standard deviation as a share of `size`.
        noise_probability, noise: Gaussian, standard deviation in units of intensity.

    Raises:
        SettingsError: a value is outside what it may be.
    """

    size: int
    spatial_dims: int = 2
    within: Literal["content", "frame"] = "frame"
    scale: Range = (1.0, 1.0)
    pitch: Range | None = None
    sides: tuple[int, ...] | None = None
    aspect: Range = (1.0, 1.0)
    flips: tuple[int, ...] = ()
    rotation: float = 0.0
    modality: str | None = None
    units: float = UNITS
    acquisition: tuple[Change, ...] = ()
    intensity_probability: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    blur: Range = (0.0, 0.0)
    noise_probability: float = 0.0
    noise: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("scale", "aspect", "flips", "acquisition", "blur", "noise"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("pitch", "sides"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.sides == (self.size,) * self.spatial_dims:
            object.__setattr__(self, "sides", None)  # so that cubes are equal however they were asked for
        _validate(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis of the view."""
        return self.sides or (self.size,) * self.spatial_dims

    def shaped(self, shape: Sequence[int]) -> ViewRecipe:
        """The same for views with these pixels along each axis. Raises SettingsError where they cannot be seen."""
        return replace(self, size=max(shape), sides=tuple(shape))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ViewRecipe:
        """The recipe written by `to_dict`, or by hand in YAML. Raises SettingsError on an unknown name."""
        names = [field.name for field in fields(cls)]
        for name in data:
            if name not in names:
                raise unknown("view setting", name, names)
        return cls(**{**data, "acquisition": tuple(change_of(change) for change in data.get("acquisition", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, complete: `from_dict(recipe.to_dict()) == recipe`."""
        return {**asdict(self), "acquisition": tuple(data_of(change) for change in self.acquisition)}

    def plain(self) -> ViewRecipe:
        """The whole scan as it is: what is embedded, predicted and tested on."""
        return ViewRecipe(self.size, self.spatial_dims, modality=self.modality, units=self.units)

    def restorative(self) -> ViewRecipe:
        """Crop and allowed flips, true intensities: MAE (He et al., CVPR 2022, arXiv 2111.06377)."""
        whole = replace(self.plain(), flips=self.flips)
        return replace(whole, within="content", scale=(0.2, 1.0), aspect=(3 / 4, 4 / 3), **self._cut())

    def contrastive(self) -> ViewRecipe:
        """Crop, jitter and blur after SimCLR (Chen et al., ICML 2020, arXiv 2002.05709), with medical care.

        Crops keep at least a fifth of the scan, since a finding may fill little of it; half the published jitter
        and no hue, since intensity carries meaning; gamma, since scanners differ in their response. Where the
        modality is known, its physics takes the place of what it says better (`recipes.yaml`).
        """
        published: dict[str, Any] = {
            "intensity_probability": 0.8,
            "brightness": 0.4,
            "contrast": 0.4,
            "gamma": 0.2,
            "saturation": 0.4,
            "grey_probability": 0.2,
            "blur_probability": 0.5,
            "blur": (0.1 / 224, 2.0 / 224),
        }
        return replace(self.restorative(), **published | family_of(self.modality).settings("contrastive", self.units))

    def adaptation(self) -> ViewRecipe:
        """Mild changes of the whole scan, for training with labels: a finding at the border mostly stays in."""
        mild: dict[str, Any] = {
            "flips": self.flips,
            "scale": (0.8, 1.0),
            "rotation": 10.0,
            "intensity_probability": 0.5,
            "brightness": 0.1,
            "contrast": 0.2,
            "gamma": 0.1,
        }
        return replace(self.plain(), **mild | family_of(self.modality).settings("adaptation", self.units))

    def outlining(self) -> ViewRecipe:
        """Crops to learn label maps from: turned, somewhat nearer or farther than the base, intensities as when
        adapting."""
        near, far = self.pitch or (1.0, 1.0)
        mild = replace(self.adaptation(), scale=(1.0, 1.0))
        crop = self._cut() | {"pitch": (near / ZOOM, far * ZOOM)}
        return replace(mild, rotation=max(mild.rotation, OUTLINED_ROTATION), **crop)

    def _cut(self) -> dict[str, Any]:
        """What makes crops of a whole scan's view."""
        return {"pitch": self.pitch, "sides": self.sides}


def base_recipe(modality: str | None, size: int, spatial_dims: int = 2, units: float = UNITS) -> ViewRecipe:
    """What a modality allows: the recipe from which a method derives its views.

    Mirroring swaps left and right, and laterality matters in most of radiology; so no axis is flipped unless the
    modality (a DICOM code) has no given orientation, as slides have not. `replace(recipe, flips=...)` asks for more.

    Args:
        units: HU that the stored values of a CT span.
    """
    axes = tuple(range(spatial_dims)) if family_of(modality).unoriented else ()
    return ViewRecipe(size=size, spatial_dims=spatial_dims, flips=axes, modality=modality or None, units=units)


def _validate(recipe: ViewRecipe) -> None:
    d = recipe.spatial_dims
    require(isinstance(recipe.size, int) and recipe.size >= 1, "size", recipe.size, "a whole number from 1")
    require(d in (2, 3), "spatial_dims", d, "2 or 3")
    if recipe.sides is not None:
        _validate_sides(recipe, recipe.sides)
    require(recipe.within in ("content", "frame"), "within", recipe.within, '"content" or "frame"')
    require(is_range(recipe.scale, 0, 1, open_low=True), "scale", recipe.scale, "(low, high) within (0, 1]")
    pitched = recipe.pitch is None or is_range(recipe.pitch, 0, math.inf, open_low=True)
    require(pitched, "pitch", recipe.pitch, "(low, high) above 0")
    require(is_range(recipe.aspect, 0, math.inf, open_low=True), "aspect", recipe.aspect, "(low, high) above 0")
    axes = recipe.flips
    require(len(set(axes)) == len(axes) and set(axes) <= set(range(d)), "flips", axes, f"different axes below {d}")
    require(0 <= recipe.rotation <= 180, "rotation", recipe.rotation, "degrees from 0 to 180")
    require(0 < recipe.units < math.inf, "units", recipe.units, "above 0")
    kinds = [change.name for change in recipe.acquisition]
    require(len(set(kinds)) == len(kinds), "acquisition", kinds, "each kind of change once")
    for name in ("intensity_probability", "grey_probability", "blur_probability", "noise_probability"):
        require(0 <= getattr(recipe, name) <= 1, name, getattr(recipe, name), "from 0 to 1")
    for name in ("brightness", "contrast", "saturation"):
        require(0 <= getattr(recipe, name) <= 1, name, getattr(recipe, name), "from 0 to 1")
    require(0 <= recipe.gamma < math.inf, "gamma", recipe.gamma, "0 or more")
    require(is_range(recipe.blur, 0, 0.1), "blur", recipe.blur, "(low, high) within [0, 0.1], as a share of size")
    require(is_range(recipe.noise, 0, 1), "noise", recipe.noise, "(low, high) within [0, 1]")


def _validate_sides(recipe: ViewRecipe, sides: tuple[int, ...]) -> None:
    whole = len(sides) == recipe.spatial_dims and all(isinstance(side, int) and side >= 1 for side in sides)
    allowed = f"{recipe.spatial_dims} whole numbers from 1, the longest of them size = {recipe.size}"
    require(whole and max(sides) == recipe.size, "sides", sides, allowed)
    only = "none without a pitch, since whole scans are seen as squares and cubes"
    require(recipe.pitch is not None, "sides", sides, only)
