"""A study that learns outlines, small and real: scans and masks in, a verdict in Dice and a segmenter out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medprior.config import Settings, load_settings
from medprior.data.phantom import make_cohort
from medprior.errors import LabelError, RunError
from medprior.study.cells import Bench
from medprior.study.outlining import annotated, kept_decoder, kept_maps, score_outlines
from medprior.study.study import Outcome, run_study
from medprior.tasks.outliner import Outliner

SMALL = [
    "data.size=16", "pretrain.methods=[genesis]", "pretrain.backbone=unet_4", "pretrain.steps=2",
    "pretrain.batch_size=4", "adapt.steps=2", "adapt.crops=2", "adapt.overlap=0.0", "study.budgets=[2, all]",
    "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1", "study.workers=1",
]  # fmt: skip


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
    from medprior.study.cells import start_encoder

    for settings, kept in ((outcome.settings, True), (small("adapt.decoder=fresh"), False)):
        bench = Bench(outcome.ground, store, settings, {2: 1, 6: 1}, outcome.out)
        encoder = start_encoder(bench, cell, 0)
        assert (kept_decoder(bench, cell, encoder) is not None) == kept


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
    assert replace(run_study(cohort, None, outcome.settings, outcome.out)).verdict == outcome.verdict
