"""What a volume store will hold, decided from the catalog before any pixel is read."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import RANKS
from medprior.data.intensity import CT_WINDOW, IntensityPlan, Mapping, plan_intensity
from medprior.data.treatments import treatments_of
from medprior.data.volumestore.resample import Grid, Spacing, each_axis, regrid
from medprior.errors import DataError, SettingsError

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

VERSION = 1
DTYPES = ("int16", "uint8")
KINDS = {2: ("an image", "images"), 3: ("a volume", "volumes")}
MAX_VOXELS = 2**30
TableRow = dict[Any, Any]
"""A row of a catalog."""
_BEYOND = 4  # how many times the range of 99.8 percent of a scan may go on beyond it before it is cut


@dataclass(frozen=True)
class VolumeSettings:
    """How scans are stored.

    Attributes:
        dtype: "int16", exact for whole numbers, or "uint8", by the intensity plan.
        spacing: mm; see `resample.regrid`. None keeps every scan's own.
        masks: whether masks are stored too.
        ct_window: HU that become black and white.
        spatial_dims: 2, the store holds images, or 3, it holds volumes.
    """

    dtype: str = "int16"
    spacing: Spacing = None
    masks: bool = False
    ct_window: tuple[float, float] = CT_WINDOW
    spatial_dims: int = 3

    def __post_init__(self) -> None:
        steps = (1.0,) * self.spatial_dims if self.spacing is None else each_axis(self.spacing, self.spatial_dims)
        right = len(steps) == self.spatial_dims and all(math.isfinite(step) and step > 0 for step in steps)
        if not right or self.dtype not in DTYPES or self.spatial_dims not in KINDS:
            what = f"no store has spacing {self.spacing}, dtype {self.dtype} and {self.spatial_dims} axes"
            do = f"Spacing is one number of mm or one for each axis, above zero; dtype is one of {', '.join(DTYPES)}"
            raise SettingsError(what, do=f"{do}; axes are 2 or 3")

    @property
    def kind(self) -> str:
        """Images or volumes."""
        return KINDS[self.spatial_dims][1]


@dataclass(frozen=True)
class VolumeRow:
    """One scan as it is stored.

    Attributes:
        key: two scans with the same hold the same.
        source: (H, W) or (D, H, W) of the file it is made from.
        channels: C, as stored.
        grid: where the stored pixels lie.
        scale: (C,), with
        offset: (C,): physical = offset + scale * stored.
        low: (C,) the physical values that are black, with
        high: (C,) those that are white, by the intensity plan.
        mask: the key of its mask, or "".
    """

    key: str
    source: tuple[int, ...]
    channels: int
    grid: Grid
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mask: str = ""


@dataclass(frozen=True)
class VolumePlan:
    """All scans of a store.

    Attributes:
        settings: how they are stored.
        intensity: the plan for their intensities.
        classes: the value in the masks of every class index; () without masks.
        rows: by catalog row; None for those that cannot be stored.
        failures: why not.
        warnings: sentences that name no file.
    """

    settings: VolumeSettings
    intensity: IntensityPlan
    classes: tuple[int, ...]
    rows: tuple[VolumeRow | None, ...]
    failures: dict[int, str]
    warnings: tuple[str, ...]


def plan_volumes(catalog: Catalog, settings: VolumeSettings) -> VolumePlan:
    """What a store of the volumes, or of the images, of this catalog will hold.

    Raises:
        DataError: none of them is there.
    """
    table = catalog.table
    if not (table["shape"].map(len) == settings.spatial_dims).any():
        do = f"Give a folder that holds {settings.kind}"
        raise DataError(f"there are no {settings.kind} to store", where=str(catalog.root), do=do)
    intensity = plan_intensity(table, settings.ct_window)
    classes = catalog.mask_classes if settings.masks else ()
    low, high = intensity.edges(table)
    scale, _ = intensity.mappings(table)
    kinds = treatments_of(table)
    scans: list[TableRow] = table.to_dict("records")
    shared = _shared_channels(scans) if settings.spatial_dims == 2 else None
    rows: list[VolumeRow | None] = []
    failures: dict[int, str] = {}
    for row, scan in enumerate(scans):
        try:
            channels = _channels(scan, settings, shared)
            edges = low[row, :channels], high[row, :channels]
            eight = scale[row, :channels], edges[0]
            stored = eight if settings.dtype == "uint8" else _repeated(_wide(scan, str(kinds[row])), channels)
            planned = _row(scan, settings, stored, edges)
            rows.append(replace(planned, mask=_mask_key(catalog, row, planned.grid, classes) if settings.masks else ""))
        except DataError as error:
            rows.append(None)
            failures[row] = error.what
    return VolumePlan(settings, intensity, classes, tuple(rows), failures, _warnings(scans, settings))


def most_axes(catalog: Catalog) -> int:
    """2 where most scans are images, else 3."""
    axes = catalog.table["shape"].map(len)
    return 2 if (axes == 2).sum() > (axes == 3).sum() else 3


def content_key(*parts: object) -> str:
    """A hash of anything that has a lasting `repr`."""
    return hashlib.blake2b(repr((VERSION, *parts)).encode(), digest_size=16).hexdigest()


def _shared_channels(scans: Sequence[TableRow]) -> int:
    """Of all images of a store: 1 where all show grey, whatever their format, else what most of the others have."""
    colours = Counter(int(scan["channels"]) for scan in scans if len(scan["shape"]) == 2 and not scan.get("grey"))
    return max(colours, key=lambda channels: (colours[channels], channels), default=1)


def _channels(scan: TableRow, settings: VolumeSettings, shared: int | None) -> int:
    """C as stored: volumes keep their own, images have as many as all others.

    Raises:
        DataError: it does not go into this store.
    """
    own, axes = int(scan["channels"]), len(scan["shape"])
    if axes != settings.spatial_dims:
        raise DataError(f"it is {KINDS[axes][0]}, the store holds {settings.kind}")
    if shared is None or own in (1, shared) or (own == 3 and shared == 1):
        return shared or own
    raise DataError(f"it has {own} channels, the store {shared}")


def _repeated(mapping: Mapping, channels: int) -> Mapping:
    """(C,) of a scan whose grey is stored `channels` times, or whose grey colours are stored once."""
    scale, offset = (values[np.arange(channels).clip(max=len(values) - 1)] for values in mapping)
    return scale, offset


def _row(scan: TableRow, settings: VolumeSettings, stored: Mapping, edges: Mapping) -> VolumeRow:
    source = tuple(int(n) for n in scan["shape"])
    grid = regrid(Grid(source, _floats(scan["spacing"]), _floats(scan.get("affine"))), settings.spacing)
    if math.prod(grid.shape) > MAX_VOXELS:
        raise DataError(f"on a grid of {settings.spacing} mm it has {math.prod(grid.shape):,} voxels, above 2^30")
    scale, offset, low, high = (tuple(map(float, values)) for values in (*stored, *edges))
    key = content_key(settings.dtype, scan["hash"], source, len(scale), grid, scale, offset)
    return VolumeRow(key, source, len(scale), grid, scale, offset, low, high)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(number) for number in values)


def _wide(scan: TableRow, kind: str) -> Mapping:
    """Scale and offset (C,) to 16 bits: whole numbers exactly where they fit, Hounsfield units to one."""
    quantiles = np.array([list(channel) for channel in scan["quantiles"]], np.float64)
    if kind.startswith("Hounsfield"):
        return np.ones(len(quantiles)), np.zeros(len(quantiles))
    whole = np.dtype(str(scan["dtype"])).kind in "iub"
    both = np.array([_wide_channel(channel, whole) for channel in quantiles])
    return both[:, 0], both[:, 1]


def _wide_channel(quantiles: NDArray[np.float64], whole: bool) -> tuple[float, float]:
    least, most = float(quantiles[0]), float(quantiles[-1])
    if whole and least >= -(2**15) and most < 2**15:
        return 1.0, 0.0
    if whole and most - least < 2**16:
        return 1.0, least + 2**15
    inner = [float(quantiles[RANKS.index(rank)]) for rank in (0.1, 99.9)]
    if inner[1] > inner[0]:
        margin = _BEYOND * (inner[1] - inner[0])
        least, most = max(least, inner[0] - margin), min(most, inner[1] + margin)
    scale = (most - least) / (2**16 - 1)
    return (scale, least + 2**15 * scale) if scale > 0 else (1.0, least)


def _mask_key(catalog: Catalog, row: int, grid: Grid, classes: tuple[int, ...]) -> str:
    """Of its files (name, size, time) rather than of its content, which is not read before."""
    mask = catalog.mask_source(row)
    if mask is None:
        return ""
    stamps = [_stamp(catalog.root / path) for path in mask.paths]
    return content_key("mask", mask, classes, catalog.source(row), stamps, grid)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _warnings(scans: Sequence[TableRow], settings: VolumeSettings) -> tuple[str, ...]:
    lost = sum(len(scan["shape"]) == settings.spatial_dims and scan["spacing"] is None for scan in scans)
    if settings.spacing is None or not lost:
        return ()
    return (f"{lost:,} {settings.kind} say nothing of their spacing in mm and keep the grid of their file.",)


def stored_bytes(rows: Sequence[VolumeRow], dtype: str) -> int:
    """What scans take before compression."""
    return sum(row.channels * math.prod(row.grid.shape) for row in rows) * np.dtype(dtype).itemsize
