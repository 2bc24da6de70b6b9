"""Groups of scans from the columns of a label table: which are taken, how they are cut, and what stays unsaid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.annotations.groups import Grouping, check_groups, groups_lines, read_groups
from medprior.data.annotations.join import join_labels
from medprior.data.catalog import Catalog, build_catalog
from medprior.errors import SettingsError

COUNT = 24


def catalog_of(folder: Path, header: str, rows: list[str]) -> tuple[Catalog, Path]:
    """Images 0.png, 1.png, ... and a table: path, label and patient of each, then the cells given."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(len(rows)):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / f"images/{i}.png")
    table = folder / "labels.csv"
    lines = [f"images/{i}.png,{'ab'[i % 2]},p{i},{cells}" for i, cells in enumerate(rows)]
    table.write_text("\n".join([f"path,label,patient,{header}", *lines]) + "\n")
    return join_labels(build_catalog(folder / "images"), table), table


def by_image(catalog: Catalog, grouping: Grouping) -> dict[int, str | None]:
    """The group of every image by its number."""
    names = [*grouping.groups, None]
    return {int(Path(path).stem): names[i] for path, i in zip(catalog.table["path"], grouping.member, strict=True)}


def test_columns_are_recognised_by_name(tmp_path: Path) -> None:
    rows = [f"{'MF'[i % 2]},{20 + 3 * i},{['east', 'west'][i % 2]},{i % 3},{i % 2}" for i in range(COUNT)]
    catalog, table = catalog_of(tmp_path, "Patient's Sex,age,Hospital,shelf,View Position", rows)
    found, left = read_groups(catalog, table, ())
    assert [one.name for one in found] == ["Patient's Sex", "age", "Hospital", "View Position"]
    assert left == ()
    assert by_image(catalog, found[2])[3] == "west"
    (line,) = groups_lines(found)
    assert "Patient's Sex (2 groups), age (<40, 40-59, 60-74, 75+)" in line
    assert "--groups" in line


def test_ages_become_bands_with_their_edges_above(tmp_path: Path) -> None:
    ages = ["39", "40", "59.5", "60", "74", "75", "", "058Y", "007M", "90", "91", "NA"]
    catalog, table = catalog_of(tmp_path, "age", ages)
    (found,), _ = read_groups(catalog, table, ())
    bands = by_image(catalog, found)
    expected = ["<40", "40-59", "40-59", "60-74", "60-74", "75+", None, "40-59", "<40", "75+", "75+", None]
    assert [bands[i] for i in range(len(ages))] == expected
    assert found.banded


def test_other_numbers_become_thirds_and_few_values_stay(tmp_path: Path) -> None:
    rows = [f"{i},{1 + i % 3}.0" for i in range(COUNT)]
    catalog, table = catalog_of(tmp_path, "dose,grade", rows)
    found, _ = read_groups(catalog, table, ("dose", "grade"))
    dose, grade = found
    assert [int((dose.member == k).sum()) for k in range(3)] == [8, 8, 8]
    assert dose.groups[1] == "7.667 to <15.33"
    assert grade.groups == ("1", "2", "3")
    assert not grade.banded


def test_rare_values_and_spellings_stand_together(tmp_path: Path) -> None:
    sites = [*["North"] * 8, *["north"] * 4, *["south"] * 9, "Dr Grey", "Dr White", "Dr Black"]
    catalog, table = catalog_of(tmp_path, "site", sites)
    (found,), _ = read_groups(catalog, table, ())
    assert found.groups == ("North", "south", "other")
    assert [int((found.member == k).sum()) for k in range(3)] == [12, 9, 3]


def test_unknown_columns_are_refused_with_the_nearest(tmp_path: Path) -> None:
    catalog, table = catalog_of(tmp_path, "site", ["east", "west"] * 4)
    with pytest.raises(SettingsError, match=r'(?s)"sitte".*Nearest: "site"'):
        check_groups(("sitte",), table)
    with pytest.raises(SettingsError, match="manufacturer"):
        check_groups(("ward",), None)
    check_groups(("site", "gender", "Institution Name"), None)  # headers may say it
    with pytest.raises(SettingsError, match="what is learnt"):
        read_groups(catalog, table, ("label",))
    with pytest.raises(SettingsError, match="who"):
        read_groups(catalog, table, ("patient",))
    check_groups(("SITE", "modality"), table)


def test_a_column_that_says_one_thing_is_left_out_and_none_asks_for_nothing(tmp_path: Path) -> None:
    catalog, table = catalog_of(tmp_path, "site", ["east"] * 8)
    assert read_groups(catalog, table, ()) == ((), ())
    found, left = read_groups(catalog, table, ("site",))
    assert found == ()
    assert "the same for all" in left[0]
    assert read_groups(catalog, table, ("none",)) == ((), ())


def test_a_row_that_matches_no_image_gives_no_group(tmp_path: Path) -> None:
    catalog, table = catalog_of(tmp_path, "site", ["east", "west"] * 12)
    text = table.read_text().replace("images/5.png", "images/none.png")
    table.write_text(text)
    (found,), _ = read_groups(catalog, table, ())
    assert by_image(catalog, found)[5] is None
    assert by_image(catalog, found)[7] == "west"
