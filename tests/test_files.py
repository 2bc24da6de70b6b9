"""Files are whole or absent, and the disk's refusals are said plainly."""

import errno
import json
import os
from pathlib import Path

import pytest

from medprior.errors import OutputError
from medprior.files import make_folder, replace_file, said_plainly, write_json, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replace_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5], 3: "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": None, "y": [None, 1.5], "3": "ü"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_disk_errors_are_said_plainly(code: int) -> None:
    with pytest.raises(OutputError) as caught, said_plainly(Path("results.csv")):
        raise OSError(code, os.strerror(code))
    assert "results.csv" in str(caught.value)
    assert "--out" in str(caught.value)


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="a part of this path is a file"):
        make_folder(tmp_path / "out" / "deeper")
    with pytest.raises(OutputError, match="a file of this name is in the way"):
        make_folder(tmp_path / "out")


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "index.parquet" / "deeper").mkdir(parents=True)
    with pytest.raises(OutputError, match="a folder of this name is in the way"):
        write_text(tmp_path / "index.parquet", "")


def test_a_disk_that_is_full() -> None:
    with pytest.raises(OutputError, match="no space"), said_plainly(Path("x")), open("/dev/full", "w") as full:
        full.write("x" * 100_000)
