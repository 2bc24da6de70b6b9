"""Label budgets: how many labelled patients an adaptation may use, each budget within the next larger one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from medprior.data.strata import (
    Cohort,
    Rows,
    counted,
    has_several,
    is_outlined,
    label_names,
    measuring,
    stratified_order,
)
from medprior.errors import LabelError, SettingsError

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog

Budget = int | Literal["all"]
MINIMUM_PER_CLASS = 4


def budget_rows(
    catalog: Catalog, pool: Rows, budgets: Sequence[Budget], *, seed: int
) -> tuple[dict[int, Rows], list[str]]:
    """Rows of nested, stratified, seeded budgets, and warnings.

    Every class has `MINIMUM_PER_CLASS` patients in every budget, also where a rare one then has more than its share. In
    multi-label sets and where masks are the labels that is not asked; a warning names the labels that have fewer.

    Args:
        pool: labelled rows to draw from.
        budgets: numbers of patients, or "all"; the same one twice counts once, and more than there are is "all".
        seed: each gives a chain of its own, in which a smaller budget lies within every larger one.

    Returns:
        Catalog rows (ascending) by the number of patients that have them, smallest first; all images of a patient
        come with it, so the number of images is the length of the rows.

    Raises:
        LabelError: too few patients of a class, with the counts and the smallest budget that would do.
        SettingsError: a budget below 1.
    """
    cohort = Cohort.of(catalog, pool)
    sizes, warnings = _sizes(budgets, len(cohort))
    least = 0 if has_several(catalog) else MINIMUM_PER_CLASS
    if least:
        _require(catalog, cohort, sizes[0], least)
    order = stratified_order(cohort.stratum, np.random.default_rng(seed), least)
    unequal = _raised(catalog, cohort, sizes, least) if least else _scarce(catalog, cohort, order, sizes)
    return {size: cohort.rows_of(order[:size]) for size in sizes}, [*warnings, *unequal]


def measurable_labels(catalog: Catalog, rows: Rows, minimum: int = MINIMUM_PER_CLASS) -> list[int]:
    """Positions of the labels (or classes) that at least `minimum` patients of `rows` have and as many lack; where
    masks are the labels, those that as many have."""
    return [int(k) for k in np.flatnonzero(measuring(catalog, Cohort.of(catalog, rows)) >= minimum)]


def _sizes(budgets: Sequence[Budget], most: int) -> tuple[list[int], list[str]]:
    if not most:
        raise LabelError("no labelled patients are left to learn from", do="Add labels to images outside the test set")
    asked = [most if budget == "all" else budget for budget in budgets]
    if not asked or min(asked) < 1:
        raise SettingsError(
            f"no budget can be {min(asked, default='empty')}", where="budgets", do='Give numbers of patients, or "all"'
        )
    over = sorted({size for size in asked if size > most})
    warnings = [
        f"A budget of {size:,} patients was asked for, {most:,} are there: all of them are used." for size in over
    ]
    return sorted({min(size, most) for size in asked}), warnings


def _require(catalog: Catalog, cohort: Cohort, smallest: int, least: int) -> None:
    """Every class can have `least` patients in every budget."""
    whole = np.bincount(cohort.stratum, minlength=len(label_names(catalog)))
    if whole.min() < least:
        what = f"too few patients to learn from: {counted(catalog, whole)}"
        raise LabelError(what, do=f"Add labelled patients: every class needs {least} outside the test set")
    if smallest < least * len(whole):
        what = f"a budget of {smallest:,} patients cannot hold {least} of each class ({counted(catalog, whole)})"
        raise LabelError(
            what, where="budgets", do=f"The smallest budget possible here is {least * len(whole)} patients"
        )


def _raised(catalog: Catalog, cohort: Cohort, sizes: list[int], least: int) -> list[str]:
    """A warning for each budget in which a rare class has more than twice its share."""
    shares = np.bincount(cohort.stratum, minlength=len(label_names(catalog))) / len(cohort)
    warnings = []
    for size in sizes:
        rare = [name for name, share in zip(label_names(catalog), shares, strict=True) if least > 2 * share * size]
        if rare:
            warnings.append(
                f"With {size:,} patients, {', '.join(rare)} has {least} of them, more than twice its share."
            )
    return warnings


def _scarce(catalog: Catalog, cohort: Cohort, order: Rows, sizes: list[int]) -> list[str]:
    """A warning for each budget in which some labels can hardly be learned."""
    outlined = is_outlined(catalog)
    warnings = []
    for size in sizes:
        chosen = order[:size]
        has, lacks = cohort.present[chosen].sum(axis=0), cohort.absent[chosen].sum(axis=0)
        there = (has if outlined else np.minimum(has, lacks)).tolist()
        wanted = min(MINIMUM_PER_CLASS, size) if outlined else MINIMUM_PER_CLASS
        few = [f"{name} ({n})" for name, n in zip(label_names(catalog), there, strict=True) if n < wanted]
        if few:
            do = "have" if outlined else "have or lack"
            warnings.append(f"With {size:,} patients, fewer than {wanted} {do}: {', '.join(few)}.")
    return warnings
