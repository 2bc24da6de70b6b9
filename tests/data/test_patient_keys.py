"""The salt of patient keys: made once, whole, however many processes want it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medprior.data.privacy import PatientKeys, patient_keys
from medprior.errors import DataError

WANTS = """
import sys
from pathlib import Path
from medprior.data.privacy import patient_keys
print(patient_keys(Path(sys.argv[1])).mark)
"""


def test_processes_that_want_the_salt_at_once_get_the_same(tmp_path: Path) -> None:
    file = tmp_path / "deep/salt"
    asked = [subprocess.Popen([sys.executable, "-c", WANTS, str(file)], stdout=subprocess.PIPE) for _ in range(6)]
    marks = {process.communicate(timeout=60)[0] for process in asked}
    assert marks == {f"{patient_keys(file).mark}\n".encode()}
    assert [path.name for path in file.parent.iterdir()] == ["salt"]
    assert file.stat().st_mode & 0o077 == 0


def test_a_part_left_by_a_killed_process_is_no_salt(tmp_path: Path) -> None:
    (tmp_path / f".salt.{os.getpid()}.part").write_text("half")
    assert len(patient_keys(tmp_path / "salt").salt) == 32


def test_a_file_that_is_no_salt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").write_text("")
    with pytest.raises(DataError, match="does not hold a salt"):
        patient_keys(tmp_path / "salt")


def test_a_key_is_the_same_for_the_same_person_and_tells_nothing() -> None:
    keys = PatientKeys(b"s" * 32)
    assert keys("Doe^Jane") == keys(" Doe^Jane ") != keys("Doe^John")
    assert "Doe" not in keys("Doe^Jane") and keys("") == ""
