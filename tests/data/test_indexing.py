"""An index is made by several processes: it gives the same however many there are, no file stops it, and nothing of it
stays behind or is lost when it is stopped."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medprior.data.catalog import build_catalog
from medprior.data.indexing import pool
from medprior.data.indexing.cache import SCHEMA, index_files
from medprior.data.indexing.examining import examine
from medprior.data.indexing.walk import find_files
from medprior.data.privacy import PatientKeys
from medprior.data.treatments import treatments_of
from medprior.progress import silent


@pytest.fixture
def at_once(monkeypatch):
    """Processes also for small folders."""
    monkeypatch.setattr(pool, "SMALL", 0.0)


def images(folder: Path, count: int, size=(24, 20)) -> Path:
    for i in range(count):
        file = folder / f"ward {i % 3}/{i:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, size, np.uint8)).save(file)
    return folder


def volume(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.eye(4)), path)


def with_decoder(monkeypatch, folder: Path, ends: str) -> None:
    """Workers meet, in the place of nibabel, a decoder that ends like this whatever it is asked for."""
    folder.mkdir()
    asked = "def __getattr__(name):\n    if name.startswith('__'): raise AttributeError(name)\n"
    (folder / "nibabel.py").write_text(f"import os, signal, ctypes\n{asked}    {ends}\n")
    monkeypatch.syspath_prepend(str(folder))


def table_of(folder: Path, workers: int | None = None):
    table, _ = index_files(folder, find_files(folder).files, None, workers, PatientKeys(), silent)
    return table


def children(pid: int | None = None) -> list[int]:
    """Processes that were started by this one, or by `pid`."""
    tasks = Path(f"/proc/{pid or os.getpid()}/task")
    found: list[int] = []
    for task in tasks.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    """Whether all of these processes end within some seconds."""
    end = time.monotonic() + seconds
    while alive := [pid for pid in pids if running(pid)]:
        if time.monotonic() > end:
            return not alive
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_any_number_of_processes_gives_the_same(tmp_path, monkeypatch):
    folder = images(tmp_path / "scans", 60)
    (folder / "empty.png").write_bytes(b"")
    np.savez(folder / "stack.npz", images=np.random.default_rng(0).integers(0, 255, (7, 9, 9), np.uint8))
    here = table_of(folder)
    monkeypatch.setattr(pool, "SMALL", 0.0)
    assert here.schema == SCHEMA and len(here) == 60 + 1 + 7
    assert all(table_of(folder, workers).equals(here) for workers in (1, 2, 5))


def test_few_files_start_no_process(tmp_path, monkeypatch):
    folder = images(tmp_path / "scans", 100)
    monkeypatch.setattr(pool, "Worker", lambda _: pytest.fail("a process was started"))
    assert len(table_of(folder)) == 100


def test_unchanged_files_start_no_process(tmp_path, monkeypatch, at_once):
    folder, cache = images(tmp_path / "scans", 20), tmp_path / "index.parquet"
    first = build_catalog(folder, cache=cache)
    monkeypatch.setattr(pool, "Worker", lambda _: pytest.fail("a process was started"))
    assert build_catalog(folder, cache=cache).fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("ctypes.string_at(0)", "the decoder crashed on this file"),
        ("os._exit(3)", "the decoder crashed on this file"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "most often for want of memory"),
        ("ctypes.PyDLL(None).sleep(60)", "did not come to an end in 1 seconds"),  # holds the interpreter all the while
        ("raise KeyboardInterrupt", "the decoder crashed on this file"),
        ("raise SystemError('x')", "SystemError"),
    ],
)
def test_a_decoder_that_ends_its_process_costs_one_file(tmp_path, monkeypatch, at_once, ends, reason):
    folder = images(tmp_path / "scans", 40)
    volume(folder / "ward 1/bad.nii")
    with_decoder(monkeypatch, tmp_path / "decoder", ends)
    monkeypatch.setattr(pool, "PATIENCE", 1.0)
    before = children()
    table = table_of(folder, 2)
    bad = table.filter(table["kind"].is_valid()).select(["path", "kind", "reason"]).to_pylist()
    assert [(row["path"], row["kind"]) for row in bad] == [("ward 1/bad.nii", "unreadable")]
    assert reason in bad[0]["reason"]
    assert len(set(table["path"].to_pylist())) == len(table) == 41
    assert children() == before


def test_a_process_killed_once_costs_nothing(tmp_path, monkeypatch, at_once):
    """As when the memory that another program took is free again: the file is tried once more, alone."""
    folder = images(tmp_path / "scans", 12)
    volume(folder / "ward 1/unlucky.nii")
    once = tmp_path / "once"
    ends = f"open({str(once)!r}, 'x').close() or os.kill(os.getpid(), signal.SIGKILL)"
    with_decoder(monkeypatch, tmp_path / "decoder", ends)
    table = table_of(folder, 2)
    (reason,) = table.filter(table["kind"].is_valid())["reason"].to_pylist()
    assert once.exists() and "FileExistsError" in reason  # what this decoder says when it is asked again


def test_where_no_process_can_be_started_the_work_is_done_here(tmp_path, monkeypatch, at_once):
    folder = images(tmp_path / "scans", 12)
    expected = table_of(folder)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    assert table_of(folder, 2).equals(expected)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert table_of(folder, 2).equals(expected)


def test_a_mistake_of_a_reader_costs_one_file(tmp_path, monkeypatch):
    (file,) = find_files(images(tmp_path / "scans", 1)).files
    monkeypatch.setattr("medprior.data.indexing.examining.facts_of", lambda pixels: pixels[7])
    (row,) = examine(file, tmp_path / "scans", PatientKeys())
    assert row["kind"] == "unreadable" and row["reason"].startswith("its reader failed (IndexError: ")


def test_a_worker_is_light():
    heavy = {"torch", "pandas", "pyarrow", "pydicom", "PIL", "nibabel"}
    code = f"import medprior.data.indexing.worker, sys; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


SCRIPT = """
import sys
from pathlib import Path
from medprior.data.indexing import pool
from medprior.data.catalog import build_catalog
pool.SMALL = 0.0
print("begun", flush=True)
catalog = build_catalog(sys.argv[1], cache=Path(sys.argv[2]), workers=2)
print(len(catalog))
"""


def test_a_script_without_a_guard_runs_once(tmp_path):
    folder = images(tmp_path / "scans", 30)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(folder), str(tmp_path / "index.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["begun", "30"] and done.stderr == ""


SLOW = """
import sys, time
from medprior.data.indexing import examining
genuine = examining.facts_of
def facts_of(pixels):
    time.sleep(0.02)
    return genuine(pixels)
examining.facts_of = facts_of
"""
STOPPED = """
import sys
from pathlib import Path
from medprior.data.indexing import cache as indexing
from medprior.data.indexing import pool
from medprior.data.catalog import build_catalog
pool.SMALL, indexing._BETWEEN_PARTS = 0.0, 0.2
class Bar:
    def advance(self, amount=1): print("one", flush=True)
    def note(self, text): pass
class Seen:
    def task(self, title, total, unit="", done=0):
        from contextlib import nullcontext
        print("total", total, flush=True)
        return nullcontext(Bar())
    def say(self, text): pass
try:
    build_catalog(sys.argv[1], cache=Path(sys.argv[2]), workers=2, progress=Seen())
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """An index of 200 images in a process of its own, in which every image takes 20 ms more; and what it says."""
    folder = images(tmp_path / "scans", 200)
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(SLOW)
    (tmp_path / "script.py").write_text(STOPPED)
    path = os.pathsep.join([str(tmp_path / "slow"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    command = [sys.executable, str(tmp_path / "script.py"), str(folder), str(tmp_path / "out/index.parquet")]

    def started():
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return started


def after(process: subprocess.Popen, count: int) -> list[int]:
    """Wait until `count` files are done; the workers then."""
    said = [process.stdout.readline().split() for _ in range(count + 1)]
    assert said[0][0] == "total" and said[-1] == ["one"]
    return children(process.pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_index_that_is_stopped_leaves_no_process_and_goes_on_where_it_was(slow, how):
    first = slow()
    workers = after(first, 100)
    assert len(workers) == 2 and all(running(pid) for pid in workers)
    first.send_signal(how)
    said = first.communicate(timeout=10)[0].split()
    assert gone(workers, 5) and ("stopped" in said) == (how == signal.SIGINT)
    second = slow()
    left = int(second.communicate(timeout=60)[0].split()[1])
    assert second.returncode == 0
    assert left <= 110 if how == signal.SIGINT else left <= 160  # of 200; parts are written every 0.2 s here


def test_a_second_stop_while_the_first_is_handled_leaves_no_process(slow):
    first = slow()
    workers = after(first, 40)
    for _ in range(3):
        first.send_signal(signal.SIGINT)
    first.communicate(timeout=10)
    assert gone(workers, 5)


@pytest.mark.data
def test_a_perfusion_map_gets_no_hounsfield_window(real_data):
    name = "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"
    catalog = build_catalog(real_data / "dicom-ingest/cornerstone" / name)
    assert set(catalog.table["units"]) == {"RCBF"}
    assert set(treatments_of(catalog.table)) == {"CT in other units"}
    assert any("RCBF" in reason for reason in catalog.problems["reason"])
