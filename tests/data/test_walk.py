"""What a walk takes and what it passes by: medprior's own output, links, pipes, DICOM and masks."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.walk import find_files, left_out
from medprior.errors import DataError


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def names(root: Path) -> list[str]:
    return [file.path for file in find_files(root).files]


@pytest.mark.parametrize("mark", ["study.json", "catalog.parquet", "store.json"])
def test_what_medprior_wrote_is_no_scan(tmp_path, mark):
    image(tmp_path / "a.png")
    image(tmp_path / "ward/out/cells/copy.png")
    np.save(tmp_path / "ward/out/pixels-1.npy", np.zeros((9, 8, 8)))
    (tmp_path / "ward/out" / mark).write_text("{}")
    found = find_files(tmp_path)
    assert [file.path for file in found.files] == ["a.png"] and found.own_folders == 1
    assert left_out(found) == ["Left out: 1 folders of results or pixels that medprior wrote."]


def test_the_root_may_hold_the_catalog_of_an_earlier_index(tmp_path):
    image(tmp_path / "a.png")
    build_catalog(tmp_path, cache=tmp_path / "catalog.parquet")
    assert len(build_catalog(tmp_path, cache=tmp_path / "catalog.parquet")) == 1


def test_broken_and_circular_links_stop_nothing(tmp_path):
    image(tmp_path / "scans/a.png")
    (tmp_path / "scans/b.png").symlink_to("c.png")
    (tmp_path / "scans/c.png").symlink_to("b.png")
    (tmp_path / "scans/d.png").symlink_to("gone.png")
    assert build_catalog(tmp_path / "scans").warnings == ["Left out: 3 links that lead nowhere or in a circle."]
    with pytest.raises(DataError):
        build_catalog(tmp_path / "scans/b.png")


def test_links_to_files_that_are_not_met_otherwise_are_scans(tmp_path):
    """git-annex keeps a.png in .git/annex; DVC and others name files by their hash."""
    for place in ("scans/.git/annex/k.png", "scans/met.png", "out.png"):
        image(tmp_path / place)
    root = tmp_path / "scans"
    (root / ".git/annex/k.png").rename(root / ".git/annex/SHA256-1")
    (root / "met.png").with_name("0f3c").write_bytes((root / "met.png").read_bytes())
    (root / "a.png").symlink_to(".git/annex/SHA256-1")
    (root / "b.png").symlink_to("a.png")
    (root / "c.png").symlink_to("0f3c")
    (root / "second name.png").symlink_to("met.png")
    (root / "out.png").symlink_to("../out.png")
    catalog = build_catalog(root)
    assert list(catalog.table["path"]) == ["a.png", "b.png", "c.png", "met.png"]
    assert "Left out: 1 links that lead out of the folder." in catalog.warnings


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="pipe or a device"):
        build_catalog(tmp_path / "a.png")
    image(tmp_path / "b.png")
    assert names(tmp_path) == ["b.png"]


@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "1.2.840.77"])
def test_dicom_is_said_to_be_unread_and_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(DataError) as refused:
            build_catalog(place)
        assert "DICOM is not read yet" in refused.value.do and "dcm2niix" in refused.value.do


def test_other_unread_files_are_not_taken_for_dicom(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"text")
    with pytest.raises(DataError) as refused:
        build_catalog(tmp_path)
    assert "DICOM" not in refused.value.do


def test_dicom_beside_scans_is_said_in_the_warning(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "b.dcm").write_bytes(b"x")
    assert "dcm2niix" in build_catalog(tmp_path).warnings[0]


MASKS = ["labelsTr/a.png", "x/Masks/a.png", "annotations_1/a/b.png", "a_mask.png", "b_SEG.jpg", "c_label.png"]
MASKS += ["Image_01L_1stHO.png", "Image_01L_2ndHO.png"]


def test_what_looks_like_masks_is_counted_in_one_sentence(tmp_path):
    scans = ["imagesTr/a.png", "unmasked.png", "label_3/a.png", "seg.png", "masks.png", "a_mask/b.png"]
    for path in [*MASKS, *scans]:
        image(tmp_path / path)
    (said,) = build_catalog(tmp_path).warnings
    assert said.startswith(f"{len(MASKS)} files look like masks") and "move them out" in said


def test_scans_alone_give_no_word_of_masks(tmp_path):
    image(tmp_path / "imagesTr/a.png")
    assert build_catalog(tmp_path).warnings == []


def test_names_of_several_lines_are_shown_on_one(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b\n\u2028é.png")
    (tmp_path / "c.x\ny").write_text("x")
    catalog = build_catalog(tmp_path)
    assert catalog.problems["path"].tolist() == ["b\\n\\u2028é.png"]
    assert "\n" not in "".join(catalog.warnings)
