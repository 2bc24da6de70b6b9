"""What a pixel store will hold, decided from the catalog before any pixel is read."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from medprior.data.intensity import CT_WINDOW, IntensityPlan, plan_intensity
from medprior.data.store.pyramid import atlas_shape, level_count
from medprior.errors import DataError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from medprior.data.catalog import Catalog

VERSION = 2
_NAMES = {2: "images (2D)", 3: "volumes (3D)"}


@dataclass(frozen=True)
class StorePlan:
    """Two stores with the same `key` hold the same."""

    count: int
    size: int
    channels: int
    spatial_dims: int
    intensity: IntensityPlan
    key: str = ""

    @property
    def levels(self) -> int:
        """Half-size levels, level 0 included."""
        return level_count(self.size)

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """(C, *A) of one scan."""
        return (self.channels, *atlas_shape(self.size, self.spatial_dims, self.levels))

    @property
    def row_bytes(self) -> int:
        """Bytes of one scan."""
        return math.prod(self.row_shape)

    @cached_property
    def header(self) -> bytes:
        """What stands before the pixels in the .npy file."""
        stream = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.row_shape)}
        np.lib.format.write_array_header_1_0(stream, about)
        return stream.getvalue()

    @property
    def file_bytes(self) -> int:
        """Bytes of that file."""
        return len(self.header) + self.count * self.row_bytes


def plan_store(
    catalog: Catalog,
    *,
    size: int,
    channels: int | None,
    spatial_dims: int,
    ct_window: tuple[float, float] = CT_WINDOW,
) -> StorePlan:
    """What a store of this catalog will hold.

    Raises:
        DataError: no scans, or scans with another number of axes.
        SettingsError: a size, a number of channels or a window that makes no store.
    """
    if size < 1 or (channels is not None and channels < 1) or spatial_dims not in _NAMES:
        asked = f"size {size}, channels {channels}, spatial_dims {spatial_dims}"
        raise SettingsError(f"no store has {asked}", do="Size and channels are at least 1, spatial_dims 2 or 3")
    _check_axes(catalog, spatial_dims)
    intensity = plan_intensity(catalog.table, ct_window)
    plan = StorePlan(len(catalog), size, channels or _channels(catalog), spatial_dims, intensity)
    return replace(plan, key=_key(plan, catalog.table))


def _key(plan: StorePlan, table: pd.DataFrame) -> str:
    """A hash of the pixels, of how they are fitted (spacing keeps the aspect) and of how they are quantised."""
    about = [VERSION, plan.size, plan.channels, plan.spatial_dims, plan.levels]
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    digest.update("\n".join(table["hash"]).encode())
    spacings = [None if spacing is None else [float(step) for step in spacing] for spacing in table["spacing"]]
    digest.update(repr(spacings).encode())
    for values in plan.intensity.mappings(table, plan.channels):
        digest.update(values.tobytes())
    return digest.hexdigest()


def _check_axes(catalog: Catalog, spatial_dims: int) -> None:
    if not len(catalog):
        raise DataError("there are no scans to store", where=str(catalog.root), do="Give a folder that holds scans")
    axes = catalog.table["shape"].map(len).to_numpy()
    right = int((axes == spatial_dims).sum())
    if right == len(axes):
        return
    other = 5 - spatial_dims
    what = f"{len(axes) - right:,} scans are {_NAMES[other]} and {right:,} are {_NAMES[spatial_dims]}"
    do = "Put images and volumes into folders of their own, and give one of them" if right else f"Ask for {other} axes"
    raise DataError(f"{what}; the store was to hold {_NAMES[spatial_dims]}", where=str(catalog.root), do=do)


def _channels(catalog: Catalog) -> int:
    """One where every scan is grey, whatever its format; else the most that any has."""
    channels = catalog.table["channels"].to_numpy()
    grey = channels == 1
    if "grey" in catalog.table:
        grey = grey | catalog.table["grey"].to_numpy(dtype=bool)
    return 1 if grey.all() else int(channels.max())
