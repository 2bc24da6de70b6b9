"""Voxels that nnU-Net calls "ignore" are neither learnt nor scored, and their masks are used."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.config import load_settings
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.catalog import Catalog, build_catalog
from medprior.errors import LabelError
from medprior.objectives.segmentation import IGNORED
from medprior.report.card.planes import legend
from medprior.study.cells import Bench
from medprior.study.ground import prepare
from medprior.study.outlining import score_outlines, truth_sizes, volumes_of
from medprior.training import segment
from medprior.training.descent import Recipe
from medprior.training.segment import fit_segmenter

SHAPE, IGNORE = (12, 10, 8), 2
NAMED = {"background": 0, "tumour": 1, "ignore": IGNORE}


def collection(root: Path, labels: dict[str, int], scans: int = 4, tumour: int = 1) -> Path:
    for i in range(scans):
        values = np.random.default_rng(i).normal(size=SHAPE).astype(np.float32)
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:5, 2:6], mask[8:] = tumour, IGNORE if i != 1 else 0
        for folder, array in (("imagesTr", values), ("labelsTr", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / f"{folder}/case_{i}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


def labelled(root: Path) -> Catalog:
    return label_by_masks(build_catalog(root, workers=1))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = collection(tmp_path_factory.mktemp("scans"), NAMED)
    settings = load_settings(assignments=["data.size=16", "adapt.crops=2", "study.folds=2", "study.repeats=1"])
    out = tmp_path_factory.mktemp("out")
    ground = prepare(labelled(root), settings, out, on_gpu=False)
    return Bench(ground, ground.store.resident("cpu"), settings, {}, out)


def test_they_make_no_class_and_are_said(bench: Bench) -> None:
    catalog = bench.ground.catalog
    assert catalog.labels is not None and catalog.labels.names == ("tumour",)
    assert catalog.table["labelled"].all() and catalog.targets().tolist() == [[1.0]] * 4
    assert sum('3 masks hold voxels of the value 2, "ignore"' in said for said in catalog.warnings) == 1
    assert [name for name, _ in legend(catalog, ())] == ["tumour", "not judged"]


def test_a_value_that_is_not_the_highest_is_no_ignore_and_nothing_else_is_no_mask(tmp_path: Path) -> None:
    catalog = labelled(collection(tmp_path / "a", {"tumour": 1, "ignore": IGNORE, "liver": 3}))
    assert catalog.table["labelled"].tolist() == [False, True, False, False]
    with pytest.raises(LabelError, match="mark nothing"):
        labelled(collection(tmp_path / "b", NAMED, tumour=0))


def test_what_is_predicted_there_does_not_count(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = truth_sizes(bench, np.arange(2))
    assert sizes[0].tolist() == [8 * 80 - 96, 96] and sizes[1].tolist() == [12 * 80 - 96, 96]
    mask = bench.ground.catalog.read_mask(0)
    assert mask is not None
    drawn = (mask > 0).astype(np.uint8)
    monkeypatch.setattr("medprior.study.outlining.outline", lambda bench, model, row: drawn)
    dice = score_outlines(bench, None, np.arange(2)).scores[:, 0, 0]  # type: ignore[arg-type]
    assert dice[0] == 1 and dice[1] == pytest.approx(2 * 96 / (2 * 96 + 4 * 80))


def test_crops_are_not_aimed_at_them_and_a_loss_passes_them_by(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = bench.ground
    assert (ground.foreground.counts[:, 0] == 96).all() and ground.foreground.counts[:, 1:].sum() == 0
    seen: list[torch.Tensor] = []
    loss = segment.supervised_at_every_scale
    monkeypatch.setattr(
        segment, "supervised_at_every_scale", lambda outputs, labels: seen.append(labels) or loss(outputs, labels)
    )
    encoder = create_encoder("unet_4", 1, 3, 16, seed=0)
    recipe = Recipe(steps=4, batch_size=4)
    rows, task = np.array([0, 2, 3]), ground.outlines
    model = fit_segmenter(
        encoder, task, volumes_of(bench), rows, recipe, ground.base, foreground=ground.foreground, seed=0
    )
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    found = torch.cat(seen)
    assert set(found.unique().tolist()) == {IGNORED, 0, 1}
