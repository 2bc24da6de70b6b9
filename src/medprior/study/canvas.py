"""How the scans of a study are stored and seen: whole to be classified, or in crops where outlines are learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import StoreError
from medprior.progress import Progress, silent
from medprior.study.lost import LostStore
from medprior.study.planning.crops import CropPlan, plan_crops
from medprior.study.told import Told
from medprior.views.recipe import ViewRecipe, base_recipe

CPU_SIZE, GPU_SIZE = 64, 224
_Store = TypeVar("_Store", PixelStore, VolumeStore)


@dataclass(frozen=True)
class Canvas:
    """The stored scans, and what a view of them is like; of crops how many make a step, and mm of the usual voxel."""

    store: PixelStore | VolumeStore | LostStore
    base: ViewRecipe
    crops: int = 0
    voxel: tuple[float, ...] | None = None


def whole_canvas(catalog: Catalog, settings: Settings, out: Path, on_gpu: bool, progress: Progress = silent) -> Canvas:
    """Whole scans, each at the size of a view or twice that."""
    size, stored, _ = view_size(catalog, settings, on_gpu)
    dims = len(catalog.table["shape"].iloc[0])
    store = PixelStore.build(
        catalog,
        out / "store",
        size=stored,
        spatial_dims=dims,
        ct_window=settings.data.ct_window,
        workers=settings.data.workers,
        progress=progress,
    )
    return Canvas(store, _base(catalog, settings, size, dims))


def crops_canvas(catalog: Catalog, settings: Settings, out: Path, on_gpu: bool, progress: Progress = silent) -> Canvas:
    """Scans as they are, or at one spacing, to cut crops from."""
    plan = plan_crops(catalog, settings, on_gpu)
    store = VolumeStore.build(
        catalog,
        out / "volumes",
        spacing=plan.spacing,
        masks=True,
        ct_window=settings.data.ct_window,
        workers=settings.data.workers,
        progress=progress,
    )
    return Canvas(store, _crops_base(catalog, settings, plan), plan.count, plan.voxel)


def kept_canvas(catalog: Catalog, settings: Settings, out: Path, told: Told, *, outlined: bool) -> Canvas:
    """The canvas of a finished study as it lies below `out`, without a look at the scans.

    Where its pixels are gone or damaged a LostStore stands in their place.
    """
    store: PixelStore | VolumeStore | LostStore
    if outlined:
        adapt = settings.adapt.model_copy(update={"crops": told.crops})
        plan = plan_crops(catalog, settings.model_copy(update={"adapt": adapt}), told.on_gpu)
        try:
            store = _same(VolumeStore.open(out / "volumes"), catalog)
        except StoreError as error:
            store = LostStore.of(error, max(plan.shape), len(catalog), told.failed)
        return Canvas(store, _crops_base(catalog, settings, plan), plan.count, plan.voxel)
    size, stored, _ = view_size(catalog, settings, told.on_gpu)
    try:
        store = _same(PixelStore.open(out / "store"), catalog)
    except StoreError as error:
        store = LostStore.of(error, stored, len(catalog), told.failed)
    return Canvas(store, _base(catalog, settings, size, len(catalog.table["shape"].iloc[0])))


def _same(store: _Store, catalog: Catalog) -> _Store:
    """Refuse a store of other scans."""
    if len(store.failed) != len(catalog):
        do = "Repeat the command that made the run: the pixels are then read again from the scans"
        raise StoreError("the stored pixels are of other scans than the run", where=str(store.folder), do=do)
    return store


def view_size(catalog: Catalog, settings: Settings, on_gpu: bool) -> tuple[int, int, str]:
    """Side of a view, side of the store, and why.

    The store keeps up to twice the view, so that crops stay sharp; it never enlarges what it is given.
    """
    side = int(np.median([max(shape) for shape in catalog.table["shape"]]))
    if settings.data.size:
        size, why = settings.data.size, "asked for"
    else:
        most = GPU_SIZE if on_gpu else CPU_SIZE
        size = most if side >= most or not on_gpu else max(32, 32 * (side // 32))
        why = f"images are about {side} px, trained on {'a GPU' if on_gpu else 'CPU cores'}"
    store = min(2 * size, max(32, 32 * -(-side // 32)))
    return size, store, why


def common_modality(catalog: Catalog) -> str | None:
    """The modality most scans have, or None."""
    known = [value for value in catalog.table["modality"] if isinstance(value, str) and value]
    return max(sorted(set(known)), key=known.count) if known else None


def _crops_base(catalog: Catalog, settings: Settings, plan: CropPlan) -> ViewRecipe:
    whole = _base(catalog, settings, max(plan.shape), len(plan.shape))
    return replace(whole, pitch=(1.0, 1.0)).shaped(plan.shape)


def _base(catalog: Catalog, settings: Settings, size: int, dims: int) -> ViewRecipe:
    low, high = settings.data.ct_window
    return base_recipe(common_modality(catalog), size, dims, units=high - low)
