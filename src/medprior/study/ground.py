"""What a study stands on: the catalog with its labels, the splits, the stored pixels, and the task they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.duplicates.copies import copies_said, without_copies
from medprior.data.pool import in_pool
from medprior.data.splits import Split, budget_rows, measurable_labels, study_splits
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.data.volumestore.foreground import Foreground, find_foreground
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import LabelError
from medprior.progress import Progress, silent
from medprior.study.crops import plan_crops
from medprior.study.plan import default_budgets
from medprior.tasks.classification import Classification, Kind
from medprior.tasks.segmentation import Segmentation
from medprior.views.recipe import ViewRecipe, base_recipe

LEAST_POSITIVE = 4
Resident = ResidentStore | ResidentVolumes
"""A store bound to a device: of whole scans, or of those that crops are cut from."""
CPU_SIZE, GPU_SIZE = 64, 224


@dataclass(frozen=True)
class Ground:
    """Everything a cell needs that does not depend on the cell.

    Attributes:
        store: whole scans to be classified, or volumes and images to cut crops from that are outlined.
        labels: positions of the measured labels among the catalog's (multi-label), or None for all.
        warnings: sentences that the verdict must carry.
        crops: of a step that outlines are learnt from.
        voxel: mm along each axis of the usual stored voxel, where crops are cut and scans say it.
    """

    catalog: Catalog
    task: Classification | Segmentation
    splits: tuple[Split, ...]
    store: PixelStore | VolumeStore
    base: ViewRecipe
    budgets: tuple[int, ...]
    seed: int
    labels: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = field(default=())
    crops: int = 0
    voxel: tuple[float, ...] | None = None

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """(N,) class indices or (N, K) labels, NaN where unknown, by catalog row."""
        targets = self.catalog.targets()
        return targets if self.labels is None else targets[:, list(self.labels)]

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """The patient (or image, where patients are unknown) of every catalog row."""
        return self.catalog.patients()

    @cached_property
    def persons(self) -> NDArray[np.int64]:
        """The patient of every row as a number: the first row that is theirs."""
        return self.catalog.persons()

    @cached_property
    def pool(self) -> NDArray[np.int64]:
        """Catalog rows of a folder of their own, which only encoders see."""
        return np.flatnonzero(in_pool(self.catalog.table))

    @property
    def classification(self) -> Classification:
        """The task of a study that classifies."""
        assert isinstance(self.task, Classification)
        return self.task

    @property
    def outlines(self) -> Segmentation:
        """The task of a study that learns outlines."""
        assert isinstance(self.task, Segmentation)
        return self.task

    @property
    def volumes(self) -> VolumeStore:
        """The scans that crops are cut from."""
        assert isinstance(self.store, VolumeStore)
        return self.store

    @cached_property
    def foreground(self) -> Foreground:
        """Where labelled voxels lie in the scans that may be learnt from."""
        rows = np.unique(np.concatenate([split.pool for split in self.splits]))
        return find_foreground(self.volumes, self.usable(rows).tolist())

    @property
    def known_patients(self) -> int:
        """Patients whom files or labels name."""
        return len(set(self.catalog.table["patient"]) - {""})

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.base.spatial_dims

    @property
    def channels(self) -> int:
        """Of every scan."""
        if isinstance(self.store, PixelStore):
            return self.store.channels
        return self.store.channels(int(self.store.stored[0]))

    def moments(self, fold: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel over the scans an encoder of `fold` may see."""
        rows = self.usable(self.splits[fold].pretrain)
        if isinstance(self.store, PixelStore):
            return self.store.moments(rows)
        return self.store.resident("cpu", "disk").moments(rows)

    def budget(self, size: int, seed: int, fold: int) -> NDArray[np.int64]:
        """Catalog rows of a budget of `size` patients."""
        found, _ = budget_rows(self.catalog, self.splits[fold].pool, self.budgets, seed=self.seed * 1000 + seed)
        return found[size]

    def usable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """`rows` without those whose pixels could not be read."""
        return rows[~self.store.failed[rows]]


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


def prepare(catalog: Catalog, settings: Settings, out: Path, on_gpu: bool, progress: Progress = silent) -> Ground:
    """Split, store and name the task.

    Raises:
        LabelError: no labels, or too few of them for any study.
    """
    if catalog.labels is None:
        do = "Add --labels FILE.csv with a column path and a column label, or --masks FOLDER"
        raise LabelError("no labels were given", do=do)
    splits, warnings = _splits(catalog, settings)
    whole = catalog.labels.kind == "segmentation"
    build = _to_outline if whole else _to_classify
    return build(catalog, splits, warnings, settings, out, on_gpu, progress)


def _splits(catalog: Catalog, settings: Settings) -> tuple[tuple[Split, ...], list[str]]:
    study = settings.study
    whole, warnings = study_splits(
        catalog, folds=study.folds, repeats=study.repeats, seed=study.seed, test_fraction=study.test_fraction
    )
    splits = [without_copies(split, catalog.duplicates) for split in whole] if settings.data.dedupe else whole
    said = [*_tested_said(catalog, whole), *copies_said(whole, splits, catalog.duplicates.cluster)]
    return tuple(splits), [*warnings, *said]


def _to_classify(
    catalog: Catalog,
    splits: tuple[Split, ...],
    warnings: list[str],
    settings: Settings,
    out: Path,
    on_gpu: bool,
    progress: Progress,
) -> Ground:
    """Whole scans, each at the size of a view or twice that."""
    assert catalog.labels is not None
    task = Classification(cast(Kind, catalog.labels.kind), tuple(catalog.labels.names))
    labels, left_out = _measured(catalog, splits, task)
    if labels is not None:
        task = replace(task, names=tuple(task.names[i] for i in labels))
        warnings = [*warnings, *left_out]
    budgets, more = _budgets(catalog, splits, settings, task)
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
    base = _base(catalog, settings, size, dims)
    said = (*catalog.warnings, *warnings, *more, *_unread(int(store.failed.sum())))
    return Ground(catalog, task, splits, store, base, budgets, settings.study.seed, labels, said)


def _to_outline(
    catalog: Catalog,
    splits: tuple[Split, ...],
    warnings: list[str],
    settings: Settings,
    out: Path,
    on_gpu: bool,
    progress: Progress,
) -> Ground:
    """Scans as they are, or at one spacing, to cut crops from."""
    assert catalog.labels is not None
    task = Segmentation(tuple(catalog.labels.names))
    budgets, more = _budgets(catalog, splits, settings, task)
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
    base = replace(_base(catalog, settings, max(plan.shape), store.spatial_dims), pitch=(1.0, 1.0)).shaped(plan.shape)
    said = (*catalog.warnings, *warnings, *more, *_unread(len(store.failures)))
    return Ground(catalog, task, splits, store, base, budgets, settings.study.seed, None, said, plan.count, plan.voxel)


def _base(catalog: Catalog, settings: Settings, size: int, dims: int) -> ViewRecipe:
    low, high = settings.data.ct_window
    return base_recipe(common_modality(catalog), size, dims, units=high - low)


def _unread(count: int) -> list[str]:
    return [f"{count} images could not be read and are left out."] if count else []


def _tested_said(catalog: Catalog, splits: Sequence[Split]) -> list[str]:
    """A warning for images of the pool that no encoder of some split may see, for their patients are tested."""
    pool = np.flatnonzero(in_pool(catalog.table))
    most = max(int((~np.isin(pool, split.pretrain)).sum()) for split in splits)
    if not most:
        return []
    images = (
        "1 image of the pool is of a tested patient and"
        if most == 1
        else f"{most:,} images of the pool are of tested patients and"
    )
    where = " (at most, in a fold)" if len(splits) > 1 else ""
    return [f"{images} left out of pre-training{where}."]


def _measured(
    catalog: Catalog, splits: Sequence[Split], task: Classification
) -> tuple[tuple[int, ...] | None, list[str]]:
    """The labels with enough patients on both sides of every split; None when all classes count."""
    if task.kind != "multilabel":
        return None, []
    kept = set(range(task.outputs))
    for split in splits:
        for rows in (split.pool, split.test):
            kept &= set(measurable_labels(catalog, rows, minimum=LEAST_POSITIVE))
    if not kept:
        raise LabelError(
            f"no label has {LEAST_POSITIVE} patients with and without it among both training and test patients",
            do="Add labelled patients, or name fewer labels with --label",
        )
    gone = [task.names[i] for i in range(task.outputs) if i not in kept]
    said = [f"Left out of the metrics for want of patients: {', '.join(gone)}."] if gone else []
    return tuple(sorted(kept)), said


def _budgets(
    catalog: Catalog, splits: Sequence[Split], settings: Settings, task: Classification | Segmentation
) -> tuple[tuple[int, ...], list[str]]:
    patients = catalog.patients()
    most = min(len(np.unique(patients[split.pool])) for split in splits)
    asked = settings.study.budgets or default_budgets(most, task.outputs, task.kind)
    capped = [most if b == "all" or b > most else b for b in asked]
    warnings = [f"A budget of {b} patients was asked for; {most} are there." for b in asked if b != "all" and b > most]
    sizes = tuple(sorted(set(capped)))
    for split in splits:
        _, said = budget_rows(catalog, split.pool, sizes, seed=settings.study.seed * 1000)
    return sizes, [*warnings, *said]


def common_modality(catalog: Catalog) -> str | None:
    """The modality most scans have, or None."""
    known = [value for value in catalog.table["modality"] if isinstance(value, str) and value]
    return max(sorted(set(known)), key=known.count) if known else None
