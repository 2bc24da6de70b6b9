"""Batches of stored pixels: the same wherever the pixels lie, one copy for all processes, errors instead of signals."""

import errno
import gc
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medprior.data.intensity import IntensityPlan
from medprior.data.store import files
from medprior.data.store.fill import Rows
from medprior.data.store.pixels import PixelStore, ResidentStore, Stored
from medprior.data.store.placement import Kind, Placement
from medprior.data.store.plan import StorePlan
from medprior.data.store.reading import PixelFile, _unfilled, read_ahead
from medprior.errors import StoreError

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("device", "host", "disk")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
LAYOUTS = {"grey": (24, 1, 2), "colour": (64, 3, 2), "volumes": (32, 1, 3)}


def make_store(folder: Path, count: int, size: int, channels: int = 1, dims: int = 2) -> PixelStore:
    """A store of noise, each row with a content box of its own."""
    plan = StorePlan(count, size, channels, dims, IntensityPlan((-1000, 1000), ()), key="0" * 32)
    rng, rows = np.random.default_rng(0), Rows.empty(plan)
    rows.content[:] = rng.uniform(-1, 1, rows.content.shape)
    folder.mkdir(parents=True)
    with files.pixels_file(folder, plan).open("wb") as stream:
        stream.write(plan.header)
        for _ in range(count):
            stream.write(rng.bytes(plan.row_bytes))
        os.fsync(stream.fileno())
    files.write_about(folder, plan, rows, {})
    return PixelStore.open(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PixelStore]:
    folder = tmp_path_factory.mktemp("stores")
    return {name: make_store(folder / name, 40, *layout) for name, layout in LAYOUTS.items()}


@pytest.fixture
def small(tmp_path: Path) -> PixelStore:
    return make_store(tmp_path / "store", 40, 32)


def placed(store: PixelStore, kind: Kind, device: torch.device = CPU) -> ResidentStore:
    return ResidentStore(store, device, Placement(kind, "in a test"))


def every_pixel(store: PixelStore) -> np.ndarray:
    """(N, C, *A) as NumPy reads its own format."""
    return np.load(files.pixels_file(store.folder, store.plan))


def check_batch(found: Stored, store: PixelStore, rows: list[int]) -> None:
    expected = torch.from_numpy(every_pixel(store)[rows])
    assert found.index.dtype == torch.int64
    assert found.index.tolist() == rows
    assert found.pixels.dtype == torch.uint8
    assert torch.equal(found.pixels.cpu(), expected)
    assert torch.equal(found.level0().cpu(), expected[..., : store.size])
    assert torch.equal(found.content.cpu(), torch.from_numpy(store.content[rows]))
    assert (found.size, found.levels) == (store.size, store.levels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=60))
def test_batches_are_the_same_wherever_pixels_lie(
    stores: dict[str, PixelStore], layout: str, kind: Kind, rows: list[int]
) -> None:
    check_batch(placed(stores[layout], kind).batch(torch.tensor(rows)), stores[layout], rows)


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_run_of_neighbours_is_read_whole(tmp_path: Path, order: int) -> None:
    store = make_store(tmp_path / "store", 1100, 8)
    rows = list(range(1100))[::order]
    check_batch(placed(store, "host").batch(torch.tensor(rows)), store, rows)


@given(st.lists(st.integers(1, 9), max_size=9), st.data())
def test_what_a_short_read_left_is_what_remains(lengths: list[int], data: st.DataObject) -> None:
    whole = np.arange(sum(lengths), dtype=np.uint8)
    views = [memoryview(part) for part in np.split(whole, np.cumsum(lengths))[:-1]]  # type: ignore[arg-type]
    count = data.draw(st.integers(0, len(whole)))
    left = _unfilled(views, count)
    assert b"".join(left) == whole[count:].tobytes()
    assert all(len(view) for view in left)


def test_nothing_is_gathered_before_it_is_asked_for(small: PixelStore) -> None:
    held = placed(small, "device")
    first, second = held.batch(torch.tensor([1])), held.batch(torch.tensor([2, 3]))
    assert first.source.data_ptr() == second.source.data_ptr()
    assert first.level0().shape == (1, 1, 32, 32)
    assert first.level0().is_contiguous()


@pytest.mark.parametrize("kind", ["device", "host"])
def test_a_compiled_caller_sees_one_graph(small: PixelStore, kind: Kind) -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def both(stored: Stored) -> torch.Tensor:
        return stored.level0().float().mean() + stored.pixels.float().mean()

    stored = placed(small, kind).batch(torch.tensor([3, 1]))
    assert both(stored) == stored.level0().float().mean() + stored.pixels.float().mean()


def test_the_place_is_chosen_or_asked_for(small: PixelStore) -> None:
    assert small.resident("cpu").placement.kind == "host"
    assert small.resident("cpu", "disk").placement == Placement("disk", "as was asked")
    assert len(small.resident("cpu")) == 40


@pytest.mark.parametrize("row", [-1, 40])
@pytest.mark.parametrize("kind", ["host", "disk"])
def test_a_row_that_is_not_there_is_named(small: PixelStore, kind: Kind, row: int) -> None:
    with pytest.raises(StoreError, match=f"no row {row} in the pixel store"):
        placed(small, kind).batch(torch.tensor([0, row]))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
@pytest.mark.parametrize("kind", ["host", "disk"])
def test_a_store_damaged_in_use_is_named(small: PixelStore, kind: Kind, damage: Callable[[Path], None]) -> None:
    resident, path = placed(small, kind), files.pixels_file(small.folder, small.plan)
    check_batch(resident.batch(torch.tensor([5])), small, [5])
    damage(path)
    with pytest.raises(StoreError, match=f"{path.name}.*\nDelete this folder and repeat"):
        resident.batch(torch.tensor([5]))


def test_what_the_device_holds_needs_no_file(small: PixelStore) -> None:
    resident = placed(small, "device")
    resident.prepare()
    before = resident.batch(torch.tensor([7])).pixels
    shutil.rmtree(small.folder)
    assert torch.equal(resident.batch(torch.tensor([7])).pixels, before)


def test_an_open_file_cut_short_behind_a_whole_one_is_seen(small: PixelStore) -> None:
    path = files.pixels_file(small.folder, small.plan)
    file, into = PixelFile(small.folder, small.plan), np.empty((1, *small.plan.row_shape), np.uint8)
    shutil.copy(path, small.folder / "copy")
    with path.open("r+b") as opened:
        (small.folder / "copy").replace(path)
        opened.truncate(1000)
    with pytest.raises(StoreError, match=r"was cut from [\d,]+ to 1,000 bytes"):
        file.read(np.array([0]), into)


def test_a_read_beyond_the_end_is_said(small: PixelStore) -> None:
    """As when the file is cut between the look at its length and the reading."""
    file = PixelFile(small.folder, small.plan)
    with pytest.raises(StoreError, match="was cut short while it was read"):
        file._fill([memoryview(bytearray(100))], small.plan.file_bytes - 50)


CUT = """
import os, sys, threading, torch
from medprior.data.store.pixels import PixelStore
from medprior.errors import StoreError
store = PixelStore.open(sys.argv[1])
resident, said = store.resident("cpu", sys.argv[2]), []
running = threading.Barrier(4)
def read(seed):
    draw = torch.Generator().manual_seed(seed)
    for number in range(100_000):
        try:
            resident.batch(torch.randint(store.count, (16,), generator=draw))
        except StoreError as error:
            said.append(error)
            return
        if number == 5:
            running.wait()
threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
for thread in threads:
    thread.start()
running.wait()
os.truncate(sys.argv[3], 5000)
for thread in threads:
    thread.join()
assert len(said) == 3, said
"""


@pytest.mark.parametrize("kind", ["host", "disk"])
def test_cutting_a_file_that_threads_read_kills_no_process(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path / "store", 300, 64)
    arguments = [str(store.folder), kind, str(files.pixels_file(store.folder, store.plan))]
    done = subprocess.run([sys.executable, "-c", CUT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_it(small: PixelStore, kind: Kind) -> None:
    resident = placed(small, kind)
    orders = [np.random.default_rng(seed).integers(0, 40, 30).tolist() for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for rows, found in zip(orders, pool.map(lambda rows: resident.batch(torch.tensor(rows)), orders), strict=True):
            check_batch(found, small, rows)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_the_file_is_closed_when_nobody_holds_it(small: PixelStore) -> None:
    def opened() -> int:
        return sum(link.exists() and link.resolve() == path for link in Path("/proc/self/fd").iterdir())

    path = files.pixels_file(small.folder, small.plan).resolve()
    resident = placed(small, "disk")
    resident.batch(torch.tensor([0]))
    assert opened() == 1
    copy = pickle.loads(pickle.dumps(resident))
    assert opened() == 2
    check_batch(copy.batch(torch.tensor([4])), small, [4])
    del resident, copy
    gc.collect()
    assert opened() == 0


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system does not say what it holds in memory")
def test_reading_ahead_brings_the_file_into_memory(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 500, 64)
    path = files.pixels_file(store.folder, store.plan)
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        places = range(0, store.plan.file_bytes, 65_536)
        if all(in_memory(stream.fileno(), place) for place in places):
            pytest.skip("this file system keeps its files in memory")
        read_ahead([tmp_path / "gone", path]).join()
        assert all(in_memory(stream.fileno(), place) for place in places)


def in_memory(descriptor: int, place: int) -> bool:
    """Whether one byte can be had without waiting for the disk."""
    try:
        return os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("this file system does not say what it holds in memory")
        raise


SHARED = """
import hashlib, json, sys, torch
from medprior.data.store.pixels import PixelStore
def private():
    lines = [line.split() for line in open("/proc/self/smaps_rollup")]
    return 1024 * sum(int(line[1]) for line in lines if line[0] == "Private_Dirty:")  # clean: pages of libraries
store, digest = PixelStore.open(sys.argv[1]), hashlib.blake2b()
store.resident("cpu", "disk").batch(torch.arange(50))
print("ready", flush=True)
sys.stdin.readline()
before = private()
resident = store.resident("cpu")
for rows in torch.arange(store.count).split(50):
    digest.update(resident.batch(rows).pixels.numpy())
print(json.dumps([resident.placement.kind, private() - before, digest.hexdigest()]))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc")
def test_processes_share_one_copy(tmp_path: Path) -> None:
    """Two at once read every row of 61 MB; neither's own memory grows by a third of that, buffers included."""
    store = make_store(tmp_path / "store", 2500, 128)
    assert store.nbytes > 60e6
    command = [sys.executable, "-c", SHARED, str(store.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in both:
        assert process.stdout.readline() == "ready\n", process.communicate()
    answers = [process.communicate("go\n") for process in both]
    digest = hashlib.blake2b(every_pixel(store)).hexdigest()
    for said, wrong in answers:
        kind, grown, found = json.loads(said or "[0, 0, 0]")
        assert (kind, found) == ("host", digest), wrong
        assert grown < store.nbytes / 3


@GPU
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_same_on_a_gpu(stores: dict[str, PixelStore], layout: str, kind: Kind) -> None:
    resident = placed(stores[layout], kind, torch.device("cuda"))
    rows = [4, 1, 1, 39]
    for given_rows in (torch.tensor(rows), torch.tensor(rows).cuda()):
        found = resident.batch(given_rows)
        assert found.pixels.is_cuda and found.index.is_cuda and found.content.is_cuda
        check_batch(found, stores[layout], rows)


@GPU
@pytest.mark.parametrize("kind", KINDS)
def test_copies_in_flight_are_never_overwritten(tmp_path: Path, kind: Kind) -> None:
    """Batches made by threads on the consumer's stream, which is kept busy, and dropped as soon as they are used."""
    store, device = make_store(tmp_path / "store", 400, 128, 3), torch.device("cuda")
    resident, stream = placed(store, kind, device), torch.cuda.Stream()
    orders = [torch.from_numpy(np.random.default_rng(seed).integers(0, 400, 128)) for seed in range(40)]
    busy, sums = torch.randn(4096, 4096, device=device), []

    def make(rows: torch.Tensor) -> Stored:
        with torch.cuda.stream(stream):
            return resident.batch(rows)

    stream.wait_stream(torch.cuda.current_stream())
    with ThreadPoolExecutor(3) as pool, torch.cuda.stream(stream):
        for stored in pool.map(make, orders):
            busy = busy @ busy / 4096
            sums.append(stored.pixels.long().sum(dim=(1, 2, 3)))
            del stored
    stream.synchronize()
    totals = torch.from_numpy(every_pixel(store).reshape(400, -1).sum(axis=1, dtype=np.int64))
    for rows, found in zip(orders, sums, strict=True):
        assert torch.equal(found.cpu(), totals[rows])


@GPU
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_never_waits_for_the_gpu(small: PixelStore, kind: Kind) -> None:
    resident = placed(small, kind, torch.device("cuda"))
    resident.prepare()
    resident.batch(torch.tensor([0]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = resident.batch(torch.tensor([1, 2]))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_batch(found, small, [1, 2])
