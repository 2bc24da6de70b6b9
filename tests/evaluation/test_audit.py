"""The parts of a shortcut audit: a column that can be read, that goes with the label, and that scores rest on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from medprior.evaluation.audit import association, readable, scored_within, within_groups
from medprior.evaluation.subgroups import Fold, Model
from medprior.evaluation.yardstick import Chances

BINARY, ALL = Chances("binary", 2), np.ones(2, bool)


def test_a_column_that_the_features_hold_can_be_read_and_noise_cannot():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(100), 2)
    member = people % 2
    noise = rng.standard_normal((200, 16))
    marked = noise + 3 * member[:, None] * (np.arange(16) == 5)
    assert readable(marked, member, people).auroc.low > 0.9
    nothing = readable(noise, member, people).auroc
    assert nothing.low < 0.5 < nothing.high + 0.1
    assert readable(marked, member, people).patients == 100


def test_what_identifies_patients_alone_does_not_make_a_column_readable():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(60), 5)
    signature = rng.standard_normal((60, 40))[people]
    assert readable(signature, rng.permutation(60)[people] % 2, people).auroc.low < 0.6


def test_small_and_unknown_groups_are_not_read():
    people = np.arange(40)
    member = np.where(people < 5, 2, np.where(people < 10, -1, people % 2))
    found = readable(np.random.default_rng(2).standard_normal((40, 4)), member, people)
    assert found.groups == 2
    assert found.patients == 30
    assert "groups" in readable(np.ones((40, 4)), np.zeros(40, int), people).auroc.reason


def test_of_three_groups_the_mean_of_each_against_the_rest_is_read():
    rng = np.random.default_rng(3)
    people = np.arange(120)
    member = people % 3
    features = rng.standard_normal((120, 6)) + 4 * np.eye(3, 6)[member]
    assert readable(features, member, people).auroc.value > 0.95


def test_association_is_the_chi_square_test_over_patients():
    people = np.repeat(np.arange(200), 2)
    member = people % 2
    targets = ((people % 5 == 0) | (people % 4 == 1)).astype(float)
    table = [[((member[::2] == g) & (targets[::2] == t)).sum() for t in (0, 1)] for g in (0, 1)]
    known = stats.chi2_contingency(np.array(table), correction=False)
    found = association(member, targets, people, "binary", 2)
    assert found.p == pytest.approx(known.pvalue)
    assert found.strength == pytest.approx(np.sqrt(known.statistic / 200))


def test_rare_findings_are_tested_by_drawing_tables():
    people = np.arange(60)
    targets = (people < 6).astype(float)
    member = (people < 30).astype(int)
    fisher = stats.fisher_exact([[24, 6], [30, 0]]).pvalue
    assert association(member, targets, people, "binary", 2).p == pytest.approx(fisher, rel=0.2)


def test_of_several_labels_the_clearest_counts_corrected():
    rng = np.random.default_rng(4)
    people = np.arange(300)
    member = people % 2
    targets = (rng.random((300, 4)) < 0.3).astype(float)
    targets[:, 2] = rng.random(300) < 0.2 + 0.5 * member
    targets[::7, 2] = np.nan
    alone = association(member, targets[:, 2], people, "binary", 2)
    together = association(member, targets, people, "multilabel", 4)
    assert together.p == pytest.approx(4 * alone.p)
    assert together.strength == pytest.approx(alone.strength)


def test_a_label_without_two_sides_goes_with_nothing():
    assert np.isnan(association(np.arange(20) % 2, np.zeros(20), np.arange(20), "binary", 2).p)


def models(rng, leans, patients=300, seeds=2):
    """Scores that lean on the site by `leans` and on the finding by 1; the sick are four times as often at site 1."""
    people = np.arange(patients)
    truth = people % 2.0
    site = (rng.random(patients) < np.where(truth == 1, 0.8, 0.2)).astype(int)
    hard = rng.standard_normal(patients)
    made = []
    for seed in range(seeds):
        chance = 1 / (1 + np.exp(-(truth + leans * site + hard + 0.1 * rng.standard_normal(patients))))
        made.append(Model(seed, 0, (Fold(people, np.stack([1 - chance, chance], 1), truth, people, site),)))
    return made


def test_a_score_that_leans_on_the_site_falls_within_sites():
    (first, *_) = made = models(np.random.default_rng(5), 2.0)
    found = within_groups(made, "auroc", BINARY, ALL)
    fold = first.folds[0]
    pooled = roc_auc_score(fold.targets, fold.scores[:, 1])
    inner = [roc_auc_score(fold.targets[fold.member == g], fold.scores[fold.member == g, 1]) for g in (0, 1)]
    one = within_groups([first], "auroc", BINARY, ALL)
    assert one.pooled == pytest.approx(pooled)
    assert one.within == pytest.approx(np.average(inner, weights=np.bincount(fold.member)))
    assert found.lost.low > 0.03


def test_a_score_that_rests_on_the_finding_alone_loses_nothing_more_often_than_said():
    rng = np.random.default_rng(6)
    lows = [within_groups(models(rng, 0.0, patients=150), "auroc", BINARY, ALL).lost.low for _ in range(100)]
    assert sum(low > 0 for low in lows) <= 8


def test_where_every_site_has_one_class_nothing_is_measured_within():
    people = np.arange(80)
    truth = people % 2.0
    fold = Fold(people, np.stack([1 - truth, truth], 1), truth, people, truth.astype(int))
    found = within_groups([Model(0, 0, (fold,))], "auroc", BINARY, ALL)
    assert found.alone
    assert found.lost.low is None


def test_labels_that_a_group_cannot_measure_do_not_stop_the_others():
    people = np.arange(100)
    targets = np.stack([people // 2 % 2.0, people % 2.0], 1)
    fold = Fold(people, np.random.default_rng(7).random((100, 2)), targets, people, people % 2)
    assert scored_within(Model(0, 0, (fold,)), Chances("multilabel", 2), ALL).tolist() == [True, False]
