"""What a study stands on: the catalog with its labels, the splits, the stored pixels, and the task they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.pool import in_pool
from medprior.data.splits import Split, budget_rows
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.data.volumestore.foreground import Foreground, find_foreground
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import LabelError
from medprior.progress import Progress, silent
from medprior.study.canvas import Canvas, crops_canvas, whole_canvas
from medprior.study.division import divide, measured_labels, plan_budgets
from medprior.study.lost import LostStore
from medprior.study.planning.unread import check_adaptations
from medprior.tasks.classification import Classification, Kind
from medprior.tasks.segmentation import Segmentation
from medprior.views.recipe import ViewRecipe

Resident = ResidentStore | ResidentVolumes
"""A store bound to a device: of whole scans, or of those that crops are cut from."""


@dataclass(frozen=True)
class Ground:
    """Everything a cell needs that does not depend on the cell.

    Attributes:
        store: whole scans to be classified, or volumes and images to cut crops from that are outlined; of a finished
            study a LostStore where they are gone.
        labels: positions of the measured labels among the catalog's (multi-label), or None for all.
        warnings: sentences that the verdict must carry.
        crops: of a step that outlines are learnt from.
        voxel: mm along each axis of the usual stored voxel, where crops are cut and scans say it.
    """

    catalog: Catalog
    task: Classification | Segmentation
    splits: tuple[Split, ...]
    store: PixelStore | VolumeStore | LostStore
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
    def outlined(self) -> bool:
        """Whether outlines are learnt, from crops; else whole scans are classified."""
        return isinstance(self.task, Segmentation)

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
    def whole(self) -> PixelStore:
        """The scans that are classified."""
        assert isinstance(self.store, PixelStore)
        return self.store

    @property
    def volumes(self) -> VolumeStore:
        """The scans that crops are cut from."""
        assert isinstance(self.store, VolumeStore)
        return self.store

    @cached_property
    def foreground(self) -> Foreground:
        """Where labelled voxels lie in the scans that may be learnt from."""
        rows = np.unique(np.concatenate([split.pool for split in self.splits]))
        return find_foreground(self.volumes, self.usable(rows).tolist(), classes=self.task.outputs)

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
        return self.volumes.channels(int(self.volumes.stored[0])) if self.outlined else self.whole.channels

    def moments(self, fold: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel over the scans an encoder of `fold` may see."""
        rows = self.usable(self.splits[fold].pretrain)
        return self.volumes.resident("cpu", "disk").moments(rows) if self.outlined else self.whole.moments(rows)

    def budget(self, size: int, seed: int, fold: int) -> NDArray[np.int64]:
        """Catalog rows of a budget of `size` patients."""
        found, _ = budget_rows(self.catalog, self.splits[fold].pool, self.budgets, seed=self.seed * 1000 + seed)
        return found[size]

    def usable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """`rows` without those whose pixels could not be read."""
        return rows[~self.store.failed[rows]]


def prepare(catalog: Catalog, settings: Settings, out: Path, on_gpu: bool, progress: Progress = silent) -> Ground:
    """Split, store and name the task.

    Raises:
        LabelError: no labels, or too few of them for any study.
        SettingsError: outlines cannot be learnt as was asked for.
    """
    if catalog.labels is None:
        do = (
            "Add --labels FILE.csv with a column path and a column label, or --masks FOLDER; masks that lie beside "
            "their scans are found by name (imagesTr and labelsTr, images and masks, a_mask.png)"
        )
        raise LabelError("no labels were given", do=do)
    outlined = catalog.labels.kind == Segmentation.kind
    check_adaptations(settings, outlined)
    make = crops_canvas if outlined else whole_canvas
    return lay(catalog, settings, lambda: make(catalog, settings, out, on_gpu, progress))


def lay(catalog: Catalog, settings: Settings, make: Callable[[], Canvas]) -> Ground:
    """Divide a labelled catalog, name the task, and only then `make` the canvas, which may take long.

    Raises:
        LabelError: too few labels for any study.
    """
    assert catalog.labels is not None
    splits, divided = divide(catalog, settings)
    labels, unmeasured = measured_labels(catalog, splits)
    task = _task(catalog.labels.kind, catalog.labels.names, labels)
    budgets, capped = plan_budgets(catalog, splits, settings, task)
    canvas = make()
    warnings = (*catalog.warnings, *divided, *unmeasured, *capped, *_unreadable_said(canvas))
    return Ground(
        catalog,
        task,
        splits,
        canvas.store,
        canvas.base,
        budgets,
        settings.study.seed,
        labels=labels,
        warnings=warnings,
        crops=canvas.crops,
        voxel=canvas.voxel,
    )


def _task(kind: str, names: Sequence[str], labels: Sequence[int] | None) -> Classification | Segmentation:
    """What is learnt, of the `labels` that can be measured."""
    if kind == Segmentation.kind:
        return Segmentation(tuple(names))
    return Classification(cast(Kind, kind), tuple(names[i] for i in (range(len(names)) if labels is None else labels)))


def _unreadable_said(canvas: Canvas) -> list[str]:
    count = int(canvas.store.failed.sum())
    return [f"{count} images could not be read and are left out."] if count else []
