"""What a walk takes and what it passes by: medprior's own output, links, pipes, DICOM and masks."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.indexing.walk import find_files, left_out
from medprior.errors import DataError


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(value, value + 64, dtype=np.uint8).reshape(8, 8)).save(path)


def names(root: Path) -> list[str]:
    return [file.path for file in find_files(root).files]


@pytest.mark.parametrize("mark", ["study.json", "index.parquet", "catalog.parquet", "store.json", "volumes.json"])
def test_what_medprior_wrote_is_no_scan(tmp_path, mark):
    image(tmp_path / "a.png")
    image(tmp_path / "ward/out/cells/copy.png")
    np.save(tmp_path / "ward/out/pixels-1.npy", np.zeros((9, 8, 8)))
    (tmp_path / "ward/out" / mark).write_text("{}")
    found = find_files(tmp_path)
    assert [file.path for file in found.files] == ["a.png"] and found.own_folders == 1
    assert left_out(found) == ["Left out: 1 folder of results or pixels that medprior wrote."]


def test_the_root_may_hold_the_catalog_of_an_earlier_index(tmp_path):
    image(tmp_path / "a.png")
    build_catalog(tmp_path, cache=tmp_path / "catalog.parquet")
    assert len(build_catalog(tmp_path, cache=tmp_path / "catalog.parquet")) == 1


def test_broken_and_circular_links_stop_nothing(tmp_path):
    image(tmp_path / "scans/a.png")
    (tmp_path / "scans/b.png").symlink_to("c.png")
    (tmp_path / "scans/c.png").symlink_to("b.png")
    (tmp_path / "scans/d.png").symlink_to("gone.png")
    assert build_catalog(tmp_path / "scans").warnings == ["Left out: 3 links to nowhere or in a circle."]
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
    assert "Left out: 1 link out of the folder, not followed." in catalog.warnings


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="pipe or a device"):
        build_catalog(tmp_path / "a.png")
    image(tmp_path / "b.png")
    assert names(tmp_path) == ["b.png"]


def test_dicom_is_told_by_its_content(tmp_path):
    """Files of a hospital's archive have no ending, or the number of an object as their name."""
    for name in ("IM0001", "1.2.840.77", "a.xyz"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 9)
    (tmp_path / "b.xyz").write_bytes(b"text")
    found = find_files(tmp_path)
    assert {file.path: file.family for file in found.files} == dict.fromkeys(["1.2.840.77", "IM0001", "a.xyz"], "dicom")
    assert found.others == {".xyz": 1}


def test_names_of_several_lines_are_shown_on_one(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b\n\u2028é.png")
    (tmp_path / "c.x\ny").write_text("x")
    catalog = build_catalog(tmp_path)
    assert catalog.problems["path"].tolist() == ["b\\n\\u2028é.png"]
    assert "\n" not in "".join(catalog.warnings)


def test_a_folder_that_cannot_be_listed_is_named_and_stops_nothing(tmp_path, monkeypatch):
    """Permissions bind no administrator, who may run this: the system's answer is given in its place."""
    image(tmp_path / "scans/a.png")
    image(tmp_path / "scans/shut/b.png")
    real, shut = os.scandir, tmp_path / "scans/shut"

    def scandir(folder):
        if Path(folder) == shut:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    catalog = build_catalog(tmp_path / "scans")
    said = [("shut", "unreadable", "the folder cannot be listed: permission denied")]
    assert len(catalog) == 1 and list(catalog.problems.itertuples(index=False, name=None)) == said
    with pytest.raises(DataError, match="cannot be listed"):
        build_catalog(shut)


def test_what_is_passed_by_is_counted(tmp_path):
    image(tmp_path / "scans/deep/a.png")
    (tmp_path / "scans/b.png").symlink_to("deep/a.png")
    (tmp_path / "scans/deep/up").symlink_to("..")
    (tmp_path / "scans/gone.png").symlink_to("nothing.png")
    (tmp_path / "scans/round.png").symlink_to("round.png")
    (tmp_path / "scans/notes.xyz").write_text("?")
    os.mkfifo(tmp_path / "scans/pipe.png")
    assert left_out(find_files(tmp_path / "scans")) == [
        "Left out, of kinds that are not read: 1 file (1 .xyz).",
        "Left out: 2 links to nowhere or in a circle.",
        "Left out: 2 links to a folder, or to a file that is met by itself.",
        "Left out: 1 special file (a pipe, a device).",
    ]
