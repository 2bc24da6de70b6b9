"""Who is tested on and who is learned from: patients never stand on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.budgets import MINIMUM_PER_CLASS, budget_rows, measurable_labels
from medprior.data.strata import (
    Cohort,
    Rows,
    counted,
    grouped_folds,
    has_several,
    is_outlined,
    label_names,
    measuring,
    persons,
    shuffled,
)
from medprior.errors import LabelError

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

__all__ = ["Split", "budget_rows", "grouped_folds", "measurable_labels", "study_splits"]

HOLD_OUT_FROM = 200
"""Labelled patients from which one hold-out is enough; below, every patient is tested once (cross-validation)."""
MOST_FOLDS = 5
_ONE_CLASS = "the published test set has one class only"


@dataclass(frozen=True)
class Split:
    """Catalog rows, ascending, by what they are for; no patient stands in `test` and elsewhere.

    Attributes:
        test: labelled rows that scores are measured on.
        val: labelled rows of a published validation split.
        pool: labelled rows that budgets are drawn from.
        unlabelled: all other rows whose patients are not tested: only encoders see them.
        given: whether the test set was published with the data.
        fold: number of the cross-validation fold.
        repeat: number of the repetition, each with folds of its own.
    """

    test: Rows
    val: Rows
    pool: Rows
    unlabelled: Rows
    given: bool = False
    fold: int = 0
    repeat: int = 0

    @property
    def pretrain(self) -> Rows:
        """Every row an encoder may see, labelled or not: those of all patients who are not tested."""
        return np.sort(np.concatenate([self.val, self.pool, self.unlabelled]))


def study_splits(
    catalog: Catalog, *, folds: int | None = None, repeats: int = 1, seed: int, test_fraction: float = 0.25
) -> tuple[list[Split], list[str]]:
    """The splits of a study, and warnings.

    A published test set is honoured. Without one, `HOLD_OUT_FROM` labelled patients or more give one stratified
    hold-out by patient; fewer give stratified cross-validation by patient, `repeats` times.

    Args:
        folds: cross-validation with this many folds, however many patients there are; by default as many as the
            rarest class allows, `MOST_FOLDS` at most.
        test_fraction: share of the patients that a hold-out tests.

    Raises:
        LabelError: no labels, one class only, or too few patients of a class, with the counts. Where masks are the
            labels one class will do, and two patients who have some class.
    """
    facts = _Facts.of(catalog)
    _require_classes(catalog, facts.cohort(catalog, np.flatnonzero(facts.labelled)))
    if (facts.labelled & (facts.split == "test")).any():
        splits, warnings = _published(catalog, facts, folds)
    else:
        splits, warnings = _drawn(catalog, facts, folds, repeats, seed, test_fraction)
    return splits, [*warnings, *_scarce_in_test(catalog, facts, splits)]


@dataclass(frozen=True)
class _Facts:
    """Columns of the catalog, by row: the person and the content as numbers, the published split, and labels."""

    person: Rows
    content: Rows
    split: NDArray[np.str_]
    labelled: NDArray[np.bool_]

    @classmethod
    def of(cls, catalog: Catalog) -> _Facts:
        table = catalog.table
        return cls(
            persons(catalog),
            np.asarray(table.groupby("hash", sort=False).ngroup(), dtype=np.int64),
            table["split"].to_numpy(dtype=str),
            table["labelled"].to_numpy(dtype=bool),
        )

    def cohort(self, catalog: Catalog, rows: Rows) -> Cohort:
        """The patients of some rows."""
        return Cohort.of(catalog, rows, self.person)

    def divide(self, test: Rows, *, given: bool = False, fold: int = 0, repeat: int = 0) -> tuple[Split, int]:
        """The split with these test rows, and how many images were left out because a tested patient has the same.

        Rows published as test are nobody's to learn from, with a label or without.
        """
        held = self.split == "test"
        held[test] = True
        tested = _shared(self.person, held)
        twins = _shared(self.content, tested) & ~tested
        free = ~tested & ~twins
        val = free & self.labelled & (self.split == "val")
        pool = free & self.labelled & (self.split != "val") & ~_shared(self.person, val)
        rest = free & ~val & ~pool
        rows = [np.flatnonzero(kind) for kind in (val, pool, rest)]
        return Split(test, rows[0], rows[1], rows[2], given, fold, repeat), int(twins.sum())


def _shared(keys: Rows, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) whether a row has the key of any chosen one."""
    return np.bincount(keys, weights=chosen, minlength=len(keys))[keys] > 0


def _published(catalog: Catalog, facts: _Facts, folds: int | None) -> tuple[list[Split], list[str]]:
    split, twins = facts.divide(np.flatnonzero(facts.labelled & (facts.split == "test")), given=True)
    test = facts.cohort(catalog, split.test)
    if not _measurable(catalog, test):
        lack = "no mask of the published test set marks anything" if is_outlined(catalog) else _ONE_CLASS
        raise LabelError(f"{lack} ({counted(catalog, test.counts)})", do="Mend the column split")
    ignored = ["The data brings its own test set, so no cross-validation is made."] if folds else []
    return [split], [*ignored, *_twins_said(twins)]


def _drawn(
    catalog: Catalog, facts: _Facts, folds: int | None, repeats: int, seed: int, test_fraction: float
) -> tuple[list[Split], list[str]]:
    """Test sets drawn from the labelled rows that no published split claims."""
    claimed = np.isin(facts.split, ("val", "test"))
    cohort = facts.cohort(catalog, np.flatnonzero(facts.labelled & ~_shared(facts.person, claimed)))
    warnings = (
        ["The published split has no labelled test images: a test set is drawn from the rest."] if claimed.any() else []
    )
    if folds is None and len(cohort) >= HOLD_OUT_FROM:
        _require_folds(catalog, cohort, 2)
        tests = [(_hold_out(cohort, test_fraction, seed), 0, 0)]
    else:
        count = folds or max(2, min(MOST_FOLDS, _most_folds(catalog, cohort)))
        _require_folds(catalog, cohort, count)
        tests = [found for repeat in range(repeats) for found in _folds(cohort, count, repeat, seed)]
    divided = [facts.divide(rows, fold=fold, repeat=repeat) for rows, fold, repeat in tests]
    return [split for split, _ in divided], [*warnings, *_twins_said(max(twins for _, twins in divided))]


def _hold_out(cohort: Cohort, fraction: float, seed: int) -> Rows:
    """Rows of a share of the patients of every stratum: at least one is tested and one is left, where there are two."""
    order = shuffled(cohort.stratum, np.random.default_rng(seed))
    _, starts, sizes = np.unique(cohort.stratum[order], return_index=True, return_counts=True)
    takes = np.minimum(np.maximum(np.rint(sizes * fraction), 1), sizes - 1).astype(int)
    return cohort.rows_of(np.concatenate([order[a : a + n] for a, n in zip(starts, takes, strict=True)]))


def _folds(cohort: Cohort, count: int, repeat: int, seed: int) -> Iterator[tuple[Rows, int, int]]:
    patients = np.arange(len(cohort))
    fold_of = grouped_folds(patients, cohort.stratum, count, [seed, repeat])
    for fold in range(count):
        yield cohort.rows_of(patients[fold_of == fold]), fold, repeat


def _most_folds(catalog: Catalog, cohort: Cohort) -> int:
    """The most folds with a patient of every class in each; with several labels, of the most even label; where masks
    are the labels, of any class."""
    if is_outlined(catalog):
        return int(cohort.present.any(axis=1).sum())
    if has_several(catalog):
        return int(cohort.both.max(initial=0))
    return int(np.bincount(cohort.stratum, minlength=len(label_names(catalog))).min(initial=len(cohort)))


def _require_folds(catalog: Catalog, cohort: Cohort, count: int) -> None:
    most = _most_folds(catalog, cohort)
    if most >= count:
        return
    kind = "some class" if is_outlined(catalog) else "some label" if has_several(catalog) else "every class"
    there = f"{len(cohort):,} ({counted(catalog, cohort.counts)})"
    what = f"{count} test sets need {count} patients with {kind}; there are {there}"
    more = "Add labelled patients" if most < 2 else f"Use study.folds={most}, or add labelled patients"
    raise LabelError(what, do=more)


def _require_classes(catalog: Catalog, cohort: Cohort) -> None:
    if not _measurable(catalog, cohort):
        if is_outlined(catalog):
            raise LabelError("no mask marks anything", do="Give masks that outline at least one class")
        what = f"nothing can be told apart: all labels are the same ({counted(catalog, cohort.counts) or 'none'})"
        raise LabelError(what, do="Give labels of at least two classes")


def _measurable(catalog: Catalog, cohort: Cohort) -> bool:
    """Whether some class or label is present in one image and absent from another; an outlined one only present."""
    present = cohort.present.any(axis=0)
    return bool((present if is_outlined(catalog) else present & cohort.absent.any(axis=0)).any())


def _scarce_in_test(catalog: Catalog, facts: _Facts, splits: Sequence[Split]) -> list[str]:
    """A warning that names what no test set can measure well."""
    least = np.min([measuring(catalog, facts.cohort(catalog, split.test)) for split in splits], axis=0)
    few = [
        f"{name} ({n})" for name, n in zip(label_names(catalog), least.tolist(), strict=True) if n < MINIMUM_PER_CLASS
    ]
    where = "the test set" if len(splits) == 1 else "the smallest test fold"
    do = "have" if is_outlined(catalog) else "have or lack"
    return [f"In {where}, fewer than {MINIMUM_PER_CLASS} patients {do}: {', '.join(few)}."] if few else []


def _twins_said(count: int) -> list[str]:
    if not count:
        return []
    images = "1 image is" if count == 1 else f"{count:,} images are"
    return [f"{images} identical to one of a tested patient: left out of training and pre-training."]
