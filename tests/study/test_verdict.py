"""Verdicts on constructed studies: pre-training helps, hurts, cannot be told, too few patients."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medprior.errors import RunError
from medprior.study.results import Arm, CellResult, StudyResults
from medprior.study.verdict.findings import Saving, examine
from medprior.study.verdict.phrases import short
from medprior.study.verdict.verdict import make_verdict, print_verdict

HELPS = {"scratch": (0.62, 0.72, 0.85), "scratch-2x": (0.63, 0.73, 0.85), "mae": (0.78, 0.82, 0.86)}
HURTS = {"scratch": (0.80, 0.86, 0.92), "scratch-2x": (0.80, 0.86, 0.92), "mae": (0.62, 0.70, 0.80)}
SAME = {"scratch": (0.70, 0.78, 0.84), "scratch-2x": (0.70, 0.78, 0.84), "mae": (0.70, 0.78, 0.84)}
BUDGETS = (20, 80, 320)
MAE, SCRATCH = Arm("mae", "resnet18", "fine-tune"), Arm("scratch", "resnet18", "scratch")


def study(curves: Mapping[str, tuple[float, ...]], *, patients=400, seeds=5, runs=1, folds=1, encoder="resnet18"):
    """Cells whose expected AUROC is the given curve: patients differ in difficulty, seeds by a little noise."""
    rng = np.random.default_rng(0)
    truth = np.arange(patients * folds) // folds % 2.0
    hard = rng.standard_normal(patients * folds)
    cells = []
    for arm, curve in curves.items():
        for budget, auroc in zip(BUDGETS, curve, strict=False):
            for seed in range(seeds):
                for fold in range(folds):
                    rows = np.arange(fold, patients * folds, folds) if folds > 1 else np.arange(patients)
                    cells.append(cell(arm, encoder, budget, seed, runs, fold, rows, auroc, truth, hard, rng))
    return StudyResults(tuple(cells), "binary", ("normal", "pneumonia"))


def cell(arm, encoder, budget, seed, runs, fold, rows, auroc, truth, hard, rng):
    shift = np.sqrt(2) * norm.ppf(auroc) + 0.03 * rng.standard_normal()
    logit = shift * truth[rows] + 0.9 * hard[rows] + np.sqrt(0.19) * rng.standard_normal(len(rows))
    positive = 1 / (1 + np.exp(-logit))
    scratch = arm.startswith("scratch")
    return CellResult(
        arm="scratch" if scratch else arm.split("/")[0],
        encoder=encoder,
        method=None if scratch else arm.split("/")[0],
        adaptation=arm if scratch else [*arm.split("/"), "fine-tune"][1],
        budget=budget,
        budget_images=budget,
        seed=seed,
        pretrain_seed=None if scratch else seed % runs,
        fold=fold,
        rows=rows,
        scores=np.stack([1 - positive, positive], axis=1),
        targets=truth[rows],
        patients=np.array([f"p{row}" for row in rows]),
        n_train=budget,
        n_test=len(rows),
    )


def said(verdict) -> str:
    return " ".join(verdict["sentences"])


def test_helping_is_said_with_its_interval_and_the_labels_saved():
    verdict = make_verdict(study(HELPS), facts={})
    assert "Pre-training helps here: the paired difference is +0.1" in said(verdict)
    assert "With 320 labelled patients" in said(verdict)
    assert "cannot be told apart" in verdict["sentences"][-3]
    (row,) = [r for r in verdict["labels_saved"] if r["budget"] == 20 and r["reference"] == "scratch"]
    assert 5 < row["ratio"] < 16
    assert row["low"] < row["ratio"] < row["high"]


def test_help_at_equal_steps_only_is_said_in_one_sentence():
    curves = {"scratch": (0.62,), "scratch-2x": (0.78,), "mae": (0.78,)}
    (headline,) = [s for s in make_verdict(study(curves), facts={})["sentences"] if "helps" in s]
    assert headline.startswith(
        "Pre-training helps at equal steps, but scratch trained twice as long cannot be told apart from it: "
    )
    beaten = make_verdict(study({**curves, "scratch-2x": (0.92,)}), facts={})
    assert "helps at equal steps, but scratch trained twice as long is better than it" in said(beaten)


def test_two_seeds_lean_on_the_other_arms():
    verdict = make_verdict(study(HELPS, seeds=2), facts={})
    assert "Pre-training helps here" in said(verdict)
    assert any(warning.startswith("Two adaptation seeds") for warning in verdict["warnings"])
    assert all(arm["high"] - arm["low"] < 0.3 for arm in verdict["arms"])


def test_perfect_arms_are_not_compared():
    base = study({"scratch": (0.8, 0.9), "mae": (0.8, 0.9)}, patients=60)
    right = [replace(one, scores=np.eye(2)[one.targets.astype(int)]) for one in base.cells]
    verdict = make_verdict(StudyResults(right, base.kind, base.names), facts={})
    assert "both are perfect on these test patients" in said(verdict)
    assert "no interval can be given: the scores are the same whichever" in said(verdict)
    assert all((row["low"], row["high"]) == (None, None) for row in verdict["labels_saved"])


def test_an_interval_open_on_both_sides_is_said_in_words():
    saving = Saving(Arm("mae", "a", "probe"), Arm("scratch", "a", "scratch"), 20, 0.0, 1.0, 0.0, np.inf)
    assert short(saving) == "at most 1.0 times as many by the curves, but the interval leaves any number open"


def test_hurting_is_said_as_a_loss():
    verdict = make_verdict(study(HURTS), facts={})
    assert "Pre-training hurts here: the paired difference is -0.1" in said(verdict)
    assert "already does better, so no labels are saved: at most 1.0 times as many" in said(verdict)
    last = next(r for r in verdict["labels_saved"] if r["budget"] == 320 and r["reference"] == "scratch")
    assert last["low"] is None or last["low"] < 0.2
    assert last["ratio"] is None or last["ratio"] < 0.2


def test_equal_arms_cannot_be_told_apart():
    verdict = make_verdict(study(SAME, patients=40), facts={})
    assert "includes zero: the two cannot be told apart here" in said(verdict)
    assert "helps" not in said(verdict)
    assert "hurts" not in said(verdict)


def test_an_interval_inside_the_margin_is_called_equivalent():
    close = study(SAME, patients=2000)
    assert "all of it within 0.05 of zero: by that margin the two are equivalent" in said(make_verdict(close, facts={}))
    strict = said(make_verdict(close, facts={"margin": 0.001}))
    assert "equivalent" not in strict


def test_what_more_patients_would_tell_is_said_and_true():
    few = study(SAME, patients=40)
    told = re.search(
        r"difference of 0.05 with a chance of 80%, about ([\d,]+) more test patients", said(make_verdict(few, facts={}))
    )
    assert told is not None
    enough = 40 + int(told[1].replace(",", ""))
    found = examine(study(SAME, patients=enough // 2 * 2), "auroc").compare(MAE, SCRATCH, 20)
    reach = (found.high - found.low) / 2
    assert reach == pytest.approx(0.05 * norm.ppf(0.975) / (norm.ppf(0.975) + norm.ppf(0.8)), rel=0.25)


def test_seeds_that_vary_too_much_are_not_mended_by_patients():
    noisy = study({**SAME, "mae": (0.70, 0.78, 0.84)}, seeds=3)
    assert "more test patients alone would not do" in said(make_verdict(noisy, facts={"margin": 0.004}))


def test_the_comparison_named_beforehand_counts_though_another_arm_is_better():
    curves = {**HELPS, "simclr": (0.70, 0.8, 0.86)}
    verdict = make_verdict(study(curves), facts={"primary": Arm("simclr", "resnet18", "fine-tune")})
    assert "SimCLR (resnet18, fine-tuned) reaches AUROC" in verdict["sentences"][0]
    assert "picked as the best" not in said(verdict)
    assert "The comparison of SimCLR at 20 labelled patients was named beforehand; all others are exploratory." in said(
        verdict
    )


def test_too_few_patients_give_no_interval():
    verdict = make_verdict(study(HELPS, patients=16), facts={})
    assert all(arm["low"] is None and arm["high"] is None for arm in verdict["arms"])
    assert "only 8 patients, too few for an interval: nothing can be concluded" in said(verdict)
    assert "[" not in said(verdict)
    assert any("Too few patients: 8 test patients" in warning for warning in verdict["warnings"])


def test_score_beyond_the_curve_leaves_the_bound_open():
    curves = {"scratch": (0.60, 0.62, 0.64), "mae": (0.90, 0.91, 0.92)}
    verdict = make_verdict(study(curves), facts={})
    row = verdict["labels_saved"][0]
    assert (row["ratio"], row["low"], row["high"]) == (None, 16.0, None)
    assert "no measured budget, up to 320 labelled patients, reaches that score: at least 16 times as many." in said(
        verdict
    )


def test_best_scratch_of_another_encoder_is_named():
    small = study(HELPS)
    large = study({"scratch": (0.90, 0.92, 0.93)}, encoder="vit_tiny")
    verdict = make_verdict(StudyResults((*small.cells, *large.cells), "binary", small.names), facts={})
    assert "The best training from scratch is vit_tiny from scratch" in said(verdict)
    assert "it beats MAE (difference -0.1" in said(verdict)


def test_picked_arm_is_widened_and_the_others_are_corrected():
    curves = {**HELPS, "simclr": (0.76, 0.8, 0.86), "mae/probe": (0.63, 0.7, 0.75)}
    verdict = make_verdict(study(curves, runs=2), facts={})
    assert "picked as the best of 3" in said(verdict)
    assert "Holm's correction over 3 comparisons" in said(verdict)
    assert "SimCLR (resnet18, fine-tuned) is better than scratch" in said(verdict)
    assert "2 pre-training runs per method and 5 adaptation seeds" in said(verdict)
    assert not any("One pre-training run" in warning for warning in verdict["warnings"])


def test_cross_validation_rests_on_all_patients():
    verdict = make_verdict(study(HELPS, patients=60, folds=4), facts={})
    assert verdict["test_patients"] == 240
    assert "in 4 folds of cross-validation" in said(verdict)
    assert "Pre-training helps here" in said(verdict)


def test_unfinished_folds_do_not_count():
    whole = study(HELPS, patients=60, folds=4, seeds=3)
    part = StudyResults(whole.cells[:-1], whole.kind, whole.names)
    verdict = make_verdict(part, facts={})
    assert [arm["seeds"] for arm in verdict["arms"]][-1] == 2
    assert any(warning.startswith("3 finished results wait") for warning in verdict["warnings"])


def test_facts_become_warnings():
    facts = {"patients_known": False, "free_validation": True, "leaks": ["A leak."], "warnings": ["A caution."]}
    verdict = make_verdict(study(SAME, patients=40, seeds=1), facts=facts)
    told = " ".join(verdict["warnings"])
    assert verdict["warnings"][0] == "A leak."
    for part in (
        "Patients are unknown",
        "Only 40 test images",
        "validation set beyond",
        "One adaptation seed",
        "A caution",
    ):
        assert part in told
    assert verdict["unit"] == "images"
    assert "With 20 labelled images" in said(verdict)
    assert "and on 40 test images." in said(verdict)


def test_labels_with_few_patients_are_left_out_and_named():
    rng = np.random.default_rng(1)
    base = study({"scratch": (0.7,), "mae": (0.8,)}, patients=100, seeds=2)
    cells = []
    for one in base.cells:
        rare = np.zeros(100)
        rare[:4] = 1
        targets = np.stack([one.targets, rare], axis=1)
        scores = np.stack([one.scores[:, 1], rng.uniform(size=100)], axis=1)
        cells.append(CellResult(**{**vars(one), "targets": targets, "scores": scores}))
    verdict = make_verdict(StudyResults(tuple(cells), "multilabel", ("effusion", "hernia")), facts={})
    assert any("hernia (4)" in warning for warning in verdict["warnings"])
    alone = make_verdict(base, facts={})
    assert [a["mean"] for a in verdict["arms"]] == pytest.approx([a["mean"] for a in alone["arms"]])


def test_schema_and_determinism():
    first, second = (make_verdict(study(HELPS), facts={}) for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert list(first) == [
        "schema", "metric", "unit", "test_patients", "arms", "labels_saved", "sentences", "warnings",
    ]  # fmt: skip
    for arm in first["arms"]:
        assert set(arm) == {
            "arm", "encoder", "adaptation", "budget", "mean", "low", "high", "seeds", "pretrain_seeds",
        }  # fmt: skip
        assert 0 <= arm["low"] <= arm["mean"] <= arm["high"] <= 1
    for row in first["labels_saved"]:
        assert {"arm", "reference", "budget", "ratio", "low", "high"} <= set(row)


def test_order_of_cells_does_not_matter():
    whole = study(HELPS, seeds=3)
    turned = StudyResults(whole.cells[::-1], whole.kind, whole.names)
    assert make_verdict(whole, facts={}) == make_verdict(turned, facts={})


def test_lines_fit_the_terminal():
    lines = print_verdict(make_verdict(study(HELPS, seeds=1), facts={}))
    assert lines[0].startswith("Verdict  With 20 labelled patients, MAE (resnet18, fine-tuned) reaches AUROC 0.")
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("Beware   ") for line in lines)


def test_nothing_finished_is_an_error():
    with pytest.raises(RunError, match="no finished result"):
        make_verdict(StudyResults((), "binary", ("a", "b")), facts={})


def test_scratch_alone_is_not_a_comparison():
    verdict = make_verdict(study({"scratch": (0.7, 0.8, 0.9)}), facts={})
    assert "no pre-trained arm was compared" in said(verdict)
    assert verdict["labels_saved"] == []
