"""What a walk takes and what it passes by: medprior's own output, links, pipes, DICOM and masks."""

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
