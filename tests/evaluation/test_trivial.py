"""What marking everything scores, held against maps that really are all of one class."""

from __future__ import annotations

import numpy as np
import pytest

from medprior.evaluation.segmentation import METRICS, score_labels
from medprior.evaluation.trivial import class_sizes, marked
from medprior.evaluation.yardstick import Outlines, packed

CLASSES = 4


@pytest.mark.parametrize("label", range(CLASSES))
def test_sizes_say_what_a_map_of_one_class_scores(label: int) -> None:
    rng = np.random.default_rng(label)
    truths = [rng.integers(-1, top, (5, 9, 7)) for top in (2, 3, 4)]  # some lack a class, all have unjudged voxels
    whole = [score_labels(np.full(truth.shape, label), truth, CLASSES, (1, 1, 1)) for truth in truths]
    expected, targets = packed(whole)
    found = marked(np.stack([class_sizes(truth, CLASSES) for truth in truths]), label)
    dice = METRICS.index("dice")
    np.testing.assert_allclose(found[:, :, dice], expected[:, :, dice], rtol=0, atol=1e-12)
    patients, keep = np.arange(3), np.ones(CLASSES - 1, bool)
    values = [Outlines(CLASSES - 1).estimate("dice", one, targets, patients, keep).value for one in (found, expected)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
