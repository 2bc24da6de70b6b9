"""No patient crosses, test patients stay unseen, published splits are honoured, and impossible ones are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.catalog import Catalog, LabelSpec
from medprior.data.splits import HOLD_OUT_FROM, Split, grouped_folds, study_splits
from medprior.errors import LabelError


def make_catalog(
    targets: np.ndarray,
    patients: list[str] | None = None,
    split: list[str] | None = None,
    contents: list[str] | None = None,
    outlined: bool = False,
) -> Catalog:
    """A catalog of nothing but its table: `targets` (N,) classes, (N, K) labels or outlines, NaN where unknown."""
    count = len(targets)
    columns = targets.reshape(count, -1)
    if targets.ndim == 1:
        spec = LabelSpec.of_classes([f"c{i}" for i in range(max(2, int(np.nanmax(targets, initial=0)) + 1))])
    else:
        several = LabelSpec.of_outlines if outlined else LabelSpec.of_findings
        spec = several([f"f{i}" for i in range(columns.shape[1])])
    table = pd.DataFrame(
        {
            "patient": patients or [""] * count,
            "split": split or [""] * count,
            "hash": contents or [f"h{i}" for i in range(count)],
            "labelled": ~np.isnan(columns).all(axis=1),
        }
    )
    for name, column in zip(spec.columns, columns.T, strict=True):
        table[name] = column
    return Catalog(Path(), table, pd.DataFrame(columns=["path", "reason"]), spec, patients is not None)


@st.composite
def cohorts(draw: st.DrawFn, splits: bool = False) -> Catalog:
    """Up to 60 patients of some images each, some unlabelled, classes or several labels, in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    people = draw(st.integers(12, 60))
    owner = np.concatenate([np.arange(people), rng.integers(0, people, draw(st.integers(0, 80)))])
    if draw(st.booleans()):
        targets = (owner % draw(st.integers(2, 3))).astype(float)
        targets[people:][rng.random(len(owner) - people) < 0.3] = np.nan
    else:
        targets = (rng.random((len(owner), 4)) < [0.5, 0.3, 0.2, 0.05]).astype(float)
        targets[rng.random(targets.shape) < 0.1] = np.nan
        targets[0], targets[1] = 1, 0
        targets[2:6, 0], targets[6:10, 0] = 1, 0
    order = rng.permutation(len(owner))
    named = [f"p{i}" for i in owner[order]]
    kinds = rng.choice(["train", "val", "test", ""], people, p=[0.5, 0.1, 0.3, 0.1])
    kinds[:12] = ["test"] * 6 + ["train"] * 6
    given_split = [str(kinds[i]) for i in owner[order]] if splits else None
    return make_catalog(targets[order], named, given_split)


def check_split(catalog: Catalog, split: Split) -> None:
    patients = catalog.patients()
    labelled = catalog.table["labelled"].to_numpy()
    parts = [split.test, split.val, split.pool, split.unlabelled]
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts)), "no row is used twice"
    for a, b in ((split.test, split.pool), (split.test, split.val), (split.val, split.pool)):
        assert not set(patients[a]) & set(patients[b])
    assert labelled[split.test].all()
    assert labelled[split.pool].all()
    assert labelled[split.val].all()
    for rows in parts:
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 1000), st.integers(1, 2))
def test_cross_validation_tests_every_patient_once_and_none_crosses(catalog: Catalog, seed: int, repeats: int) -> None:
    splits, _ = study_splits(catalog, seed=seed, repeats=repeats)
    patients, labelled = catalog.patients(), catalog.table["labelled"].to_numpy()
    for split in splits:
        check_split(catalog, split)
        unseen = ~np.isin(patients, patients[split.test])
        np.testing.assert_array_equal(split.pretrain, np.flatnonzero(unseen))
        np.testing.assert_array_equal(split.pool, np.flatnonzero(unseen & labelled))
    for repeat in range(repeats):
        tested = np.concatenate([s.test for s in splits if s.repeat == repeat])
        np.testing.assert_array_equal(np.sort(tested), np.flatnonzero(labelled))
    again, _ = study_splits(catalog, seed=seed, repeats=repeats)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(splits, again, strict=True))


@settings(max_examples=40, deadline=None)
@given(cohorts(splits=True))
def test_published_splits_are_honoured(catalog: Catalog) -> None:
    (split,), _ = study_splits(catalog, seed=0)
    check_split(catalog, split)
    published = catalog.table["split"].to_numpy(dtype=str)
    labelled = catalog.table["labelled"].to_numpy()
    assert split.given
    np.testing.assert_array_equal(split.test, np.flatnonzero(labelled & (published == "test")))
    np.testing.assert_array_equal(split.val, np.flatnonzero(labelled & (published == "val")))
    np.testing.assert_array_equal(split.pretrain, np.flatnonzero(published != "test"))


def test_a_patient_in_two_published_splits_stays_on_the_test_side() -> None:
    split = ["train", "train", "test", "test", "val", "train", ""]
    catalog = make_catalog(np.array([0, 1, 0, 1, 1, 0, np.nan]), ["a", "b", "a", "c", "b", "d", "a"], split)
    (found,), _ = study_splits(catalog, seed=0)
    check_split(catalog, found)
    assert found.test.tolist() == [2, 3]
    assert found.pool.tolist() == [5]
    assert found.pretrain.tolist() == [1, 4, 5]


def test_unlabelled_test_images_are_hidden_from_encoders() -> None:
    targets = np.array([0.0, 1.0] * 10 + [np.nan] * 2)
    catalog = make_catalog(targets, [f"p{i}" for i in range(20)] + ["x", "x"], ["train"] * 20 + ["test", ""])
    splits, warnings = study_splits(catalog, seed=0)
    assert not any(np.isin([20, 21], split.pretrain).any() for split in splits)
    assert "no labelled test images" in warnings[0]


def test_copies_of_tested_images_are_left_out_and_counted() -> None:
    contents = ["a", "b", "c", "d", "a", "e"]
    catalog = make_catalog(np.array([0, 1, 0, 1, 0, 1.0]), None, ["test"] * 2 + ["train"] * 4, contents)
    (split,), warnings = study_splits(catalog, seed=0)
    assert split.pretrain.tolist() == [2, 3, 5]
    assert any(w.startswith("1 image is identical to one of a tested patient") for w in warnings)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_many_patients_give_one_stratified_hold_out(fraction: float) -> None:
    rng = np.random.default_rng(0)
    people = HOLD_OUT_FROM + 40
    kind = rng.choice(3, people, p=[0.8, 0.15, 0.05])
    owner = np.concatenate([np.arange(people), rng.integers(0, people, 100)])
    catalog = make_catalog(kind[owner].astype(float), [f"p{i}" for i in owner])
    (split,), _ = study_splits(catalog, seed=1, test_fraction=fraction)
    check_split(catalog, split)
    assert not split.given
    tested = np.unique(owner[split.test])
    for stratum in range(3):
        assert abs((kind[tested] == stratum).sum() - fraction * (kind == stratum).sum()) <= 1
    (other,), _ = study_splits(catalog, seed=2, test_fraction=fraction)
    assert not np.array_equal(split.test, other.test)


def test_hold_out_or_folds_depends_on_labelled_patients_alone() -> None:
    few = np.array([0.0, 1.0] * ((HOLD_OUT_FROM - 2) // 2) + [np.nan] * 500)
    assert len(study_splits(make_catalog(few), seed=0)[0]) == 5
    assert len(study_splits(make_catalog(np.array([0.0, 1.0] * (HOLD_OUT_FROM // 2))), seed=0)[0]) == 1
    assert len(study_splits(make_catalog(np.array([0.0, 1.0] * HOLD_OUT_FROM)), seed=0, folds=3)[0]) == 3


def test_folds_follow_the_rarest_class_and_too_many_are_refused() -> None:
    targets = np.array([0.0] * 30 + [1.0] * 3)
    assert len(study_splits(make_catalog(targets), seed=0)[0]) == 3
    with pytest.raises(LabelError, match=r"4 test sets need 4 patients.*c0 30, c1 3") as caught:
        study_splits(make_catalog(targets), seed=0, folds=4)
    assert "study.folds=3" in str(caught.value)
    with pytest.raises(LabelError, match="2 test sets need 2 patients"):
        study_splits(make_catalog(np.array([0.0] * 30 + [1.0])), seed=0)


def test_one_class_is_refused_with_the_counts() -> None:
    with pytest.raises(LabelError, match=r"all labels are the same \(c0 9, c1 0\)"):
        study_splits(make_catalog(np.zeros(9)), seed=0)
    with pytest.raises(LabelError, match=r"published test set has one class only \(c0 2, c1 0\)"):
        study_splits(make_catalog(np.array([0, 0, 0, 1.0]), None, ["test", "test", "train", "train"]), seed=0)


def test_labels_that_the_test_set_cannot_measure_are_named() -> None:
    targets = np.zeros((400, 2))
    targets[::2, 0] = 1
    targets[:4, 1] = 1
    _, warnings = study_splits(make_catalog(targets), seed=0)
    assert any("test set, fewer than 4 patients have or lack: f1" in w for w in warnings)


@pytest.mark.parametrize(("people", "count"), [(2, 2), (3, 3), (40, 5), (HOLD_OUT_FROM - 1, 5), (HOLD_OUT_FROM, 1)])
def test_classes_that_every_mask_has_are_split(people: int, count: int) -> None:
    catalog = make_catalog(np.ones((people, 2)), outlined=True)
    splits, _ = study_splits(catalog, seed=0)
    assert len(splits) == count
    for split in splits:
        check_split(catalog, split)
        assert len(split.test) and len(split.pool)
    if count > 1:
        tested = np.concatenate([split.test for split in splits])
        np.testing.assert_array_equal(np.sort(tested), np.arange(people))


def test_every_test_fold_has_something_to_measure() -> None:
    targets = np.zeros((30, 2))
    targets[:5, 0], targets[3, 1] = 1, 1
    splits, warnings = study_splits(make_catalog(targets, outlined=True), seed=4)
    assert len(splits) == 5 and all(targets[split.test].any() for split in splits)
    assert warnings == ["In the smallest test fold, fewer than 4 patients have: f0 (1), f1 (0)."]


def test_outlines_of_too_few_are_refused() -> None:
    with pytest.raises(LabelError, match="no mask marks anything"):
        study_splits(make_catalog(np.zeros((9, 2)), outlined=True), seed=0)
    one = np.zeros((9, 2))
    one[3, 1] = 1
    with pytest.raises(LabelError, match=r"2 test sets need 2 patients with some class; there are 9 \(f0 0, f1 1\)"):
        study_splits(make_catalog(one, outlined=True), seed=0)
    with pytest.raises(LabelError, match="2 test sets need 2 patients with some class; there are 1"):
        study_splits(make_catalog(np.ones((1, 1)), outlined=True), seed=0)
    with pytest.raises(LabelError, match="no mask of the published test set marks anything"):
        study_splits(make_catalog(one, None, ["test"] * 3 + ["train"] * 6, outlined=True), seed=0)


def test_few_who_have_an_outlined_class_are_named_and_few_who_lack_it_are_not() -> None:
    targets = np.ones((400, 2))
    targets[4:, 1] = 0
    _, warnings = study_splits(make_catalog(targets, outlined=True), seed=0)
    assert warnings == ["In the test set, fewer than 4 patients have: f1 (1)."]


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 6), st.integers(6, 80), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_grouped_folds_are_stratified_and_no_group_crosses(folds: int, groups: int, strata: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(groups), rng.integers(0, groups, 50)])
    kind = rng.integers(0, strata, groups)
    found = grouped_folds(owner.astype(str), kind[owner], folds, seed)
    fold_of = found[:groups]
    np.testing.assert_array_equal(found, fold_of[owner])
    assert np.ptp(np.bincount(fold_of, minlength=folds)) <= 1
    for stratum in range(strata):
        assert np.ptp(np.bincount(fold_of[kind == stratum], minlength=folds)) <= 1
    np.testing.assert_array_equal(found, grouped_folds(owner.astype(str), kind[owner], folds, seed))


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(LabelError, match="5 folds need 5 patients, there are 3"):
        grouped_folds(np.array(["a", "a", "b", "c"]), np.zeros(4), 5, 0)
