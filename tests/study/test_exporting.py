"""`export` from the folder of a run: which model is meant, what is laid down, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medprior.backbones.export import targets
from medprior.backbones.export.form import MOST_LINES
from medprior.backbones.weights import save_encoder
from medprior.errors import OutputError, RunError, SettingsError
from medprior.study.takehome.exporting import export
from medprior.study.takehome.origin import arms_of, origin_of
from medprior.tasks.outliner import Outliner
from medprior.tasks.predictor import Predictor, Preprocessing, learn_familiarity
from medprior.tasks.segmentation import Segmentation, Segmenter, make_decoder
from medprior.training.run import Run
from shaken import shaken


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study: two encoders of SimCLR, one of Models Genesis, and a classifier that was taken home."""
    out = tmp_path_factory.mktemp("study")
    for number, (method, name) in enumerate((("simclr", "test_resnet"), ("simclr", "test_vit"), ("genesis", "unet_8"))):
        folder = out / f"pretrain/{method}-{name}/fold-0-seed-0"
        run = Run.open(folder, {"method": method, "backbone": name, "fold": 0, "seed": 0, "steps": 1500})
        save_encoder(shaken(name, seed=number), folder)
        run.finish({"steps": 1500, "images": 3848})
    (out / "study.json").write_text(json.dumps({"settings": {"data": {"ct_window": [-160, 240]}}}))
    rng = np.random.default_rng(0)
    encoder = shaken("test_vit", seed=7)
    save_encoder(encoder, out / "best")
    origin = {
        "arm": "simclr",
        "encoder": "test_vit",
        "adaptation": "probe",
        "chosen_by": "AUROC",
        "labelled_images": 80,
    }
    Predictor(
        kind="multilabel", names=("no*dule", "effusion", "mass"), weight=rng.normal(size=(3, encoder.embed_dim)),
        bias=rng.normal(size=3), temperature=1.7, preprocessing=Preprocessing(32, 32, 1, 2, "CR"),
        familiarity=learn_familiarity(rng.normal(size=(20, encoder.embed_dim)).astype(np.float32)), origin=origin,
    ).save(out / "best")  # fmt: skip
    return out


@pytest.fixture(scope="module")
def outliner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outliner")
    encoder = shaken("unet_4", size=16)
    torch.manual_seed(0)
    model = Segmenter(encoder, make_decoder(encoder, Segmentation(("liver",)), 0, sees_image=True)).eval()
    Outliner(
        names=("liver",), values=(0, 1), shape=(24, 16), spacing=(1.0, 1.0), channels=1, spatial_dims=2, modality="CT",
        ct_window=(-200.0, 300.0), supervise=0, overlap=0.25, mirrored=False,
        origin={"arm": "scratch", "adaptation": "scratch", "chosen_by": "Dice", "annotated_scans": 5},
    ).save(folder, model)  # fmt: skip
    return folder


def test_the_model_taken_home_is_meant_unless_an_arm_is_named(study: Path) -> None:
    assert list(arms_of(study)) == ["genesis/unet_8", "simclr/test_resnet", "simclr/test_vit"]
    assert origin_of(study).folder == study / "best"
    assert origin_of(study, "genesis").folder == study / "pretrain/genesis-unet_8/fold-0-seed-0"
    assert origin_of(study, "simclr@test_vit").config["backbone"] == "test_vit"
    with pytest.raises(SettingsError, match=r"several encoders.*\n.*simclr/test_resnet, simclr/test_vit"):
        origin_of(study, "simclr")
    with pytest.raises(SettingsError, match='unknown arm "genesys"'):
        origin_of(study, "genesys")
    with pytest.raises(RunError, match="not the folder of a run"):
        origin_of(study / "pretrain")


def test_a_classifier_goes_whole_and_its_card_s_lines_answer_as_it_does(study: Path, tmp_path: Path) -> None:
    done = export(study, "onnx", out=tmp_path / "there")
    assert done.folder == tmp_path / "there" and done.difference <= 1e-5
    images = torch.rand(5, 1, 32, 32)
    np.save(tmp_path / "images.npy", images.numpy())
    blocks = code_of(done.folder)
    assert len(blocks[0].splitlines()) <= MOST_LINES
    lines = ["import torch, numpy", "images = torch.from_numpy(numpy.load('../images.npy'))", "with torch.no_grad():"]
    lines += [f"    {line}" for block in blocks for line in block.splitlines()]
    lines += ["    numpy.save('../answer.npy', numpy.asarray(probabilities))"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=done.folder, check=True)
    ours = shaken("test_vit", seed=7)
    with torch.no_grad():
        expected = Predictor.load(study / "best").probabilities(ours.pool(ours(images)).numpy())
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("target", ["onnx", "safetensors"])
def test_an_outliner_goes_whole(outliner: Path, target: str, tmp_path: Path) -> None:
    done = export(outliner, target, out=tmp_path / "there")
    card = (done.folder / "README.md").read_text()
    assert done.difference <= 1e-5
    assert "- `probabilities`: 0 background; 1 liver." in card and "24 x 16 pixels" in card


def test_the_card_says_what_the_model_is(study: Path) -> None:
    done = export(study, "onnx", "genesis")
    assert done.folder == study / "export" / "genesis-onnx"
    card = (done.folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["library_name"], front["license"], front["pipeline_tag"]) == (
        "onnx",
        "unknown",
        "image-feature-extraction",
    )
    assert all(part.partition("\n")[2].strip() for part in re.split(r"^## ", card, flags=re.MULTILINE)[1:])
    for said in (
        "1,500 steps on 3,848 scans", "patent pending", "-160 HU is 0, 240 HU is 1", "minus 0.31, divided by 0.23",
        "Channels: 1", "32 x 32 pixels", "128 channels at stride 8",
    ):  # fmt: skip
        assert said in card
    assert str(study) not in card


def test_labels_do_not_become_markdown(study: Path, tmp_path: Path) -> None:
    done = export(study, "safetensors", out=tmp_path / "x")
    card = (done.folder / "README.md").read_text()
    assert done.difference <= 1e-5
    assert "0 no\\*dule; 1 effusion; 2 mass" in card and "80 labelled scans" in card


def test_the_same_export_again_takes_the_place_of_the_first(study: Path, tmp_path: Path) -> None:
    first = export(study, "timm", "simclr/test_resnet", tmp_path / "there").folder
    before = (first / "model.safetensors").read_bytes()
    export(study, "huggingface", "simclr/test_vit", tmp_path / "there")
    assert (first / "config.json").exists() and (first / "model.safetensors").read_bytes() != before
    assert sorted(place.name for place in tmp_path.iterdir()) == ["there"]


def test_one_that_fails_its_check_leaves_what_was_there(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = export(study, "timm", "simclr/test_resnet", tmp_path / "there").folder
    before = {file.name: file.read_bytes() for file in there.iterdir()}
    monkeypatch.setattr(targets, "TOLERANCE", 0.0)
    for out in (there, tmp_path / "new" / "place"):
        with pytest.raises(RunError, match="failed its check, and nothing is left"):
            export(study, "onnx", "simclr/test_resnet", out)
    assert {file.name: file.read_bytes() for file in there.iterdir()} == before
    assert not list((tmp_path / "new").iterdir())


def test_a_folder_with_other_files_is_left_alone(study: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"other files, such as thesis\.tex"):
        export(study, "timm", "simclr/test_resnet", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_target_that_cannot_leaves_nothing(study: Path) -> None:
    with pytest.raises(SettingsError, match=r"torchvision cannot hold unet_8.*\n.*onnx, safetensors"):
        export(study, "torchvision", "genesis")
    assert not (study / "export" / "genesis-torchvision").exists()


def code_of(folder: Path) -> list[str]:
    """The blocks of Python in a card."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
