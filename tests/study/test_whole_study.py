"""The whole path, small and real: folder in, verdict out; stopped, resumed, refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medprior.config import Settings
from medprior.errors import Interrupted, LabelError, OutputError, RunError
from medprior.files import alone_in
from medprior.report.assemble import report
from medprior.study.alone import pretrain_alone
from medprior.study.arms import Pretraining
from medprior.study.executors.cluster import OnCluster
from medprior.study.executors.connection import joined
from medprior.study.study import Outcome, run_study
from medprior.study.takehome.prediction import embed_scans, predict_scans
from small_study import small
from two_machines import TwoMachines


def study(*more: str) -> Settings:
    sized = ("pretrain.steps=6", "adapt.steps=4", "study.budgets=[12, all]", "study.seeds=2")
    return small(*sized, "study.corruptions=true", *more)


@pytest.fixture(scope="module")
def outcome(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(cohort.parent, cohort, study(), tmp_path_factory.mktemp("study"), command="medprior run SCANS")


def test_the_verdict_has_every_arm_at_every_budget(outcome: Outcome) -> None:
    verdict = json.loads((outcome.out / "verdict.json").read_text())
    assert set(verdict) == {
        "schema",
        "metric",
        "unit",
        "test_patients",
        "arms",
        "labels_saved",
        "sentences",
        "warnings",
    }
    arms = {(a["arm"], a["adaptation"], a["budget"]) for a in verdict["arms"]}
    kinds = [("scratch", "scratch"), ("scratch", "scratch-2x"), ("mae", "probe"), ("mae", "fine-tune")]
    assert arms == {(*kind, budget) for kind in kinds for budget in outcome.grid.budgets}
    assert verdict["test_patients"] == 60
    assert all(a["seeds"] == 2 for a in verdict["arms"])


def test_results_have_the_published_columns(outcome: Outcome) -> None:
    table = pd.read_csv(outcome.out / "results.csv")
    assert list(table) == ["arm", "budget", "seed", "adaptation", "metric", "value", "n_train", "n_test"]
    assert len(table[table["metric"] == "auroc"]) == 4 * 2 * 2
    least = (table["metric"] == "quadratic_kappa") * -1.0
    assert table["value"].between(least, np.where(table["metric"] == "log_loss", np.inf, 1)).all()


def test_models_of_the_largest_budget_are_shown_corrupted_images(outcome: Outcome) -> None:
    table = pd.read_csv(outcome.out / "robustness.csv")
    assert len(table) == 4 * (5 * 3 + 5)
    assert (table["n_test"] == 60).all()
    assert set(table["budget"]) == {max(outcome.grid.budgets)}
    for cell in outcome.results.cells:
        assert bool(cell.corruptions) == (cell.budget == max(outcome.grid.budgets)), cell.key
    assert any("test images also corrupted" in line for line in outcome.told.planned)
    assert outcome.schedule.seconds > (outcome.schedule.corrupting_seconds or 0) > 0
    assert 'id="robustness"' in report(outcome).read_text(encoding="utf-8")


def test_results_are_the_same_whoever_salts_the_patients_keys(cohort: Path, tmp_path: Path) -> None:
    brief = ["study.seeds=1", "study.budgets=[all]", "pretrain.steps=1", "adapt.adaptations=[probe]"]
    written = []
    for name in ("ours", "theirs"):
        settings = study(*brief, f"data.salt={tmp_path / name}.salt")
        out = run_study(cohort.parent, cohort, settings, tmp_path / name).out
        written.append((out / "results.csv").read_bytes())
    assert written[0] == written[1]


def test_no_encoder_saw_a_test_patient(outcome: Outcome) -> None:
    ground = outcome.ground
    for split in ground.splits:
        tested = set(ground.patients[split.test])
        assert tested.isdisjoint(ground.patients[split.pretrain])
        assert tested.isdisjoint(ground.patients[split.pool])
    tested_everywhere = [set(ground.patients[s.test]) for s in ground.splits]
    assert set.union(*tested_everywhere) == set(ground.patients)


def test_scratch_has_as_many_steps_as_any_arm(outcome: Outcome) -> None:
    steps = {(c.adaptation, c.budget): c.steps for c in outcome.results.cells}
    for budget in outcome.grid.budgets:
        assert steps["scratch", budget] == steps["fine-tune", budget]
        assert steps["scratch-2x", budget] == 2 * steps["fine-tune", budget]


def test_a_second_run_does_nothing_again(outcome: Outcome, cohort: Path) -> None:
    cells = {p: p.stat().st_mtime_ns for p in (outcome.out / "cells").iterdir()}
    before = (outcome.out / "results.csv").read_bytes(), (outcome.out / "verdict.json").read_bytes()
    run_study(cohort.parent, cohort, study(), outcome.out)
    assert {p: p.stat().st_mtime_ns for p in (outcome.out / "cells").iterdir()} == cells
    assert before == ((outcome.out / "results.csv").read_bytes(), (outcome.out / "verdict.json").read_bytes())


def test_a_stopped_study_ends_as_one_that_was_not(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    checks = iter(range(10_000))
    for patience in (9, 40, 80):
        limit = next(checks) + patience
        with pytest.raises(Interrupted):
            run_study(cohort.parent, cohort, study(), tmp_path, stop=lambda limit=limit: next(checks) > limit)
    run_study(cohort.parent, cohort, study(), tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == (outcome.out / "results.csv").read_bytes()


def test_two_processes_give_the_same_results(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    run_study(cohort.parent, cohort, study("study.workers=2"), tmp_path)
    for name in ("results.csv", "robustness.csv", "verdict.json"):
        assert (tmp_path / name).read_bytes() == (outcome.out / name).read_bytes(), name


def test_a_cluster_gives_the_same_results_though_it_is_stopped_and_a_machine_dies(
    outcome: Outcome, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done() -> int:
        return len(list((tmp_path / "cells").glob("*.npz")))

    def one_dies() -> bool:
        if done() >= 12:
            machines.lose_one()
        return False

    with TwoMachines() as machines:
        polite = signal.getsignal(signal.SIGTERM)
        monkeypatch.setenv("RAY_ADDRESS", machines.address)
        with pytest.raises(RunError, match="no machine of the cluster has the 2 CPUs of a cell"):
            OnCluster("ray", tmp_path, threads=2, on_gpu=False).places()
        with joined(machines.client):  # for both runs: processes of the cluster take long to import torch
            assert signal.getsignal(signal.SIGTERM) is polite
            there = study(f"study.workers={machines.client}")
            with pytest.raises(Interrupted):
                run_study(cohort.parent, cohort, there, tmp_path, stop=lambda: done() >= 4)
            assert 4 <= done() < len(outcome.results.cells) - 12
            run_study(cohort.parent, cohort, there, tmp_path, stop=one_dies)
        assert machines.lost
    assert (tmp_path / "results.csv").read_bytes() == (outcome.out / "results.csv").read_bytes()
    assert not [left for left in (*tmp_path.glob(".*"), *tmp_path.glob("cells/.*")) if left.name != ".lock"]


def test_a_damaged_cell_is_done_again(outcome: Outcome, cohort: Path) -> None:
    before = (outcome.out / "results.csv").read_bytes()
    damaged = next((outcome.out / "cells").glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    run_study(cohort.parent, cohort, study(), outcome.out)
    assert (outcome.out / "results.csv").read_bytes() == before


def test_another_study_is_refused(outcome: Outcome, cohort: Path) -> None:
    with pytest.raises(RunError, match=r"adapt\.batch_size was 32, now 16"):
        run_study(cohort.parent, cohort, study("adapt.batch_size=16"), outcome.out)


def test_changed_labels_are_refused(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    other = tmp_path / "labels.csv"
    lines = cohort.read_text().splitlines()
    other.write_text("\n".join(lines[:-3]))
    with pytest.raises(RunError, match="changed since this study began"):
        run_study(cohort.parent, other, study(), outcome.out)


def test_a_study_that_never_came_to_a_plan_binds_nobody(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        run_study(cohort.parent, cohort, study("study.budgets=[1]"), tmp_path)
    run_study(cohort.parent, cohort, study("study.budgets=[12]", "study.seeds=1"), tmp_path)


def test_a_verdict_on_fewer_seeds_than_were_trained_says_so(outcome: Outcome, cohort: Path) -> None:
    said = "2 adaptation seeds were trained; this verdict uses the first 1 of them."
    assert said in run_study(cohort.parent, cohort, study("study.seeds=1"), outcome.out).verdict["warnings"]
    assert said not in run_study(cohort.parent, cohort, study(), outcome.out).verdict["warnings"]


def test_what_is_damaged_is_made_again(outcome: Outcome, cohort: Path) -> None:
    encoder = next(outcome.out.glob("pretrain/*/*/encoder.safetensors"))
    whole = encoder.read_bytes()
    encoder.write_bytes(whole[:500])
    (outcome.out / "best" / "predictor.json").write_text("{")
    run_study(cohort.parent, cohort, study(), outcome.out)
    assert encoder.read_bytes() == whole
    assert json.loads((outcome.out / "best" / "predictor.json").read_text())["schema"] == 1


def test_two_at_once_are_refused(outcome: Outcome, cohort: Path) -> None:
    with alone_in(outcome.out), pytest.raises(OutputError, match="another medprior"):
        run_study(cohort.parent, cohort, study(), outcome.out)


def test_encoders_are_made_without_labels(cohort: Path, tmp_path: Path) -> None:
    (folder,) = pretrain_alone(cohort.parent, study(), tmp_path)
    before = (folder / "encoder.safetensors").stat().st_mtime_ns
    assert pretrain_alone(cohort.parent, study(), tmp_path) == [folder]
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == before


def test_the_report_is_one_page_without_paths(outcome: Outcome, cohort: Path) -> None:
    page = report(outcome).read_text(encoding="utf-8")
    assert "medprior run SCANS" in page
    assert outcome.verdict["sentences"][0][:30] in page.replace("&#39;", "'")
    for name in outcome.ground.catalog.table["path"]:
        assert name not in page
    for patient in set(outcome.ground.patients):
        assert f">{patient}<" not in page


def test_the_report_shows_looks_at_embeddings_and_what_a_run_said_of_them(outcome: Outcome) -> None:
    card = outcome.out / Pretraining("mae", "test_vit", fold=1, seed=0).folder / "finished.json"
    before = card.read_text(encoding="utf-8")
    card.write_text(json.dumps({**json.loads(before), "warnings": ["All images are one point."]}), encoding="utf-8")
    page = report(outcome).read_text(encoding="utf-8")
    card.write_text(before, encoding="utf-8")
    assert "mae on test_vit, fold 2, seed 1: All images are one point." in page
    for name in ("deviation", "effective rank", "alignment", "uniformity", "probe auroc"):
        assert f"</strong> {name}</figcaption>" in page


def test_the_model_predicts_and_refuses(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = predict_scans(outcome.out / "best", cohort.parent, tmp_path / "known")
    table = pd.read_csv(tmp_path / "known" / "predictions.csv")
    assert done.predicted >= 54
    chances = table.filter(like="p_").dropna()
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=2e-4)
    strange = tmp_path / "strange"
    strange.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(strange / f"{i}.png")
    refused = predict_scans(outcome.out / "best", strange, tmp_path / "refused")
    assert refused.predicted == 0
    assert pd.read_csv(tmp_path / "refused" / "predictions.csv")["predicted"].isna().all()
    assert predict_scans(outcome.out / "best", strange, tmp_path / "anyway", anyway=True).predicted == 6


def test_embedding_matches_the_files(outcome: Outcome, cohort: Path, tmp_path: Path) -> None:
    folder = outcome.out / next(outcome.grid.pretrainings()).folder
    count, width = embed_scans(folder, cohort.parent, tmp_path)
    assert (count, width) == np.load(tmp_path / "features.npy").shape
    assert len(pd.read_csv(tmp_path / "features.csv")) == count == 60
