"""`medprior predict` with a model that outlines: the whole command, and the same one again."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.tasks.outliner import Outliner
from medprior.tasks.segmentation import Segmentation, Segmenter, make_decoder


@pytest.fixture
def best(tmp_path: Path) -> Path:
    encoder = create_encoder("unet_8", in_channels=1, spatial_dims=3, size=16, seed=0)
    torch.manual_seed(0)
    model = Segmenter(encoder, make_decoder(encoder, Segmentation(("liver",))))
    facts = Outliner(
        names=("liver",), values=(0, 1), shape=(16, 16, 16), spacing=None, channels=1, spatial_dims=3, modality=None,
        ct_window=(-1000.0, 1000.0), supervise=0, overlap=0.0, mirrored=False, origin={},
    )  # fmt: skip
    facts.save(tmp_path / "best", model)
    return tmp_path / "best"


def test_scans_are_outlined_and_the_same_command_keeps_them(
    medprior: Callable[..., int], best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    (scans / "p1").mkdir(parents=True)
    for name in ("p1/a.nii.gz", "b.nii"):
        values = np.random.default_rng(len(name)).normal(size=(16, 18, 20)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 1, 1, 1])), scans / name)
    assert medprior("predict", best, scans, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "Outlining                    2/2 scans" in printed and "Outlined  2 of 2 scans" in printed
    table = (out / "predictions.csv").read_bytes()
    lines = list(csv.DictReader(table.decode().splitlines()))
    assert list(lines[0]) == [
        "path", "member", "frame", "outline", "voxels_liver", "ml_liver", "familiar", "distance",
        "reason", "remark",
    ]  # fmt: skip
    for line in lines:
        labels = np.asanyarray(nib.load(out / line["outline"]).dataobj)
        assert int(line["voxels_liver"]) == (labels == 1).sum()
        assert set(np.unique(labels)) <= {0, 1}
    assert medprior("predict", best, scans, "--out", out) == 0
    assert "2 were there" in capsys.readouterr().out
    assert (out / "predictions.csv").read_bytes() == table
    assert medprior("predict", best, scans, "--out", scans) == 7
    assert "read as scans" in capsys.readouterr().err
