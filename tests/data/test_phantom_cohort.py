"""The cohort on disk: reproducible per patient, labelled as asked, with its truth beside it."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medprior.data.phantom import anatomy, make_cohort, render_ct, render_xray, report
from medprior.errors import OutputError, SettingsError


def rows(labels: Path) -> list[dict[str, str]]:
    with labels.open() as file:
        return list(csv.DictReader(file))


def test_a_patient_is_the_same_whatever_the_size_of_the_cohort(tmp_path: Path) -> None:
    few, many = make_cohort(tmp_path / "few", patients=2, seed=5), make_cohort(tmp_path / "many", patients=4, seed=5)
    assert rows(few) == rows(many)[:2]
    for row in rows(few):
        assert (few.parent / row["path"]).read_bytes() == (many.parent / row["path"]).read_bytes()


def test_other_seeds_and_other_patients_are_others() -> None:
    images = [render_xray(anatomy(seed, patient), 32).image for seed, patient in ((0, 0), (0, 1), (1, 0))]
    assert len({image.tobytes() for image in images}) == 3


def test_labels_name_their_columns_and_agree_with_the_anatomy(tmp_path: Path) -> None:
    table = rows(make_cohort(tmp_path, patients=6, seed=1, size=32))
    expected = ["path", "label", "patient", "site", "sex", "age", "visit", "effusion", "nodule", "cardiomegaly"]
    assert list(table[0]) == expected
    for number, row in enumerate(table):
        someone = anatomy(1, number)
        assert row["label"] == ("lesion" if someone.lesions else "normal")
        assert {name: int(row[name]) for name in someone.findings} == someone.findings
        assert Image.open(tmp_path / row["path"]).size == (32, 32)
        assert "lesion" not in row["path"]


@pytest.mark.parametrize(("labelled", "expected"), [(2, ["P00000", "P00001"]), ([3, 1], ["P00001", "P00003"]), (0, [])])
def test_unlabelled_patients_stay_out_of_the_labels(tmp_path: Path, labelled: object, expected: list[str]) -> None:
    labels = make_cohort(tmp_path, patients=4, size=16, labelled=labelled)
    assert [row["patient"] for row in rows(labels)] == expected
    assert len(list((tmp_path / "images").iterdir())) == 4


def test_visits_keep_the_patient_and_change_the_stance(tmp_path: Path) -> None:
    table = rows(make_cohort(tmp_path, patients=2, scans_per_patient=2, size=32))
    assert [(row["patient"], row["visit"]) for row in table] == [
        ("P00000", "0"),
        ("P00000", "1"),
        ("P00001", "0"),
        ("P00001", "1"),
    ]
    first, second = anatomy(0, 1, 0), anatomy(0, 1, 1)
    assert first.findings == second.findings
    assert (first.build.sex, first.build.age, first.site) == (second.build.sex, second.build.age, second.site)
    assert first.pose != second.pose
    moved = [np.linalg.norm(np.subtract(first.landmarks[name], second.landmarks[name])) for name in first.landmarks]
    assert 0 < max(moved) < 40


def test_a_nodule_moves_with_the_breath_and_stays_itself() -> None:
    for number in (n for n in range(12) if anatomy(0, n).lesions):
        first, later = anatomy(0, number), anatomy(0, number, 1)
        stretch = later.build.lung_height / first.build.lung_height
        for before, now in zip(first.lesions, later.lesions, strict=True):
            assert (before.shape.radii, before.hu, before.side) == (now.shape.radii, now.hu, now.side)
            assert now.shape.centre[0] == pytest.approx(before.shape.centre[0] * stretch)
            assert np.linalg.norm(np.subtract(now.shape.centre, before.shape.centre)) < 25


def test_findings_and_sites_are_mixed_and_independent() -> None:
    people = [anatomy(9, number) for number in range(160)]
    lesion, south = np.array([bool(p.lesions) for p in people]), np.array([p.site == "south" for p in people])
    assert 0.38 < lesion.mean() < 0.62
    assert 0.38 < south.mean() < 0.62
    assert abs(lesion[south].mean() - lesion[~south].mean()) < 0.25
    assert 0.1 < np.mean([bool(p.effusions) for p in people]) < 0.32


def test_annotations_hold_the_truth_of_every_scan(tmp_path: Path) -> None:
    make_cohort(tmp_path, patients=3, labelled=1)
    scans = json.loads((tmp_path / "annotations.json").read_text())["scans"]
    assert sorted(scans) == sorted(f"images/{path.name}" for path in (tmp_path / "images").iterdir())
    for number, facts in enumerate(scans[path] for path in sorted(scans)):
        someone = anatomy(0, number)
        assert facts["report"] == list(report(someone))
        assert sum(box["name"] == "nodule" for box in facts["boxes"]) == len(someone.lesions)
        np.testing.assert_allclose(
            facts["landmarks"]["carina"], render_xray(someone, 64).landmarks["carina"], atol=1e-3
        )


def test_reports_say_what_is_there() -> None:
    for number in range(20):
        someone, text = anatomy(0, number), " ".join(report(anatomy(0, number)))
        assert ("The lungs are clear." in text) == (not someone.lesions)
        assert ("No pleural effusion." in text) == (not someone.effusions)
        assert ("The heart is enlarged." in text) == someone.cardiomegaly


def test_ct_files_masks_and_world_landmarks_agree(tmp_path: Path) -> None:
    labels = make_cohort(tmp_path, patients=2, size=40, kind="ct")
    scans = json.loads((tmp_path / "annotations.json").read_text())["scans"]
    for number, row in enumerate(rows(labels)):
        image, ct = nibabel.load(tmp_path / row["path"]), render_ct(anatomy(0, number), 40)
        np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), ct.volume)
        organs = nibabel.load(tmp_path / "masks" / Path(row["path"]).name.replace(".nii.gz", "_organs.nii.gz"))
        np.testing.assert_array_equal(np.asarray(organs.dataobj).transpose(2, 1, 0), ct.organs)
        np.testing.assert_allclose(image.affine, organs.affine)
        facts = scans[row["path"]]
        world = nibabel.affines.apply_affine(np.linalg.inv(image.affine), facts["landmarks_mm"]["carina"])
        np.testing.assert_allclose(world[::-1], facts["landmarks"]["carina"], atol=2e-3)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "I")


@pytest.mark.parametrize(
    "wrong",
    [{"patients": 0}, {"patients": 2, "kind": "mri"}, {"patients": 2, "labelled": [5]}, {"patients": 2, "size": 0}],
)
def test_impossible_cohorts_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(SettingsError):
        make_cohort(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        make_cohort(tmp_path / "file", patients=1)


def test_two_hundred_xrays_take_seconds() -> None:
    """The promise is 200 in 10 s of one core; here 20, with room for a busy machine."""
    start = time.process_time()
    for number in range(20):
        render_xray(anatomy(0, number), 64)
    assert time.process_time() - start < 3
