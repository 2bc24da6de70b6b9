"""Copies never help a model to its test score: the test set stays, training gives way."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from medprior.data.duplicates.copies import copies_in_training, copies_said, without_copies
from medprior.data.duplicates.find import Duplicates
from medprior.data.splits import Split


def copies_of(cluster):
    """Copies of one another, each of the lowest row of its cluster."""
    return Duplicates(cluster, np.where(cluster < 0, np.arange(len(cluster)), cluster), pd.DataFrame())


def split_of(kinds):
    rows = [np.flatnonzero(np.array(kinds) == kind) for kind in range(4)]
    return Split(*rows)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 3)), min_size=1, max_size=30))
def test_after_deduping_training_holds_no_copy_of_anything(rows):
    kinds, marks = zip(*rows, strict=True)
    marks = np.array(marks)
    cluster = np.array([np.flatnonzero(marks == mark)[0] if mark >= 0 else -1 for mark in marks])
    split = split_of(kinds)
    clean = without_copies(split, copies_of(cluster))
    np.testing.assert_array_equal(clean.test, split.test)
    np.testing.assert_array_equal(clean.val, split.val)
    training = np.concatenate([clean.pool, clean.unlabelled])
    kept = cluster[training]
    assert len(np.unique(kept[kept >= 0])) == (kept >= 0).sum()
    others = np.setdiff1d(np.arange(len(kinds)), np.concatenate([split.pool, split.unlabelled]))
    assert not np.isin(kept[kept >= 0], cluster[others]).any()
    before = np.concatenate([split.pool, split.unlabelled])
    assert set(before[cluster[before] < 0]) <= set(training)
    assert (
        copies_in_training(clean, cluster)
        == np.isin(cluster[split.val], cluster[split.test][cluster[split.test] >= 0]).sum()
    )


def test_what_is_said():
    split = split_of([0, 2, 2, 3, 3])  # a test image, two labelled, two unlabelled
    cluster = np.array([0, 0, -1, 0, -1])
    assert "2 images of training look like copies" in copies_said([split], [split], cluster)[0]
    clean = without_copies(split, copies_of(cluster))
    assert copies_said([split], [clean], cluster) == ["2 images are left out of training, for they copy others."]
    assert copies_said([split], [split], np.full(5, -1)) == []
