"""Outlines of new scans lie on them, voxel by voxel, in files that other programs read."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from torch import Tensor, nn

from medprior.data.catalog import Catalog, build_catalog
from medprior.errors import DataError, OutputError
from medprior.study.takehome.outlineprediction import write_outlines
from medprior.study.takehome.outlinetable import Outline, table_of
from medprior.tasks.outliner import Outliner

CUBES = Outliner(
    names=("cube",), values=(0, 7), shape=(12, 12, 12), spacing=None, channels=1, spatial_dims=3, modality=None,
    ct_window=(-1000.0, 1000.0), supervise=0, overlap=0.5, mirrored=False, origin={},
)  # fmt: skip
SQUARES = replace(CUBES, spatial_dims=2, shape=(12, 12), values=(0, 255))
SIDES = (20, 18, 16)
ANGLE = np.radians(20)
OBLIQUE = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
AXES = {
    "upright": np.eye(3),
    "flipped": np.diag([-1.0, 1, -1]),
    "oblique": OBLIQUE @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, -1]]),
}


class Bright(nn.Module):
    """Calls a voxel of class 1 where it is brighter than half."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(0.5))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([self.limit - pixels[:, :1], pixels[:, :1] - self.limit], 1)


class Stopped(Bright):
    """Is interrupted at its first window of the second scan, as by Ctrl-C."""

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.mean() > 0.15:
            raise KeyboardInterrupt
        return super().forward(pixels)


class Greedy(Bright):
    """Needs more memory than any machine has."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.empty(2**45)


def save_volume(path: Path, turn: np.ndarray, spacing=(1.0, 1.0, 1.0), bright: slice = slice(4, 10)) -> None:
    """A volume with a bright block on a dark ground."""
    values = np.zeros(SIDES, np.float32)
    values[bright, 6:12, 2:8] = 100
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, [-31.25, 12.5, 100]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


def drawn(outliner: Outliner, folder: Path, out: Path, model: nn.Module | None = None) -> tuple[Catalog, list[Outline]]:
    catalog = build_catalog(folder, workers=1)
    return catalog, write_outlines(outliner, model or Bright(), "a model", catalog, out)


def assert_on_the_scan(scan: Path, outline: Path) -> None:
    given, found = SimpleITK.ReadImage(str(scan)), SimpleITK.ReadImage(str(outline))
    assert found.GetSize() == given.GetSize()
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(found, part)() == getattr(given, part)()
    expected = np.where(SimpleITK.GetArrayFromImage(given) > 50, 7, 0)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found), expected)
    np.testing.assert_array_equal(nib.load(outline).affine, nib.load(scan).affine)


@pytest.mark.parametrize(
    ("to", "spacing"), [(None, (0.7, 1.5, 3.0)), (2.0, (1.0, 1.0, 2.0)), ((2.0, 1.0, 2.0), (1.0,) * 3)]
)
def test_outlines_lie_exactly_on_the_cubes(tmp_path: Path, to: object, spacing: tuple[float, ...]) -> None:
    for name, turn in AXES.items():
        save_volume(tmp_path / "scans" / name / "case.nii", turn, spacing)
    catalog, found = drawn(replace(CUBES, spacing=to), tmp_path / "scans", tmp_path / "out")
    for name in AXES:
        assert_on_the_scan(tmp_path / "scans" / name / "case.nii", tmp_path / "out" / "outlines" / name / "case.nii.gz")
    lines = list(csv.DictReader(io.StringIO(table_of(catalog, CUBES, found))))
    assert [line["outline"] for line in lines] == [f"outlines/{name}/case.nii.gz" for name in sorted(AXES)]
    for line in lines:
        assert int(line["voxels_cube"]) == 6**3
        assert float(line["ml_cube"]) == pytest.approx(6**3 * np.prod(spacing) / 1000, abs=5e-4)
        assert line["reason"] == line["remark"] == ""


def test_images_get_png_of_their_size_and_alpha_hides(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    (scans / "deep").mkdir(parents=True)
    grey = np.zeros((20, 31), np.uint8)
    grey[4:12, 10:20] = 200
    clear = np.where(np.arange(31) < 15, 255, 0).astype(np.uint8) * np.ones_like(grey)
    Image.fromarray(grey).save(scans / "deep" / "plain.jpg", quality=100)
    Image.fromarray(np.stack([grey, clear], -1)).save(scans / "veiled.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(scans / "threefold.png")
    Image.fromarray(np.stack([grey, grey // 2, grey], -1)).save(scans / "colour.png")
    _, found = drawn(SQUARES, scans, tmp_path / "out")
    expected = {"deep/plain": grey > 100, "veiled": (grey > 100) & (clear > 0), "threefold": grey > 100}
    for name, mask in expected.items():
        with Image.open(tmp_path / "out" / "outlines" / f"{name}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), mask * 255)
    assert not (tmp_path / "out" / "outlines" / "colour.png").exists()
    assert sorted(outline.reason for outline in found) == ["", "", "", "it has 3 channels, the model takes 1"]
    of_colour, found = drawn(replace(SQUARES, channels=3), scans, tmp_path / "coloured")
    assert [outline.reason for outline in found] == [""] * 4
    lines = list(csv.DictReader(io.StringIO(table_of(of_colour, SQUARES, found))))
    assert {(line["pixels_cube"], line["mm2_cube"]) for line in lines} == {("80", ""), ("40", "")}


def test_a_scan_that_does_not_fit_is_listed_with_its_reason(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    save_volume(scans / "good.nii.gz", AXES["flipped"])
    (scans / "cut.nii.gz").write_bytes((scans / "good.nii.gz").read_bytes()[:200])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20)).astype(np.uint8)).save(scans / "film.png")
    np.save(scans / "two.npy", np.random.default_rng(0).normal(size=(3, 9, 10, 11)).astype(np.float32))
    np.save(scans / "placeless.npy", np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32))
    catalog, found = drawn(replace(CUBES, spacing=1.0, modality="CT"), scans, tmp_path / "out")
    text = table_of(catalog, replace(CUBES, spacing=1.0), found)
    lines = {line["path"]: line for line in csv.DictReader(io.StringIO(text))}
    assert lines["film.png"]["reason"] == "it is an image, the model outlines volumes"
    assert lines["two.npy"]["reason"] == "it has 3 channels, the model takes 1"
    assert "truncated" in lines["cut.nii.gz"]["reason"]
    assert "does not say its spacing" in lines["placeless.npy"]["remark"]
    assert lines["placeless.npy"]["ml_cube"] == lines["film.png"]["voxels_cube"] == ""
    assert {path for path, line in lines.items() if line["outline"]} == {"good.nii.gz", "placeless.npy"}
    with pytest.raises(DataError, match="the model outlines volumes"):
        drawn(CUBES, scans / "film.png", tmp_path / "none")


def test_a_stop_leaves_whole_files_and_the_same_command_goes_on(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    save_volume(scans / "a.nii", AXES["upright"])
    save_volume(scans / "b.nii", AXES["upright"], bright=slice(0, 20))
    with pytest.raises(KeyboardInterrupt):
        drawn(CUBES, scans, out, Stopped())
    assert [file.name for file in (out / "outlines").iterdir()] == ["a.nii.gz"]
    (out / "outlines.jsonl").write_text((out / "outlines.jsonl").read_text() + '\n["b.nii.')
    _, found = drawn(CUBES, scans, out)
    assert [outline.kept for outline in found] == [True, False]
    assert_on_the_scan(scans / "b.nii", out / "outlines" / "b.nii.gz")
    _, again = drawn(CUBES, scans, out)
    assert [outline.kept for outline in again] == [True, True]
    assert [outline.voxels for outline in again] == [outline.voxels for outline in found]


def test_what_is_mended_stays_and_what_is_damaged_or_of_another_scan_is_drawn_again(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    for name in "abc":
        save_volume(scans / f"{name}.nii", AXES["oblique"])
    drawn(CUBES, scans, out)
    mended, damaged = out / "outlines" / "a.nii.gz", out / "outlines" / "b.nii.gz"
    image = nib.load(mended)
    nib.save(nib.Nifti1Image(np.full(SIDES, 7, np.uint8), image.affine), mended)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    save_volume(scans / "c.nii", AXES["oblique"], bright=slice(8, 12))
    _, found = drawn(CUBES, scans, out)
    assert [(outline.kept, *outline.voxels) for outline in found] == [
        (True, 20 * 18 * 16), (False, 6**3), (False, 4 * 6 * 6)
    ]  # fmt: skip
    catalog = build_catalog(scans, workers=1)
    other = write_outlines(CUBES, Bright(), "another model", catalog, out)
    assert [outline.voxels for outline in other] == [(6**3,), (6**3,), (4 * 6 * 6,)]
    assert not any(outline.kept for outline in other)


def test_no_outline_of_another_model_is_left_where_there_is_none(tmp_path: Path) -> None:
    save_volume(tmp_path / "scans" / "a.nii", AXES["upright"])
    catalog, _ = drawn(CUBES, tmp_path / "scans", tmp_path / "out")
    (found,) = write_outlines(CUBES, Greedy(), "another model", catalog, tmp_path / "out")
    assert found == Outline(reason="it needs more memory than there is")
    assert not list((tmp_path / "out" / "outlines").iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    save_volume(tmp_path / "scans" / "a.nii", AXES["upright"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "outlines").touch()
    with pytest.raises(OutputError, match="a file"):
        drawn(CUBES, tmp_path / "scans", tmp_path / "out")


def test_outlines_in_colours_are_counted_again(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name, side in (("some", 8), ("none", 0)):
        grey = np.zeros((20, 31), np.uint8)
        grey[4 : 4 + side, 10 : 10 + side] = 200
        Image.fromarray(grey).save(tmp_path / "scans" / f"{name}.png")
    colours = replace(SQUARES, values=(0, 0xFF8000))
    _, first = drawn(colours, tmp_path / "scans", tmp_path / "out")
    _, again = drawn(colours, tmp_path / "scans", tmp_path / "out")
    assert [outline.voxels for outline in first] == [outline.voxels for outline in again] == [(0,), (64,)]
    assert all(outline.kept for outline in again)
    with Image.open(tmp_path / "out" / "outlines" / "some.png") as image:
        assert image.getpixel((10, 4)) == (255, 128, 0)
