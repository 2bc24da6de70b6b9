"""Budgets count patients, lie in each other, are stratified and hold every class."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.budgets import MINIMUM_PER_CLASS, budget_rows, measurable_labels
from medprior.data.catalog import Catalog, LabelSpec
from medprior.data.strata import stratified_order
from medprior.errors import LabelError, SettingsError


def make_catalog(targets: np.ndarray, owner: np.ndarray, outlined: bool = False) -> Catalog:
    """Labelled rows with these owners; targets (N,) classes, (N, K) labels or outlined classes."""
    columns = targets.reshape(len(targets), -1)
    if targets.ndim == 1:
        spec = LabelSpec.of_classes([f"c{i}" for i in range(int(targets.max()) + 1)])
    else:
        several = LabelSpec.of_outlines if outlined else LabelSpec.of_findings
        spec = several([f"f{i}" for i in range(columns.shape[1])])
    table = pd.DataFrame({"patient": [f"p{i:03}" for i in owner], "labelled": True})
    for name, column in zip(spec.columns, columns.T, strict=True):
        table[name] = column
    return Catalog(Path(), table, pd.DataFrame(columns=["path", "reason"]), spec, True)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Catalog, np.ndarray, np.ndarray]:
    """A catalog, the owner of each row and the class of each patient; every class has enough patients."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(MINIMUM_PER_CLASS, 60), min_size=2, max_size=5))
    kind = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    owner = np.concatenate([np.arange(len(kind)), rng.integers(0, len(kind), 40)])
    return make_catalog(kind[owner].astype(float), owner), owner, kind


@settings(max_examples=80, deadline=None)
@given(pools(), st.lists(st.integers(0, 200), max_size=5), st.integers(0, 99))
def test_budgets_are_nested_stratified_and_whole(
    pool: tuple[Catalog, np.ndarray, np.ndarray], more: list[int], seed: int
) -> None:
    catalog, owner, kind = pool
    least = MINIMUM_PER_CLASS * (kind.max() + 1)
    asked = [least + extra for extra in more]
    found, _ = budget_rows(catalog, np.arange(len(catalog)), [*asked, "all"], seed=seed)
    assert list(found) == sorted({min(size, len(kind)) for size in asked} | {len(kind)})
    before = np.empty(0, int)
    for size, rows in found.items():
        people = np.unique(owner[rows])
        assert len(people) == size, "the key is the number of patients"
        np.testing.assert_array_equal(rows, np.flatnonzero(np.isin(owner, people)))
        assert np.isin(before, rows).all(), "a smaller budget lies in the larger"
        counts, shares = np.bincount(kind[people]), np.bincount(kind) * size / len(kind)
        assert counts.min() >= MINIMUM_PER_CLASS
        if np.floor(shares).min() >= MINIMUM_PER_CLASS:
            assert np.abs(counts - shares).max() < 1
        before = rows
    again, _ = budget_rows(catalog, np.arange(len(catalog)), [*asked, "all"], seed=seed)
    assert all(np.array_equal(found[size], again[size]) for size in found)


def test_a_budget_does_not_depend_on_the_others_asked_for() -> None:
    catalog = make_catalog(np.arange(90) % 3 * 1.0, np.arange(90))
    alone, _ = budget_rows(catalog, np.arange(90), [30], seed=0)
    among, _ = budget_rows(catalog, np.arange(90), [12, 30, 60], seed=0)
    np.testing.assert_array_equal(alone[30], among[30])


def test_seeds_give_other_chains() -> None:
    catalog = make_catalog(np.arange(60) % 2 * 1.0, np.arange(60))
    chains = {tuple(budget_rows(catalog, np.arange(60), [10], seed=seed)[0][10]) for seed in range(20)}
    assert len(chains) == 20


def test_only_the_pool_is_drawn_from() -> None:
    catalog = make_catalog(np.arange(60) % 2 * 1.0, np.arange(60))
    found, _ = budget_rows(catalog, np.arange(20, 60), [8, "all"], seed=0)
    assert list(found) == [8, 40]
    np.testing.assert_array_equal(found[40], np.arange(20, 60))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_every_prefix_of_the_order_keeps_its_quota(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = stratified_order(strata, rng)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(strata)))
    so_far = np.cumsum(strata[order][:, None] == np.arange(len(sizes)), axis=0)
    exact = np.arange(1, len(strata) + 1)[:, None] * np.array(sizes) / len(strata)
    assert np.abs(so_far - exact).max() < 1


def test_a_rare_class_is_raised_to_the_minimum_and_that_is_said() -> None:
    kind = np.array([0.0] * 190 + [1.0] * 10)
    catalog = make_catalog(kind, np.arange(200))
    found, warnings = budget_rows(catalog, np.arange(200), [20, 120], seed=0)
    assert np.bincount(kind[found[20]].astype(int)).tolist() == [16, 4]
    assert np.bincount(kind[found[120]].astype(int)).tolist() == [114, 6]
    assert warnings == ["With 20 patients, c1 has 4 of them, more than twice its share."]


def test_impossible_budgets_say_the_counts_and_what_would_do() -> None:
    catalog = make_catalog(np.array([0.0] * 30 + [1.0] * 9), np.arange(39))
    with pytest.raises(LabelError, match=r"7 patients cannot hold 4 of each class \(c0 30, c1 9\)") as caught:
        budget_rows(catalog, np.arange(39), [7, 20], seed=0)
    assert "smallest budget possible here is 8 patients" in str(caught.value)
    assert list(budget_rows(catalog, np.arange(39), [8], seed=0)[0]) == [8]
    with pytest.raises(LabelError, match=r"too few patients to learn from: c0 30, c1 3"):
        budget_rows(catalog, np.arange(33), ["all"], seed=0)
    with pytest.raises(LabelError, match="no labelled patients"):
        budget_rows(catalog, np.empty(0, np.int64), ["all"], seed=0)
    with pytest.raises(SettingsError, match="no budget can be 0"):
        budget_rows(catalog, np.arange(39), [0, 20], seed=0)


def test_too_large_budgets_become_all_once() -> None:
    catalog = make_catalog(np.arange(40) % 2 * 1.0, np.arange(40))
    found, warnings = budget_rows(catalog, np.arange(40), [10, 10, 500, "all", 40], seed=0)
    assert list(found) == [10, 40]
    assert warnings == ["A budget of 500 patients was asked for, 40 are there: all of them are used."]


def test_a_patient_belongs_to_its_most_frequent_class_and_of_those_tied_to_the_rarest() -> None:
    owner = np.repeat(np.arange(10), 3)
    kind = np.zeros(30)
    kind[[0, 1]] = 1  # patient 0: twice class 1
    kind[[3]], kind[[6, 9, 12]] = 1, 1
    pair = np.concatenate([kind, np.ones(1)])  # patient 1: class 1 as often as class 0
    catalog = make_catalog(pair, np.concatenate([owner, [1]]))
    with pytest.raises(LabelError, match=r"c0 8, c1 2"):
        budget_rows(catalog, np.arange(31), ["all"], seed=0)


def test_multi_label_budgets_are_stratified_by_the_rarest_label() -> None:
    labels = np.zeros((100, 2))
    labels[:50, 0] = 1
    labels[:10, 1] = 1
    catalog = make_catalog(labels, np.arange(100))
    found, warnings = budget_rows(catalog, np.arange(100), [10, 50], seed=3)
    assert labels[found[10]].sum(axis=0).tolist() == [5, 1]
    assert labels[found[50]].sum(axis=0).tolist() == [25, 5]
    assert warnings == ["With 10 patients, fewer than 4 have or lack: f1 (1)."]


def test_budgets_of_masks_are_nested_from_two_patients_on() -> None:
    catalog = make_catalog(np.ones((150, 2)), np.arange(150), outlined=True)
    found, warnings = budget_rows(catalog, np.arange(150), [64, 2, 16, 4, 8], seed=1)
    assert {size: len(rows) for size, rows in found.items()} == {2: 2, 4: 4, 8: 8, 16: 16, 64: 64}
    chain = list(found.values())
    assert all(np.isin(small, large).all() for small, large in pairwise(chain))
    assert warnings == [], "nobody need be without a class"
    assert measurable_labels(catalog, np.arange(150)) == [0, 1]


def test_budgets_of_masks_are_stratified_by_the_rarest_class() -> None:
    targets = np.ones((100, 2))
    targets[10:, 1] = 0
    catalog = make_catalog(targets, np.arange(100), outlined=True)
    found, warnings = budget_rows(catalog, np.arange(100), [2, 20, 50], seed=3)
    assert [targets[rows, 1].sum() for rows in (found[20], found[50])] == [2, 5]
    few = int(targets[found[2], 1].sum())
    assert warnings == [
        f"With 2 patients, fewer than 2 have: f1 ({few}).",
        "With 20 patients, fewer than 4 have: f1 (2).",
    ]


def test_measurable_labels_have_patients_with_and_without() -> None:
    labels = np.array([[1, 1, 0, np.nan], [1, 0, 0, np.nan], [0, 1, 0, 1], [0, 0, 1, 0]])
    catalog = make_catalog(labels, np.arange(4))
    assert measurable_labels(catalog, np.arange(4), 2) == [0, 1]
    assert measurable_labels(catalog, np.arange(4), 1) == [0, 1, 2, 3]
    same_person = make_catalog(labels[:, :2], np.array([0, 0, 1, 1]))
    assert measurable_labels(same_person, np.arange(4), 2) == [1]
    assert measurable_labels(make_catalog(np.array([0, 0, 1.0]), np.arange(3)), np.arange(3), 1) == [0, 1]
