"""A small real study of outlines: its page shows scans in three planes with truth and prediction, scores by class and
reconstructions, in the words of outlines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from medprior.config import load_settings
from medprior.report.assemble import behind_grey, content_of, report
from medprior.report.card import data_card
from medprior.report.content import ReportContent
from medprior.report.drawings import draw
from medprior.report.outlines import WINDOW, cut_planes, fullest
from medprior.report.page import SIZE_LIMIT
from medprior.study.outlining import kept_maps
from medprior.study.study import Outcome, run_study

SMALL = [
    "data.size=16", "data.workers=1", "pretrain.methods=[genesis]", "pretrain.backbone=unet_8", "pretrain.steps=2",
    "pretrain.batch_size=2", "genesis.tissue=[0, 1]", "adapt.steps=2", "adapt.crops=2", "adapt.overlap=0",
    "study.budgets=[4, all]", "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1",
    "study.workers=1", "study.tolerance=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    scans = tmp_path_factory.mktemp("scans")
    write_scans(scans)
    return run_study(
        scans, None, load_settings(assignments=SMALL, methods=["genesis"]), tmp_path_factory.mktemp("study")
    )


@pytest.fixture(scope="module")
def content(outcome: Outcome) -> ReportContent:
    return content_of(outcome)


def write_scans(folder: Path) -> None:
    """Twelve volumes of 3 mm slices with a bright ball and a dark one, each with its mask."""
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    z, y, x = np.mgrid[:20, :18, :8] * np.array([1, 1, 3])[:, None, None, None]
    for case in range(12):
        labels = np.zeros(z.shape, np.uint8)
        for label, side in ((1, 0.3), (2, 0.7)):
            centre = np.array([20 * side, 9, 12]) + rng.uniform(-1, 1, 3)
            labels[np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) < 4.5] = label
        image = np.choose(labels, [100, 180, 40]) + rng.normal(0, 12, z.shape)
        for place, values in (("imagesTr", image.clip(0, 255)), ("labelsTr", labels)):
            volume = nibabel.Nifti1Image(values.astype(np.uint8), np.diag([1, 1, 3, 1]))
            nibabel.save(volume, folder / place / f"case_{case}.nii.gz")
    names = {"labels": {"0": "background", "1": "bright ball", "2": "dark ball"}}
    (folder / "dataset.json").write_text(json.dumps(names))


def test_worst_and_best_scans_are_shown_for_scratch_and_the_best_arm(outcome: Outcome, content: ReportContent) -> None:
    shown = content.outlines
    assert shown is not None
    assert list(shown.classes) == ["bright ball", "dark ball"]
    assert [budget for budget, _ in shown.shown] == [min(outcome.grid.budgets), max(outcome.grid.budgets)]
    for _, arms in shown.shown:
        assert [name for name, _ in arms] == ["scratch", "genesis"]
        for _, scans in arms:
            assert [scan.place for scan in scans] == ["worst", "middle", "best"]
            assert [scan.dice for scan in scans] == sorted(scan.dice for scan in scans)
            assert all([plane.name for plane in scan.planes] == ["axial", "coronal", "sagittal"] for scan in scans)


def test_planes_hold_what_the_files_and_the_cells_hold(outcome: Outcome, content: ReportContent) -> None:
    assert content.outlines is not None
    kept = {
        (row, round(dice, 9)): labels
        for file in (outcome.out / "cells").glob("*.maps.npz")
        for row, dice, labels in kept_maps(file)
    }
    for _, arms in content.outlines.shown:
        for scan in (scan for _, scans in arms for scan in scans):
            truth = outcome.ground.catalog.read_mask(scan.row)
            assert truth is not None
            place = int((truth > 0).sum((1, 2)).argmax())
            axial, _, sagittal = scan.planes
            np.testing.assert_array_equal(axial.truth, truth[place])
            np.testing.assert_array_equal(axial.predicted, kept[scan.row, round(scan.dice, 9)][place])
            assert axial.spacing == (1, 1) and sagittal.spacing == (3, 1)


def test_the_plane_across_each_axis_holds_most_of_the_truth() -> None:
    truth = np.zeros((6, 7, 8), np.uint8)
    truth[2, 1:6, 5] = 1
    truth[1:4, 3, 5] = 2
    assert fullest(truth) == [2, 3, 5]
    assert fullest(np.zeros((6, 7, 8), np.uint8)) == [3, 3, 4]


def test_a_head_is_above_and_a_coarser_picture_lies_where_its_map_does() -> None:
    truth = np.zeros((8, 4, 6), np.uint8)
    truth[6, 2, 3] = 1
    pixels = torch.zeros(1, 4, 4, 3)
    pixels[0, 3, 2, 1] = 1
    axial, coronal, sagittal = cut_planes(pixels, truth, truth, (1, 2, 3), upright=True)
    assert axial.pixels.shape == (1, 4, 3) and axial.pixels[0, 2, 1] == 255 and axial.spacing == (2, 3)
    assert coronal.truth[1, 3] == 1 and coronal.pixels[0, 0, 1] == 255 and coronal.spacing == (1, 3)
    assert sagittal.truth[1, 2] == 1 and sagittal.pixels[0, 0, 2] == 255 and sagittal.spacing == (1, 2)


def test_a_large_image_of_fine_outlines_is_shown_in_detail_and_one_of_coarse_outlines_whole() -> None:
    truth = np.zeros((500, 700), np.uint8)
    truth[100:400:8, 300:600] = truth[102:402:8, 300:600] = 1
    pixels = torch.from_numpy(truth)[None].float()
    (plane,) = cut_planes(pixels, truth, 1 - truth, (1, 1), upright=False)
    assert plane.name == "detail" and plane.truth.shape == plane.pixels.shape[1:] == (WINDOW, WINDOW)
    np.testing.assert_array_equal(plane.predicted, 1 - plane.truth)
    np.testing.assert_array_equal(plane.pixels[0], 255 * plane.truth)
    assert plane.truth.all(1).sum() >= WINDOW // 4  # lines run through all of it
    (other,) = cut_planes(pixels[:, ::2, ::2], truth, truth, (1, 1), upright=False)
    whole = np.zeros((500, 700), np.uint8)
    whole[100:400, 300:600] = 1
    (coarse,) = cut_planes(pixels, whole, whole, (1, 1), upright=False)
    assert other.name == coarse.name == "" and coarse.truth.shape == other.truth.shape == (500, 700)


def test_an_image_is_shown_in_its_one_plane_and_in_its_shape_in_millimetres() -> None:
    truth = np.zeros((10, 20), np.uint8)
    truth[2:4, 5:9] = 1
    (plane,) = cut_planes(torch.rand(3, 10, 20), truth, truth, (4, 1), upright=False)
    drawing = draw(plane, "worst", 100)
    assert plane.name == "" and plane.pixels.shape == (3, 10, 20)
    assert 'viewBox="0 0 20 40"' in drawing.contours and "M5 2h4v2h-4z" in drawing.contours
    assert 'transform="scale(1 4)"' in drawing.contours


def test_scores_by_class_stand_in_classes_csv_and_on_the_page(outcome: Outcome, content: ReportContent) -> None:
    table = pd.read_csv(outcome.out / "classes.csv")
    assert list(table)[:6] == ["arm", "encoder", "adaptation", "budget", "class", "metric"]
    assert (table["patients"] == 12).all() and (table["seeds"] == 1).all()
    assert set(table["class"]) == {"bright ball", "dark ball"}
    assert set(table["budget"]) == set(outcome.grid.budgets)
    largest = table[(table["budget"] == max(outcome.grid.budgets)) & (table["adaptation"] != "scratch-2x")]
    assert sorted(row["mean"] for row in content.per_class) == pytest.approx(sorted(largest["mean"]), abs=1e-6)
    assert {row["metric"] for row in content.per_class} == {
        "Dice", "95% Hausdorff distance (mm)", "Surface Dice (tolerance 2 mm)",
    }  # fmt: skip


def test_what_an_encoder_saw_is_called_masked_only_where_it_was_hidden_behind_grey(content: ReportContent) -> None:
    assert content.reconstructions["genesis"].columns == ["target", "as seen", "reconstruction"]
    image = torch.rand(2, 1, 8, 8)
    hidden = torch.rand(2, 1, 8, 8) < 0.5
    assert behind_grey(image, torch.where(hidden, torch.tensor(0.5), image))
    assert not behind_grey(image, image)
    assert not behind_grey(image, torch.where(hidden, 1 - image, image))


def test_the_page_speaks_of_scans_and_stays_light(outcome: Outcome) -> None:
    page = report(outcome).read_text(encoding="utf-8")
    assert len(page.encode()) < SIZE_LIMIT / 5
    words = re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert "What pre-training was worth on 12 scans" in words
    assert "annotated scans (log scale)" in words and "Annotated scans by class and split" in words
    assert ">chance<" not in page
    for name in outcome.ground.catalog.table["path"]:
        assert name not in page


def test_the_data_card_speaks_of_scans_and_names_the_classes(outcome: Outcome, tmp_path: Path) -> None:
    html, _ = data_card(outcome.ground.catalog, tmp_path, (-1000, 1000))
    page = html.read_text(encoding="utf-8")
    assert "12 scans have outlines of 2 classes." in page
    assert "bright ball</li>" in page and "mask, value" not in page


@pytest.mark.browser
def test_the_page_in_a_browser_shows_contours_over_pictures_of_the_same_shape(outcome: Outcome, browser: Any) -> None:
    address, said = report(outcome).as_uri(), list[str]()
    for width in (390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shapes = page.evaluate(
            """() => [...document.querySelectorAll("#outlines .plane")].map(plane => {
                const image = plane.querySelector("img"), box = plane.querySelector("svg").viewBox.baseVal
                return [image.naturalWidth, image.naturalHeight, box.width, box.height, plane.clientWidth]})"""
        )
        assert len(shapes) == 2 * 2 * 3 * 3
        assert all(shape[:2] == shape[2:4] and shape[4] > 90 for shape in shapes)
        page.locator("#outlines .plane").first.hover()
        assert not page.locator("#outlines .outline").first.is_visible()
        assert page.locator("#outlines .outline").last.is_visible()
    assert said == []
