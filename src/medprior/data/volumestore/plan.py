"""What a volume store will hold, decided from the catalog before any voxel is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import RANKS
from medprior.data.intensity import CT_WINDOW, IntensityPlan, Mapping, plan_intensity
from medprior.data.treatments import treatments_of
from medprior.data.volumestore.resample import Grid, Spacing, regrid
from medprior.errors import DataError, SettingsError

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

VERSION = 1
DTYPES = ("int16", "uint8")
MAX_VOXELS = 2**30
_BEYOND = 4  # how many times the range of 99.8 percent of a scan may go on beyond it before it is cut


@dataclass(frozen=True)
class VolumeSettings:
    """How volumes are stored.

    Attributes:
        dtype: "int16", exact for whole numbers, or "uint8", by the intensity plan.
        spacing: mm; see `resample.regrid`. None keeps every volume's own.
        masks: whether masks are stored too.
        ct_window: HU that become black and white.
    """

    dtype: str = "int16"
    spacing: Spacing = None
    masks: bool = False
    ct_window: tuple[float, float] = CT_WINDOW

    def __post_init__(self) -> None:
        steps = [self.spacing] if isinstance(self.spacing, int | float) else list(self.spacing or ())
        right = len(steps) in (0, 1, 3) and all(math.isfinite(step) and step > 0 for step in steps)
        if not right or self.dtype not in DTYPES:
            do = f"Spacing is one number of mm or three, above zero; dtype is one of {', '.join(DTYPES)}"
            raise SettingsError(f"no store has spacing {self.spacing} and dtype {self.dtype}", do=do)


@dataclass(frozen=True)
class VolumeRow:
    """One volume as it is stored.

    Attributes:
        key: two volumes with the same hold the same.
        source: (D, H, W) of the scan it is made from.
        channels: C.
        grid: where the stored voxels lie.
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
    """All volumes of a store.

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
    """What a store of the volumes of this catalog will hold.

    Raises:
        DataError: no volume is there.
    """
    table = catalog.table
    if not any(len(shape) == 3 for shape in table["shape"]):
        where = str(catalog.root)
        raise DataError("there are no volumes to store", where=where, do="Give a folder that holds volumes")
    intensity = plan_intensity(table, settings.ct_window)
    classes = catalog.mask_classes if settings.masks else ()
    low, high = intensity.edges(table)
    scale, _ = intensity.mappings(table)
    kinds = treatments_of(table)
    scans: list[dict[Any, Any]] = table.to_dict("records")
    rows: list[VolumeRow | None] = []
    failures: dict[int, str] = {}
    for row, scan in enumerate(scans):
        try:
            count = int(scan["channels"])
            edges = low[row, :count], high[row, :count]
            eight = scale[row, :count], edges[0]
            stored = eight if settings.dtype == "uint8" else _wide(scan, str(kinds[row]))
            planned = _row(scan, settings, stored, edges)
            rows.append(replace(planned, mask=_mask_key(catalog, row, planned.grid, classes) if settings.masks else ""))
        except DataError as error:
            rows.append(None)
            failures[row] = error.what
    return VolumePlan(settings, intensity, classes, tuple(rows), failures, _warnings(scans, settings))


def content_key(*parts: object) -> str:
    """A hash of anything that has a lasting `repr`."""
    return hashlib.blake2b(repr((VERSION, *parts)).encode(), digest_size=16).hexdigest()


def _row(scan: dict[Any, Any], settings: VolumeSettings, stored: Mapping, edges: Mapping) -> VolumeRow:
    source = tuple(int(n) for n in scan["shape"])
    if len(source) != 3:
        raise DataError("it is an image, the store holds volumes")
    grid = regrid(Grid(source, _floats(scan["spacing"]), _floats(scan.get("affine"))), settings.spacing)
    if math.prod(grid.shape) > MAX_VOXELS:
        raise DataError(f"on a grid of {settings.spacing} mm it has {math.prod(grid.shape):,} voxels, above 2^30")
    scale, offset, low, high = (tuple(map(float, values)) for values in (*stored, *edges))
    channels = int(scan["channels"])
    key = content_key(settings.dtype, scan["hash"], source, channels, grid, scale, offset)
    return VolumeRow(key, source, channels, grid, scale, offset, low, high)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(number) for number in values)


def _wide(scan: dict[Any, Any], kind: str) -> Mapping:
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


def _warnings(scans: Sequence[dict[Any, Any]], settings: VolumeSettings) -> tuple[str, ...]:
    lost = sum(len(scan["shape"]) == 3 and scan["spacing"] is None for scan in scans)
    if settings.spacing is None or not lost:
        return ()
    return (f"{lost:,} volumes say nothing of their spacing in mm and keep the grid of their file.",)


def stored_bytes(rows: Sequence[VolumeRow], dtype: str) -> int:
    """What volumes take before compression."""
    return sum(row.channels * math.prod(row.grid.shape) for row in rows) * np.dtype(dtype).itemsize
