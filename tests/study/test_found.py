"""What the terminal says of a folder, and the private lists beside the catalog."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from medprior.data.card import make_card
from medprior.data.catalog import Catalog, build_catalog
from medprior.study.planning.found import catalog_lines, write_rows


def pictures(folder: Path, count: int = 6) -> Catalog:
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(folder / f"scan {i}.png")
    return build_catalog(folder, workers=1)


def test_patients_are_counted_as_on_the_card(tmp_path: Path) -> None:
    catalog = pictures(tmp_path)
    assert "Patients unknown" in catalog_lines(catalog)
    catalog.table["patient"] = ["a", "a", "b", "", "", ""]
    assert "Patients 2, 3 scans of unknown ones" in catalog_lines(catalog)
    who = make_card(catalog).patients
    assert (who.known, who.nameless) == (2, 3)


def test_a_row_is_found_again(tmp_path: Path) -> None:
    catalog = pictures(tmp_path)
    write_rows(catalog, tmp_path / "out")
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "path", "frame"]
    for i, line in enumerate(lines):
        assert (int(line["row"]), int(line["frame"])) == (i, catalog.source(i).frame)
        assert line["path"] == catalog.source(i).paths[0] == f"scan {i}.png"
