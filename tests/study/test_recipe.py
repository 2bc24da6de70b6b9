"""A pool in a folder of its own, and arms of several encoders: who leaves, what is counted, what is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from medprior.config import Settings, load_settings
from medprior.data.phantom import make_cohort
from medprior.data.pool import in_pool, join_pool, renamed
from medprior.errors import DataError, Interrupted, RunError, SettingsError
from medprior.study.arms import IMAGENET
from medprior.study.planning.choice import check_methods, chosen_methods
from medprior.study.planning.reading import index_scans, read_catalog
from medprior.study.planning.recipe import read_recipe
from medprior.study.study import Outcome, run_study
from small_study import small

OURS = (
    "pretrain.methods=[]", "pretrain.steps=3", "simclr.projection=[32, 16]", "study.budgets=[12]",
    "pretrain.arms=[mae@test_vit, simclr@test_resnet, imagenet@test_vit]",
)  # fmt: skip
COPIED = (0, 7, 31)
FRESH = 20


def asked(pool: Path, *more: str) -> Settings:
    return small(*OURS, f"data.unlabelled={pool}", *more)


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    """Published weights cannot be had here, and nothing waits for a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def pool(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other generated X-rays, one labelled one as it is, and two that were written anew in another format."""
    folder = tmp_path_factory.mktemp("pool")
    others = make_cohort(tmp_path_factory.mktemp("others"), patients=FRESH, seed=99, size=32)
    for name in pd.read_csv(others)["path"]:
        shutil.copy(others.parent / name, folder / f"new-{Path(name).name}")
    names = pd.read_csv(cohort)["path"]
    shutil.copy(cohort.parent / names[COPIED[0]], folder / "a.png")
    for i, row in enumerate(COPIED[1:]):
        Image.open(cohort.parent / names[row]).convert("L").save(folder / f"b{i}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def outcome(cohort: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(cohort.parent, cohort, asked(pool), tmp_path_factory.mktemp("study"))


def test_copies_of_labelled_images_leave_the_pool_and_are_counted(outcome: Outcome) -> None:
    catalog = outcome.ground.catalog
    of_pool = catalog.table[in_pool(catalog.table)]
    assert len(of_pool) == FRESH
    assert all("new-" in path for path in of_pool["path"])
    said = f"3 of {FRESH + 3} images of the pool look like copies of labelled images and left it."
    assert said in outcome.verdict["warnings"]
    assert any(said in line for line in outcome.told.found)
    gone = catalog.problems[catalog.problems["kind"] == "apart"]
    assert sorted(Path(path).name for path in gone["path"]) == ["a.png", "b0.jpg", "b1.jpg"]


def test_the_pool_is_pretrained_on_and_nothing_else(outcome: Outcome) -> None:
    ground = outcome.ground
    assert len(ground.pool) == FRESH
    for split in ground.splits:
        assert np.isin(ground.pool, split.pretrain).all()
        assert not np.isin(ground.pool, np.concatenate([split.pool, split.val, split.test])).any()
        assert not np.isin(split.test, split.pretrain).any()
    assert not ground.catalog.table["labelled"].to_numpy()[ground.pool].any()
    (line,) = [line for line in outcome.told.found if line.startswith("Pool")]
    assert f"{FRESH} further images" in line
    assert "3 copies of labelled images left them" in line


def test_every_encoder_has_its_own_scratch(outcome: Outcome) -> None:
    arms = {(a["arm"], a["encoder"], a["adaptation"]) for a in outcome.verdict["arms"]}
    kinds = [("scratch", "scratch"), ("scratch", "scratch-2x")]
    expected = {(arm, encoder, how) for encoder in ("test_vit", "test_resnet") for arm, how in kinds}
    expected |= {("mae", "test_vit", how) for how in ("probe", "fine-tune")}
    expected |= {("simclr", "test_resnet", how) for how in ("probe", "fine-tune")}
    assert arms == expected


def test_published_weights_that_cannot_be_had_are_skipped_and_said(outcome: Outcome) -> None:
    start = "imagenet@test_vit is skipped: not available: "
    assert [said for said in outcome.verdict["warnings"] if said.startswith(start) and len(said) > len(start)]
    assert any(start in line for line in outcome.told.planned)
    assert IMAGENET not in {method for method, _ in outcome.grid.methods}


def test_published_weights_that_can_be_had_later_join_and_stay(
    outcome: Outcome, cohort: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = tmp_path / "out", pd.read_csv(outcome.out / "results.csv")
    shutil.copytree(outcome.out, out)
    publish("test_vit", tmp_path / "hub")
    for cache in (tmp_path / "hub", tmp_path / "nothing"):  # the second time they are in the study already
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        found = run_study(cohort.parent, cohort, asked(pool), out)
        assert not [said for said in found.verdict["warnings"] if "skipped" in said]
        assert any("published ImageNet weights" in line for line in found.told.planned)
    after = pd.read_csv(out / "results.csv")
    ours = after["arm"].str.startswith(IMAGENET)
    assert set(after["adaptation"][ours]) == {"probe", "fine-tune"}
    pd.testing.assert_frame_equal(after[~ours].reset_index(drop=True), before)


def publish(name: str, cache: Path) -> None:
    """Weights of a timm model in a cache of the Hub, as a download leaves them."""
    network = timm.create_model(name)
    folder = cache / f"models--{network.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    place = folder / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    save_file(network.state_dict(), place / "model.safetensors")


def test_macro_f1_and_accuracy_have_intervals_too(outcome: Outcome) -> None:
    scores = pd.read_csv(outcome.out / "scores.csv")
    scores = scores[scores["metric"].isin(["auroc", "macro_f1", "accuracy"])]
    assert len(scores) == 3 * len(outcome.verdict["arms"])
    assert (scores["low"] <= scores["mean"]).all()
    assert (scores["mean"] <= scores["high"]).all()
    results = pd.read_csv(outcome.out / "results.csv")
    single = results[results["metric"] == "macro_f1"].groupby(["arm", "adaptation"])["value"].mean()
    for row in scores[scores["metric"] == "macro_f1"].itertuples():
        assert row.mean == pytest.approx(single[f"{row.arm} ({row.encoder})", row.adaptation], abs=2e-6)


def test_rows_lead_to_files_of_both_folders(outcome: Outcome, cohort: Path) -> None:
    rows = pd.read_csv(outcome.out / "rows.csv")
    assert len(rows) == 60 + FRESH
    assert all((cohort.parent / path).is_file() for path in rows["path"])


def test_a_stopped_study_ends_as_one_that_was_not(outcome: Outcome, cohort: Path, pool: Path, tmp_path: Path) -> None:
    checks = iter(range(10_000))
    for patience in (6, 20):
        limit = next(checks) + patience
        with pytest.raises(Interrupted):
            run_study(cohort.parent, cohort, asked(pool), tmp_path, stop=lambda limit=limit: next(checks) > limit)
    indexed = (tmp_path / "index-unlabelled.parquet").stat().st_mtime_ns
    run_study(cohort.parent, cohort, asked(pool), tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == (outcome.out / "results.csv").read_bytes()
    assert (tmp_path / "index-unlabelled.parquet").stat().st_mtime_ns == indexed


def test_a_study_resumes_with_its_pool_elsewhere_and_not_without(
    outcome: Outcome, cohort: Path, pool: Path, tmp_path: Path
) -> None:
    before = (outcome.out / "results.csv").read_bytes()
    moved = tmp_path / "moved"
    shutil.copytree(pool, moved)
    run_study(cohort.parent, cohort, asked(moved), outcome.out)
    assert (outcome.out / "results.csv").read_bytes() == before
    alone = replace_pool(asked(pool), None)
    with pytest.raises(RunError, match="changed since this study began"):
        run_study(cohort.parent, cohort, alone, outcome.out)


def replace_pool(settings: Settings, pool: Path | None) -> Settings:
    return settings.model_copy(update={"data": settings.data.model_copy(update={"unlabelled": pool})})


def test_patients_of_the_pool_who_are_tested_leave_it(cohort: Path, pool: Path, tmp_path: Path) -> None:
    """The files of the pool name two patients as the files of the labelled scans do; the table calls them otherwise."""
    settings = asked(pool)
    found = index_scans(cohort.parent, settings, tmp_path)
    found = replace(found, table=found.table.assign(patient=[f"file-{i}" for i in range(len(found))]))
    told = replace(found, table=found.table.assign(patient=[f"table-{i}" for i in range(len(found))], labelled=True))
    others = index_scans(pool, settings, tmp_path, name="index-unlabelled")
    names = ["file-3", "file-5", *[""] * (len(others) - 2)]
    others = replace(others, table=others.table.assign(patient=names))
    both = join_pool(told, renamed(others, found, told))
    assert both.table["patient"][in_pool(both.table)].tolist()[:2] == ["table-3", "table-5"]


def test_a_pool_within_the_scans_is_refused(cohort: Path, tmp_path: Path) -> None:
    for pool in (cohort.parent, cohort.parent.parent, cohort.parent / "images"):
        with pytest.raises(DataError, match="lie in one folder"):
            read_catalog(cohort.parent, cohort, asked(pool), tmp_path)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("[simclrr@resnet18]", 'Nearest: "simclr"'),
        ("[scratch@resnet18]", "every encoder brings its own"),
        ("[mae@]", "no encoder stands behind mae"),
        ("[imagenet]", "no encoder stands behind imagenet"),
    ],
)
def test_wrong_arms_are_explained(arms: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_methods(load_settings(assignments=[f"pretrain.arms={arms}"]))
    assert said in str(caught.value)
    assert "pretrain.arms" in str(caught.value)


def test_arms_and_methods_at_once_are_refused() -> None:
    with pytest.raises(SettingsError, match="both arms and methods"):
        check_methods(load_settings(assignments=["pretrain.arms=[mae@test_vit]", "pretrain.methods=[mae]"]))


def test_an_arm_without_encoder_takes_the_one_that_fits() -> None:
    settings = load_settings(assignments=["pretrain.arms=[mae, simclr@resnet18, simclr]"])
    assert chosen_methods(settings, 2, False) == (("mae", "vit_micro_patch8"), ("simclr", "resnet18"))


def test_a_study_of_skipped_arms_alone_is_refused(cohort: Path, pool: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no arm is left: imagenet@test_vit is skipped"):
        run_study(cohort.parent, cohort, asked(pool, "pretrain.arms=[imagenet@test_vit]"), tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("scnas: .", "recipe.yaml", 'Nearest: "scans"'),
        ("labels: recipe.yaml", "recipe.yaml, scans", "names no scans"),
        ("scans: [a, b]", "recipe.yaml, scans", "is a path"),
        ("scans: nowhere", "recipe.yaml, scans", "relative to the current directory"),
        ("scans: .\nunlabelled: nowhere", "recipe.yaml, unlabelled", "nothing lies at nowhere"),
        ("scans: .\nstudy: {sedes: 3}", "recipe.yaml", 'Nearest: "seeds"'),
        ("scans: .\nstudy: {seeds: 0}", "recipe.yaml, setting study.seeds", "greater than or equal to 1"),
        ("scans: .\nstudy: [", "recipe.yaml", "line 2"),
    ],
)
def test_errors_of_a_recipe_name_the_file_and_the_key(
    text: str, key: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "recipe.yaml", text)
    with pytest.raises(SettingsError) as caught:
        read_recipe(Path("recipe.yaml"))
    assert key in str(caught.value)
    assert said in str(caught.value)


def test_given_paths_go_before_those_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path / "recipe.yaml", "scans: .\nlabels: nowhere.csv\nstudy: {seeds: 4}\n")
    found = read_recipe(recipe, labels=Path("other.csv"))
    assert (found.scans, found.labels, found.unlabelled) == (Path(), Path("other.csv"), None)
    assert load_settings(base=found.settings, assignments=["study.minutes=3"]).study.seeds == 4


@pytest.mark.parametrize("name", ["ct-study", "mr-study"])
def test_the_recipes_of_the_project_are_sound(name: str, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    recipe = read_recipe(Path("recipes") / f"{name}.yaml")
    settings = load_settings(base=recipe.settings)
    check_methods(settings)
    assert recipe.scans.resolve().is_relative_to(real_data.resolve())
    assert len(chosen_methods(settings, 2, False)) == 8
