"""Copies and splits: what training would see of the test set, and how it is kept from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medprior.data.duplicates.find import Duplicates, dropped
from medprior.data.splits import Split

Rows = NDArray[np.int64]


def without_copies(split: Split, copies: Duplicates) -> Split:
    """The split without training rows that copy a row outside training, or another training row; test and validation
    stay as they are."""
    count = len(copies.cluster)
    training, labelled = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    labelled[split.pool] = True
    training[split.pool] = training[split.unlabelled] = True
    needless = dropped(copies.cluster, ~training, labelled, copies.original)
    return replace(
        split, pool=split.pool[~needless[split.pool]], unlabelled=split.unlabelled[~needless[split.unlabelled]]
    )


def copies_of(guarded: NDArray[np.bool_], cluster: Rows) -> NDArray[np.bool_]:
    """(N,) the rows that copy a guarded one, directly or over other copies; guarded rows are not among them."""
    marked = np.unique(cluster[guarded])
    return np.isin(cluster, marked[marked >= 0]) & ~guarded


def copies_in_training(split: Split, cluster: Rows) -> int:
    """How many rows that an encoder may see are copies of a test row."""
    tested = np.unique(cluster[split.test])
    return int(np.isin(cluster[split.pretrain], tested[tested >= 0]).sum())


def copies_said(before: Sequence[Split], after: Sequence[Split], cluster: Rows) -> list[str]:
    """What a verdict must say of copies: those left out, and those of test images that training still sees."""
    gone = max(len(a.pretrain) - len(b.pretrain) for a, b in zip(before, after, strict=True))
    seen = max(copies_in_training(split, cluster) for split in after)
    said = [f"{_images(gone)} left out of training, for they copy others."] if gone else []
    if seen:
        what = "1 image of training looks" if seen == 1 else f"{seen:,} images of training look"
        said.append(
            f"{what} like copies of test images: scores may be too high (medprior run --dedupe leaves them out)."
        )
    return said


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"
