"""Scores within groups: the group's own, the difference to the rest, and what may be said of the worst."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medprior.evaluation.intervals import FEWEST
from medprior.evaluation.segmentation import METRICS as OUTLINE_METRICS
from medprior.evaluation.subgroups import (
    Fold,
    Model,
    comparisons,
    corrected,
    group_scores,
    shared_patients,
    worst,
)
from medprior.evaluation.yardstick import Chances, Outlines

BINARY = Chances("binary", 2)
ALL = np.ones(2, bool)


def model(rng, shifts, patients=200, seed=0, member=None, images=1, folds=1):
    """Predictions whose classes lie `shifts[group]` deviations apart; patients cycle through groups and classes."""
    rows = np.arange(patients * images)
    people = rows // images
    member = people // 2 % len(shifts) if member is None else member
    truth = people % 2.0
    hard = rng.standard_normal(patients)[people]
    chance = 1 / (1 + np.exp(-(np.asarray(shifts)[member] * truth + hard + 0.1 * rng.standard_normal(len(rows)))))
    whole = Fold(rows, np.stack([1 - chance, chance], 1), truth, people, member)
    return Model(seed, 0, tuple(whole.take(people // 10 % folds == fold) for fold in range(folds)))


def scored(models, groups):
    return group_scores(models, groups, "auroc", BINARY, ALL)


def test_a_group_scores_what_its_own_images_score():
    one = model(np.random.default_rng(0), [1.0, 2.0, 0.5])
    fold = one.folds[0]
    for found in scored([one], 3):
        mine, rest = fold.take(fold.member == found.group), fold.take(fold.member != found.group)
        ours, theirs = (roc_auc_score(part.targets, part.scores[:, 1]) for part in (mine, rest))
        assert found.score().value == pytest.approx(ours)
        assert found.difference().value == pytest.approx(ours - theirs)
        assert found.patients == found.images == len(mine)


def test_the_variance_of_a_difference_is_that_of_both_sides():
    one = model(np.random.default_rng(1), [1.0, 2.0], images=2)
    first, second = scored([one], 2)
    both = (first.inside.moves**2).sum() + (second.inside.moves**2).sum()
    assert (first.apart.moves**2).sum() == pytest.approx(both)


def test_of_two_groups_each_is_the_rest_of_the_other():
    first, second = found = scored([model(np.random.default_rng(2), [1.0, 1.5])], 2)
    assert first.difference().value == pytest.approx(-second.difference().value)
    assert comparisons(found) == 1
    assert corrected(found).tolist() == [first.difference().p, second.difference().p]


def test_a_group_that_is_read_worse_is_found_and_named():
    rng = np.random.default_rng(3)
    found = scored([model(rng, [2.0, 2.0, 0.2], patients=600, seed=seed) for seed in range(3)], 3)
    lowest = worst(found)
    assert lowest is not None
    assert lowest.group == 2
    assert corrected(found)[2] < 0.01
    wide, usual = lowest.difference(1 - 0.05 / 3), lowest.difference()
    assert wide.low < usual.low < usual.high < wide.high < 0


def test_equal_groups_are_told_apart_no_more_often_than_said():
    rng = np.random.default_rng(4)
    studies = 150
    wrong = sum(np.nanmin(corrected(scored([model(rng, [1.2] * 3, patients=180)], 3))) < 0.05 for _ in range(studies))
    assert wrong <= 0.05 * studies + 2.5 * np.sqrt(0.05 * 0.95 * studies)


def test_small_groups_get_no_interval_and_say_why():
    member = (np.arange(200) < 2 * FEWEST - 2).astype(int)
    large, small = found = scored([model(np.random.default_rng(5), [1.0, 1.0], member=member)], 2)
    assert large.score().low is not None
    assert small.score().low is None
    assert f"only {FEWEST - 1} patients" in small.score().reason
    assert large.difference().low is None
    assert worst(found) is None
    assert np.isnan(corrected(found)).all()


def test_a_group_of_one_class_has_no_score():
    member = (np.arange(200) % 2 * (np.arange(200) < 100)).astype(int)
    found = scored([model(np.random.default_rng(6), [1.0, 1.0], member=member)], 2)
    assert np.isnan(found[1].score().value)
    assert found[1].score().reason


def test_folds_that_hold_hardly_any_of_a_group_give_no_interval():
    rng = np.random.default_rng(7)
    few = scored([model(rng, [1.0] * 5, patients=200, folds=10)], 5)
    many = scored([model(rng, [1.0] * 5, patients=800, folds=10)], 5)
    assert all("folds hold" in one.score().reason for one in few)
    assert all(one.score().low is not None for one in many)


def test_the_unknown_count_nowhere():
    rng = np.random.default_rng(8)
    whole = model(rng, [1.0, 1.0], patients=200)
    fold = whole.folds[0]
    member = np.where(fold.patients % 7 == 0, -1, fold.member)
    with_gaps = Fold(fold.rows, fold.scores, fold.targets, fold.patients, member)
    known = with_gaps.take(member >= 0)
    ours, theirs = (scored([Model(0, 0, (one,))], 2) for one in (with_gaps, known))
    for one, other in zip(ours, theirs, strict=True):
        assert one.score() == other.score()
        assert one.difference() == other.difference()


def test_patients_in_two_groups_are_counted():
    assert shared_patients(np.array([0, 1, 0, 0, -1, 1]), np.array(["a", "a", "b", "b", "c", "c"])) == 1


def test_both_sides_are_scored_on_the_labels_that_both_can_measure():
    rng = np.random.default_rng(9)
    rows = np.arange(200)
    member = rows // 100
    targets = np.stack([rows % 2.0, np.where(member == 0, rows // 2 % 2.0, 0.0)], 1)
    scores = np.clip(0.5 * targets + 0.5 * rng.random((200, 2)), 0, 1)
    scores[:, 0] = rng.random(200)
    one = Model(0, 0, (Fold(rows, scores, targets, rows, member),))
    found = group_scores([one], 2, "auroc", Chances("multilabel", 2), ALL)
    for group in found:
        mine = member == group.group
        assert group.score().value == pytest.approx(roc_auc_score(targets[mine, 0], scores[mine, 0]))


def test_outlines_are_grouped_by_their_dice():
    rng = np.random.default_rng(10)
    rows = np.arange(60)
    dice = np.where(rows[:, None] % 2 == 0, 0.9, 0.7) + rng.uniform(-0.05, 0.05, (60, 1))
    scores = np.repeat(dice[..., None], len(OUTLINE_METRICS), axis=2)
    one = Model(0, 0, (Fold(rows, scores, np.ones((60, 1)), rows, rows % 2),))
    found = group_scores([one], 2, "dice", Outlines(1), np.ones(1, bool))
    assert found[1].score().value == pytest.approx(dice[1::2].mean())
    assert found[1].difference().high < 0
