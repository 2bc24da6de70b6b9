"""A study that learns outlines, small and real: scans and masks in, a verdict in Dice and a segmenter out."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medprior.config import Settings, load_settings
from medprior.data.phantom import make_cohort
from medprior.errors import LabelError, RunError
from medprior.study.arms import Cell, Grid, Pretraining
from medprior.study.cells import Bench, start_encoder
from medprior.study.outlining import (
    annotated,
    kept_decoder,
    kept_maps,
    score_outlines,
    train_segmenter,
    unkept_decoders,
    volumes_of,
)
from medprior.study.pretraining import run_pretraining
from medprior.study.study import Outcome, run_study
from medprior.study.takehome.outlinetable import UNLIKE
from medprior.study.takehome.prediction import predict_scans
from medprior.tasks.outliner import Outliner
from medprior.tasks.segmentation import Segmenter
from medprior.training.segment import predict_logits

SMALL = [
    "data.size=16", "pretrain.methods=[genesis]", "pretrain.backbone=unet_4", "pretrain.steps=2",
    "pretrain.batch_size=4", "adapt.steps=2", "adapt.crops=2", "adapt.overlap=0.0", "study.budgets=[2, all]",
    "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1", "study.workers=1",
]  # fmt: skip

PAIRS = (("genesis", "unet_4"), ("dae", "unet_4"), ("mae", "vit_micro_patch8"))


def small(*more: str) -> Settings:
    return load_settings(assignments=[*SMALL, *more], methods=["genesis"])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("ct"), patients=12, size=20, kind="ct", masks=("organs",), seed=3).parent


@pytest.fixture(scope="module")
def outcome(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(cohort, None, small(), tmp_path_factory.mktemp("study"))


def test_masks_beside_scans_without_labels_are_learnt(outcome: Outcome) -> None:
    verdict = json.loads((outcome.out / "verdict.json").read_text())
    assert verdict["metric"] == "dice" and verdict["test_patients"] == 12
    arms = {(arm["arm"], arm["adaptation"], arm["budget"]) for arm in verdict["arms"]}
    kinds = [("scratch", "scratch"), ("scratch", "scratch-2x"), ("genesis", "fine-tune")]
    assert arms == {(*kind, budget) for kind in kinds for budget in (2, 6)}
    assert any("Dice" in sentence for sentence in verdict["sentences"])
    answers = {one["answer"]: one["mean"] for one in verdict["trivial"]}
    assert answers["nothing"] == 0 < answers["everything as body"] < 0.2 and len(answers) == 11
    assert "Marking everything as body would score" in verdict["warnings"][0]  # after two steps nothing is learnt
    assert "annotated scans" in verdict["sentences"][0]


def test_results_hold_every_metric_of_outlines(outcome: Outcome) -> None:
    table = pd.read_csv(outcome.out / "results.csv")
    assert set(table["metric"]) == {"dice", "hd95", "surface_dice"}
    scores = pd.read_csv(outcome.out / "scores.csv")
    assert set(scores["metric"]) == {"dice", "surface_dice"}


def test_the_segmenter_taken_home_is_whole(outcome: Outcome) -> None:
    outliner, model = Outliner.load(outcome.out / "best")
    assert outliner.names[:2] == ("body", "right lung") and outliner.values[0] == 0
    assert outliner.origin["annotated_scans"] == 12
    store = outcome.ground.store.resident("cpu")
    bench = Bench(outcome.ground, store, outcome.settings, {}, outcome.out)
    found = score_outlines(bench, model, annotated(outcome.ground, np.arange(2)))
    assert found.scores.shape == (2, 10, 3) and np.isfinite(found.scores[:, 0, 0]).all()


def test_a_scan_beyond_the_limit_is_refused_with_the_reason(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    """A scan that the study knew, under its own limit and under half of what it would need."""
    scans, out, best = tmp_path / "scans", tmp_path / "out", tmp_path / "best"
    scans.mkdir()
    shutil.copytree(outcome.out / "best", best)
    known = sorted(cohort.rglob("*.nii.gz"), key=lambda file: ("mask" in str(file) or "label" in str(file), file))[0]
    shutil.copy(known, scans / "known.nii.gz")

    def predicted(**how: bool) -> dict[str, str]:
        done = predict_scans(best, scans, out, **how)
        (line,) = csv.DictReader((out / "predictions.csv").read_text().splitlines())
        assert bool(line["outline"]) == bool(done.predicted)
        assert any("--anyway" in said for said in done.lines) == bool(line["reason"])
        return line

    found = predicted()
    assert found["familiar"] == "yes" and found["outline"] and float(found["distance"]) < 1
    outliner, model = Outliner.load(best)
    assert outliner.familiarity is not None and outliner.origin["unfamiliar_scans"] == "refused"
    strict = replace(outliner.familiarity, limit=outliner.familiarity.limit * float(found["distance"]) / 2)
    replace(outliner, familiarity=strict).save(best, model)
    shutil.rmtree(out)
    refused = predicted()
    assert (refused["familiar"], refused["reason"], refused["outline"]) == ("no", UNLIKE, "")
    assert float(refused["distance"]) == pytest.approx(2, rel=0.02)
    asked = predicted(anyway=True)
    assert asked["outline"] and asked["remark"].startswith(UNLIKE) and asked["familiar"] == "no"
    assert predicted() == asked  # what was drawn stays, and so does what was said of it


def test_the_worst_the_middle_and_the_best_are_kept_for_the_report(outcome: Outcome) -> None:
    cell = next(iter(outcome.grid.cells()))
    bench = Bench(outcome.ground, outcome.ground.store.resident("cpu"), outcome.settings, {}, outcome.out)
    kept = kept_maps(bench.maps_path(cell))
    assert len(kept) == 3
    assert [dice for _, dice, _ in kept] == sorted(dice for _, dice, _ in kept)
    for row, _, labels in kept:
        assert labels.shape == tuple(outcome.ground.catalog.table["shape"].iat[row])


def test_the_decoder_of_the_pretraining_is_kept_unless_a_fresh_one_is_asked_for(outcome: Outcome) -> None:
    store = outcome.ground.store.resident("cpu")
    cell = next(cell for cell in outcome.grid.cells() if cell.pretraining is not None)
    for settings, kept in ((outcome.settings, True), (small("adapt.decoder=fresh"), False)):
        bench = Bench(outcome.ground, store, settings, {2: 1, 6: 1}, outcome.out)
        found = kept_decoder(bench, cell, start_encoder(bench, cell, 0))
        assert (found is not None) == kept
        assert not any(name.startswith("image.") for name in found or ())


@pytest.fixture(scope="module")
def bench(outcome: Outcome) -> Bench:
    """After further pre-trainings of two steps: one whose decoder sees the image, one whose decoder is of tokens."""
    store, settings = outcome.ground.store.resident("cpu"), small("pretrain.methods=[dae, mae]")
    for method, backbone in PAIRS[1:]:
        run_pretraining(outcome.ground, store, settings, Pretraining(method, backbone, 0, 0), 2, outcome.out)
    return Bench(outcome.ground, store, settings, {2: 4, 6: 4}, outcome.out)


def test_outlines_begin_with_the_decoder_of_dae_and_the_model_taken_home_keeps_it(
    bench: Bench, outcome: Outcome, tmp_path: Path
) -> None:
    cell = Cell("dae", "unet_4", "fine-tune", 2, 0, 0, Pretraining("dae", "unet_4", 0, 0))
    left = load_file(bench.out / cell.pretraining.folder / "parts" / "decoder.safetensors")
    rows = annotated(bench.ground, bench.ground.budget(2, 0, 0))

    def trained(steps: int) -> Segmenter:
        recipe = replace(bench.recipe_of(cell), steps=steps)
        return train_segmenter(bench, cell, start_encoder(bench, cell, 0), rows, recipe, seed=0)

    start = trained(0).decoder.state_dict()
    assert any(name.startswith("image.") for name in left)
    assert all(torch.equal(start[name], value) for name, value in left.items() if not name.startswith("heads."))
    model = trained(4).to(memory_format=torch.contiguous_format)  # other layouts are rounded otherwise
    Outliner.load(outcome.out / "best")[0].save(tmp_path, model)
    outliner, again = Outliner.load(tmp_path)
    assert outliner.sees_image
    here, there = (predict_logits(one, volumes_of(bench), 0, outliner.shape) for one in (model, again))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-6)


def test_a_decoder_that_could_not_be_kept_is_said_once_for_its_arm(bench: Bench) -> None:
    grid = Grid(PAIRS, ("fine-tune",), (2, 6), seeds=2, pretrain_seeds=1, folds=2)
    (said,) = unkept_decoders(bench, grid)
    assert "mae trained with vit_micro_patch8" in said and "fresh" in said
    asked = replace(bench, settings=small("adapt.decoder=fresh"))
    assert unkept_decoders(asked, grid) == []


def test_the_same_call_trains_nothing_again_and_another_is_refused(outcome: Outcome, cohort: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (outcome.out / "cells").glob("*.npz")}
    again = run_study(cohort, None, outcome.settings, outcome.out)
    assert again.verdict == outcome.verdict
    assert before == {file: file.stat().st_mtime_ns for file in (outcome.out / "cells").glob("*.npz")}
    with pytest.raises(RunError, match="overlap"):
        run_study(cohort, None, small("adapt.overlap=0.5"), outcome.out)


def test_a_task_that_the_data_cannot_serve_is_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no labels"):
        run_study(cohort, None, small("study.task=classify"), tmp_path)


def test_settings_that_came_later_stand_at_their_defaults(outcome: Outcome, cohort: Path) -> None:
    record = outcome.out / "study.json"
    facts = json.loads(record.read_text())
    del facts["settings"]["study"]["tolerance"]
    record.write_text(json.dumps(facts))
    assert run_study(cohort, None, outcome.settings, outcome.out).verdict == outcome.verdict
