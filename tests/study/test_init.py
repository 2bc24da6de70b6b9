"""Studies and pre-trainings that begin with weights from elsewhere: which arms there are, and what is said and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from medprior.backbones.source import names_path
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.config import Settings
from medprior.errors import RunError, SettingsError
from medprior.progress import silent
from medprior.study.alone import pretrain_alone
from medprior.study.planning.choice import check_methods, chosen_methods
from medprior.study.study import Outcome, run_study
from medprior.study.takehome.prediction import embed_scans
from medprior.study.verdict.phrases import title_of
from small_study import small


class Told:
    """Every line that was said."""

    task = staticmethod(silent.task)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of DINO on colour images of another size."""
    torch.manual_seed(0)
    teacher = timm.create_model("test_vit", img_size=64, num_classes=0).state_dict()
    path = tmp_path_factory.mktemp("ward7") / "dino.pth"
    torch.save({"teacher": {f"backbone.{name}": value for name, value in teacher.items()}}, path)
    return path


def begun(weights: object, *more: str) -> Settings:
    return small("pretrain.methods=[]", f"pretrain.weights={weights}", "study.budgets=[12]", *more)


ARMS = "pretrain.arms=[mae@test_vit, given@test_vit, given+mae@test_vit]"


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def outcome(cohort: Path, weights: Path, told: Told, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    out = tmp_path_factory.mktemp("study")
    return run_study(cohort.parent, cohort, begun(weights, ARMS), out, progress=told)


def test_arms_from_given_weights_stand_beside_scratch_of_the_same_encoder(outcome: Outcome) -> None:
    arms = {(arm["arm"], arm["encoder"], arm["adaptation"]) for arm in outcome.verdict["arms"]}
    names = [("scratch", "scratch"), ("scratch", "scratch-2x")]
    names += [(arm, how) for arm in ("mae", "given", "given+mae") for how in ("probe", "fine-tune")]
    assert arms == {(arm, "test_vit", how) for arm, how in names}
    assert any("may have seen test patients" in warning for warning in outcome.verdict["warnings"])
    assert title_of("given+mae") == "MAE from the given encoder"


def test_each_begins_where_it_says(outcome: Outcome, weights: Path) -> None:
    teacher = torch.load(weights, weights_only=True)["teacher"]
    name = "blocks.0.attn.qkv.weight"
    runs = {which.method: outcome.out / which.folder for which in outcome.grid.pretrainings()}
    found = {arm: load_encoder(folder).network.state_dict()[name] for arm, folder in runs.items()}
    assert torch.equal(found["given"], teacher[f"backbone.{name}"])
    distance = {arm: (value - found["given"]).norm().item() for arm, value in found.items()}
    assert 0 < distance["given+mae"] < 0.5 * distance["mae"]


def test_what_was_found_is_said_and_kept_without_the_place_of_the_file(
    outcome: Outcome, told: Told, weights: Path
) -> None:
    folders = {which.method: outcome.out / which.folder for which in outcome.grid.pretrainings()}
    assert not (folders["mae"] / "init.json").exists()
    for arm in ("given", "given+mae"):
        kept = json.loads((folders[arm] / "init.json").read_text())
        assert (kept["weights"], kept["layout"], kept["weights_matched"]) == ("dino.pth", "dino", 1)
        assert set(kept["fitted"]) == {"patch_embed.proj.weight", "pos_embed"}
        assert not kept["missing"] and not kept["unused"]
    said = [line for line in told.lines if line.startswith("Weights")]
    assert said and all("dino.pth, the teacher of DINO" in line and "100% of the weights" in line for line in said)
    assert any("pre-train mae on test_vit from dino.pth" in line for line in told.lines)
    assert not any(weights.parent.name in line for line in told.lines)


def test_a_study_of_before_began_with_fresh_heads_and_is_not_gone_on_with_otherwise(
    outcome: Outcome, cohort: Path, weights: Path, tmp_path: Path
) -> None:
    record = json.loads((outcome.out / "study.json").read_text())
    del record["settings"]["adapt"]["head_first"]
    (tmp_path / "study.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="head_first was False, now True"):
        run_study(cohort.parent, cohort, begun(weights, ARMS), tmp_path)


def test_pretrain_goes_on_from_a_run_whose_images_were_of_another_size(
    outcome: Outcome, cohort: Path, tmp_path: Path
) -> None:
    first = next(outcome.out / w.folder for w in outcome.grid.pretrainings() if w.method == "mae")
    told = Told()
    settings = begun(first, "pretrain.backbone=null", "data.size=48")
    (folder,) = pretrain_alone(cohort.parent, settings, tmp_path, progress=told)
    assert folder.parent.name == "given+mae-test_vit"
    kept = json.loads((folder / "init.json").read_text())
    assert (kept["layout"], kept["weights_matched"], kept["fitted"]) == ("medprior", 1, {})
    assert load_encoder(folder).spec["name"] == "test_vit"


def test_embed_takes_a_file_and_says_what_was_found(cohort: Path, weights: Path, tmp_path: Path) -> None:
    told = Told()
    embed_scans(f"dino:{weights}", cohort.parent, tmp_path, backbone="test_vit", size=32, progress=told)
    assert np.load(tmp_path / "features.npy").shape == (len(pd.read_csv(tmp_path / "features.csv")), 64)
    assert any("100% of the weights matched" in line for line in told.lines)
    with pytest.raises(SettingsError, match="do not say of which encoder they are"):
        embed_scans(weights, cohort.parent, tmp_path)


def test_methods_begin_with_weights_that_are_given(weights: Path, tmp_path: Path) -> None:
    from medprior.backbones.factory import create_encoder

    save_encoder(create_encoder("test_resnet", 1, size=32), tmp_path)
    cases = {
        (): (("given", "test_resnet"),),
        ("mae", "simclr"): (("given+mae", "test_resnet"), ("given+simclr", "test_resnet")),
    }
    for methods, expected in cases.items():
        settings = begun(tmp_path, "pretrain.backbone=null", f"pretrain.methods=[{', '.join(methods)}]")
        assert chosen_methods(settings, 2, False) == expected
    assert chosen_methods(begun(tmp_path, "pretrain.backbone=null"), 2, False, learning=True) == (
        ("given+mae", "test_resnet"),
    )
    with pytest.raises(SettingsError, match="do not say of which encoder they are"):
        chosen_methods(begun(weights, "pretrain.backbone=null"), 2, False)
    (both,) = chosen_methods(small("pretrain.methods=[]", "pretrain.arms=[imagenet+mae@test_vit]"), 2, False)
    assert both == ("imagenet+mae", "test_vit")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["pretrain.weights=nowhere.pth"], "no such weights file"),
        (["pretrain.weights=null", "pretrain.arms=[given+mae@test_vit]"], "none are given"),
        (["pretrain.arms=[mae@test_vit]"], "no arm begins with them"),
        (["pretrain.arms=[given+mea@test_vit]"], 'unknown method "mea"'),
        (
            ["pretrain.arms=[imagenet+mae]", "pretrain.weights=null", "pretrain.backbone=null"],
            "no encoder stands behind",
        ),
    ],
)
def test_wrong_beginnings_are_refused_before_any_work(more: list[str], said: str, weights: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        check_methods(begun(weights, *more))


def test_places_are_told_from_published_names(tmp_path: Path) -> None:
    assert all(map(names_path, [str(tmp_path), "x.pth", "moco:x", "./x", "moco_v2_800ep_pretrain.pth.tar"]))
    assert not any(map(names_path, ["imagenet", "resnet18.a1_in1k", "hf-hub:owner/model"]))
