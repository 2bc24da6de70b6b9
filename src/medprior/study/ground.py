"""What a study stands on: the catalog with its labels, the splits, the stored pixels, and the task they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.duplicates.copies import copies_said, without_copies
from medprior.data.pool import in_pool
from medprior.data.splits import Split, budget_rows, measurable_labels, study_splits
from medprior.data.store.pixels import PixelStore
from medprior.errors import LabelError
from medprior.progress import Progress, silent
from medprior.study.plan import default_budgets
from medprior.tasks.classification import Classification
from medprior.views.recipe import ViewRecipe, base_recipe

LEAST_POSITIVE = 4
CPU_SIZE, GPU_SIZE = 64, 224


@dataclass(frozen=True)
class Ground:
    """Everything a cell needs that does not depend on the cell.

    Attributes:
        labels: positions of the measured labels among the catalog's (multi-label), or None for all.
        warnings: sentences that the verdict must carry.
    """

    catalog: Catalog
    task: Classification
    splits: tuple[Split, ...]
    store: PixelStore
    base: ViewRecipe
    budgets: tuple[int, ...]
    seed: int
    labels: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = field(default=())

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
    def known_patients(self) -> int:
        """Patients whom files or labels name."""
        return len(set(self.catalog.table["patient"]) - {""})

    def moments(self, fold: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel over the scans an encoder of `fold` may see."""
        return self.store.moments(self.usable(self.splits[fold].pretrain))

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
        raise LabelError("no labels were given", do="Add --labels FILE.csv with a column path and a column label")
    study = settings.study
    splits, warnings = study_splits(
        catalog, folds=study.folds, repeats=study.repeats, seed=study.seed, test_fraction=study.test_fraction
    )
    whole = splits
    if settings.data.dedupe:
        splits = [without_copies(split, catalog.duplicates) for split in splits]
    warnings = [*warnings, *_tested_said(catalog, whole), *copies_said(whole, splits, catalog.duplicates.cluster)]
    task = Classification(catalog.labels.kind, tuple(catalog.labels.names))
    labels, left_out = _measured(catalog, splits, task)
    if labels is not None:
        task = replace(task, names=tuple(task.names[i] for i in labels))
        warnings = [*warnings, *left_out]
    budgets, more = _budgets(catalog, splits, settings, task)
    size, stored, _ = view_size(catalog, settings, on_gpu)
    modality, (low, high) = common_modality(catalog), settings.data.ct_window
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
    if store.failed.any():
        warnings = [*warnings, f"{int(store.failed.sum())} images could not be read and are left out."]
    return Ground(
        catalog=catalog,
        task=task,
        splits=tuple(splits),
        store=store,
        base=base_recipe(modality, size, dims, units=high - low),
        budgets=budgets,
        seed=study.seed,
        labels=labels,
        warnings=(*catalog.warnings, *warnings, *more),
    )


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
    catalog: Catalog, splits: Sequence[Split], settings: Settings, task: Classification
) -> tuple[tuple[int, ...], list[str]]:
    patients = catalog.patients()
    most = min(len(np.unique(patients[split.pool])) for split in splits)
    asked = settings.study.budgets or default_budgets(most, task.outputs, task.kind == "multilabel")
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
