"""A published split that tears patients apart is said, whoever meant to use it."""

import numpy as np
import pytest
from PIL import Image

from medprior.data.annotations.tables import look_through
from medprior.data.catalog import build_catalog


def scans(folder, count=6):
    for i in range(count):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i}.png")


@pytest.mark.parametrize("column", ["split", "kcr_split", "Subset", "data set"])
def test_patients_in_two_splits_are_counted_and_not_named(tmp_path, column):
    scans(tmp_path)
    rows = [
        "0.png,ann,train",
        "1.png,ann,test",
        "2.png,bob,train",
        "3.png,bob,train",
        "4.png,cy,valid",
        "5.png,cy,test",
    ]
    (tmp_path / "t.csv").write_text("\n".join([f"file,patient,{column}", *rows]))
    catalog = build_catalog(tmp_path)
    (problem,) = catalog.problems.to_dict("records")
    said = f'2 patients stand in more than one split (column "{column}")'
    assert problem == {"path": "t.csv", "kind": "doubt", "reason": said}


@pytest.mark.parametrize(
    "table",
    [
        "file,patient,split\n0.png,a,train\n1.png,b,test",
        "file,patient,offset\n0.png,a,1\n1.png,a,2",
        "file,patient,split\n0.png,a,3\n1.png,a,4",
        "file,split\n0.png,train\n1.png,test",
        "patient,split\na,train\na,test",
        "no table",
        "",
    ],
)
def test_other_tables_are_passed_by(tmp_path, table):
    scans(tmp_path, 2)
    (tmp_path / "t.csv").write_text(table)
    assert look_through(tmp_path, ["t.csv"]) == []


@pytest.mark.data
def test_the_leaks_that_are_known_of_real_tables(real_data):
    paths = ["covid-ct/labels.csv", "nih-chestxray14-64px/labels.csv", "brain-tumor-mri/labels.csv"]
    notes = look_through(real_data, paths)
    assert {(note.path, note.reason.split(" stand")[0]) for note in notes} >= {(paths[0], "6 patients")}
    torn = {note.reason.split('"')[1] for note in notes if note.path == paths[1]}
    assert "kcr_split" in torn
