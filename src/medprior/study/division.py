"""Who is learnt from and who is tested: the splits of a study, what all of them can measure, and the budgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medprior.config import Settings
from medprior.data.catalog import Catalog
from medprior.data.duplicates.copies import copies_said, without_copies
from medprior.data.pool import in_pool
from medprior.data.splits import Split, budget_rows, measurable_labels, study_splits
from medprior.errors import LabelError
from medprior.study.planning.plan import default_budgets
from medprior.tasks.classification import Classification
from medprior.tasks.segmentation import Segmentation

LEAST_POSITIVE = 4


def divide(catalog: Catalog, settings: Settings) -> tuple[tuple[Split, ...], list[str]]:
    """The splits, and what is to be said of them."""
    study = settings.study
    whole, warnings = study_splits(
        catalog, folds=study.folds, repeats=study.repeats, seed=study.seed, test_fraction=study.test_fraction
    )
    splits = [without_copies(split, catalog.duplicates) for split in whole] if settings.data.dedupe else whole
    said = [*_tested_said(catalog, whole), *copies_said(whole, splits, catalog.duplicates.cluster)]
    return tuple(splits), [*warnings, *said]


def measured_labels(catalog: Catalog, splits: Sequence[Split]) -> tuple[tuple[int, ...] | None, list[str]]:
    """The labels with enough patients on both sides of every split, and a word on the others; None when all count.

    Raises:
        LabelError: there is no such label.
    """
    assert catalog.labels is not None
    if catalog.labels.kind != "multilabel":
        return None, []
    names = catalog.labels.names
    kept = set(range(len(names)))
    for split in splits:
        for rows in (split.pool, split.test):
            kept &= set(measurable_labels(catalog, rows, minimum=LEAST_POSITIVE))
    if not kept:
        raise LabelError(
            f"no label has {LEAST_POSITIVE} patients with and without it among both training and test patients",
            do="Add labelled patients, or name fewer labels with --label",
        )
    gone = [names[i] for i in range(len(names)) if i not in kept]
    said = [f"Left out of the metrics for want of patients: {', '.join(gone)}."] if gone else []
    return tuple(sorted(kept)), said


def plan_budgets(
    catalog: Catalog, splits: Sequence[Split], settings: Settings, task: Classification | Segmentation
) -> tuple[tuple[int, ...], list[str]]:
    """Patients of each budget, those asked for or three, and a word where there are fewer than asked for."""
    patients = catalog.patients()
    most = min(len(np.unique(patients[split.pool])) for split in splits)
    asked = settings.study.budgets or default_budgets(most, task.outputs, task.kind)
    capped = [most if b == "all" or b > most else b for b in asked]
    warnings = [f"A budget of {b} patients was asked for; {most} are there." for b in asked if b != "all" and b > most]
    sizes = tuple(sorted(set(capped)))
    for split in splits:
        _, said = budget_rows(catalog, split.pool, sizes, seed=settings.study.seed * 1000)
    return sizes, [*warnings, *said]


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
