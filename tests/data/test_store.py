"""The pixel store: exact where it must be, whole or absent, and the same wherever its pixels lie."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.catalog import Catalog, build_catalog
from medprior.data.readers import read
from medprior.data.store.letterbox import box_index, resize
from medprior.data.store.pixels import PixelStore
from medprior.data.store.pyramid import level_index, pack
from medprior.errors import DataError, OutputError, SettingsError, StoreError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPES = [(64, 64), (40, 90), (128, 31), (20, 24), (200, 200)]


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(shape: tuple[int, ...], seed: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Five 8-bit images of different shapes and one of 16 bits."""
    for i, shape in enumerate(SHAPES):
        write_image(tmp_path / f"scans/{i}.png", noise(shape, i))
    write_image(tmp_path / "scans/5.png", noise((50, 60), 5, np.uint16))
    return build_catalog(tmp_path / "scans")


@pytest.fixture
def store(catalog: Catalog, tmp_path: Path) -> PixelStore:
    return PixelStore.build(catalog, tmp_path / "store", size=64)


def level0(store: PixelStore, row: int) -> np.ndarray:
    return store.pixels(np.array([row]))[0][level_index(store.size, store.spatial_dims, 0)]


def test_every_scan_is_area_averaged_into_its_box_on_black(catalog: Catalog, store: PixelStore) -> None:
    assert (store.count, store.size, store.channels, store.spatial_dims, store.levels) == (6, 64, 1, 2, 3)
    for row, shape in enumerate([(64, 64), (28, 64), (64, 16), (20, 24), (64, 64)]):
        box = box_index(store.content[row], 64)
        assert tuple(s.stop - s.start for s in box) == shape
        image = level0(store, row)
        expected = np.rint(resize(read(catalog.source(row), catalog.root).pixels, shape))
        np.testing.assert_array_equal(image[(slice(None), *box)], expected)
        outside = image.copy()
        outside[(slice(None), *box)] = 0
        assert not outside.any()


def test_the_atlas_holds_the_levels_of_level_0(store: PixelStore) -> None:
    for row in range(store.count):
        np.testing.assert_array_equal(store.pixels(np.array([row]))[0], pack(level0(store, row), store.levels))


def test_physical_values_come_back_to_half_a_quantum(catalog: Catalog, store: PixelStore) -> None:
    truth = read(catalog.source(5), catalog.root).pixels.astype(float)
    scale, low = store.rows.scale[5, 0], store.rows.offset[5, 0]
    assert np.abs(store.physical(5) - truth.clip(low, low + 255 * scale)).max() <= scale / 2 * (1 + 1e-9)
    np.testing.assert_array_equal(store.physical(3), read(catalog.source(3), catalog.root).pixels)


def test_mean_and_std_are_those_of_the_content(store: PixelStore) -> None:
    inside = [level0(store, row)[(0, *box_index(store.content[row], 64))].ravel() / 255 for row in range(store.count)]
    assert store.mean[0] == pytest.approx(np.concatenate(inside).mean())
    assert store.std[0] == pytest.approx(np.concatenate(inside).std())
    some = store.moments(np.array([1, 3]))
    assert some[0][0] == pytest.approx(np.concatenate([inside[1], inside[3]]).mean())


def test_it_is_rebuilt_only_when_something_changed(catalog: Catalog, store: PixelStore, tmp_path: Path) -> None:
    file = next(store.folder.glob("pixels-*.npy"))
    before = file.stat().st_mtime_ns
    again = PixelStore.build(catalog, store.folder, size=64)
    assert file.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.load(), store.load())
    assert again.plan == store.plan == PixelStore.open(store.folder).plan
    write_image(tmp_path / "scans/0.png", noise((64, 64), 99))
    changed = PixelStore.build(build_catalog(tmp_path / "scans"), store.folder, size=64)
    np.testing.assert_array_equal(level0(changed, 0)[0], noise((64, 64), 99))
    other = PixelStore.build(catalog, store.folder, size=32, channels=3)
    assert other.load().shape == (6, 3, 32, 48)
    assert sorted(f.suffix for f in store.folder.iterdir()) == [".json", ".npy", ".npz"], "the old files are gone"


@pytest.mark.parametrize("what", ["spacing", "quantiles", "window"])
def test_it_is_rebuilt_when_geometry_or_mapping_changed(catalog: Catalog, store: PixelStore, what: str) -> None:
    if what == "spacing":
        catalog.table["spacing"] = [(2.0, 1.0)] * len(catalog)
    elif what == "quantiles":
        catalog.table["quantiles"] = [[[v * 2 for v in c] for c in q] for q in catalog.table["quantiles"]]
    else:
        catalog.table["modality"], catalog.table["dtype"] = "CT", "int16"
    before = PixelStore.build(catalog, store.folder, size=64).plan if what == "window" else store.plan
    window = (-160.0, 240.0) if what == "window" else (-1000.0, 1000.0)
    after = PixelStore.build(catalog, store.folder, size=64, ct_window=window).plan
    assert after.key != before.key
    assert (after.intensity == before.intensity) == (what != "window")


def test_one_unreadable_scan_is_listed_and_tried_again(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "scans/2.png"
    shutil.move(file, tmp_path / "away")
    file.write_bytes((tmp_path / "away").read_bytes()[:100])
    store = PixelStore.build(catalog, tmp_path / "store", size=64)
    assert store.failed.tolist() == [False, False, True, False, False, False]
    assert "truncated" in store.failures[2]
    assert not store.pixels(np.array([2])).any()
    assert store.content[2].tolist() == [[-1, 1], [-1, 1]]
    assert PixelStore.open(tmp_path / "store").failures == store.failures
    shutil.move(tmp_path / "away", file)
    assert not PixelStore.build(catalog, tmp_path / "store", size=64).failed.any()


def test_no_scan_at_all_leaves_no_store(catalog: Catalog, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "scans")
    with pytest.raises(DataError, match="none of the 6 scans could be stored"):
        PixelStore.build(catalog, tmp_path / "store", size=64)
    assert not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize("damage", ["truncate", "delete", "rows", "garbage"])
def test_damage_is_said_and_mended_by_building_again(catalog: Catalog, store: PixelStore, damage: str) -> None:
    pixels, rows = next(store.folder.glob("pixels-*")), next(store.folder.glob("rows-*"))
    expected = store.load()
    match damage:
        case "truncate":
            os.truncate(pixels, pixels.stat().st_size - 1000)
        case "delete":
            pixels.unlink()
        case "rows":
            rows.write_bytes(rows.read_bytes()[:50])
        case "garbage":
            (store.folder / "store.json").write_text('{"version": 1, "plan": 3}')
    with pytest.raises(StoreError, match="Delete this folder and repeat"):
        PixelStore.open(store.folder)
    if damage in ("truncate", "delete"):
        with pytest.raises(StoreError, match=pixels.name):
            store.pixels(np.array([5]))
    np.testing.assert_array_equal(PixelStore.build(catalog, store.folder, size=64).load(), expected)


def test_no_store_and_a_newer_store_are_said(store: PixelStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"store\.json is not there"):
        PixelStore.open(tmp_path / "nowhere")
    about = store.folder / "store.json"
    about.write_text(re.sub(r'"version": \d+', '"version": 99', about.read_text()))
    with pytest.raises(StoreError, match="version 99"):
        PixelStore.open(store.folder)


KILLED = """
import os, sys
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store import fill as storing
catalog = build_catalog(sys.argv[1])
storing._write = lambda *_: os.kill(os.getpid(), 9)
PixelStore.build(catalog, sys.argv[2], size=64)
"""


class Stopper:
    """A progress that stops the build when the first scans are done."""

    @contextmanager
    def task(self, title: str, total: float | None, unit: str = "") -> Iterator["Stopper"]:
        yield self

    def advance(self, amount: float = 1) -> None:
        raise KeyboardInterrupt

    def note(self, text: str) -> None: ...

    def say(self, text: str) -> None: ...


def test_a_stopped_build_leaves_nothing(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        PixelStore.build(catalog, tmp_path / "store", size=64, progress=Stopper())
    assert not list((tmp_path / "store").iterdir())


def test_a_killed_build_is_not_believed_and_cleared_away(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "scans", folder])
    assert done.returncode == -9
    assert [f.suffix for f in folder.iterdir()] == [".part"]
    with pytest.raises(StoreError):
        PixelStore.open(folder)
    PixelStore.build(catalog, folder, size=64)
    assert sorted(f.suffix for f in folder.iterdir()) == [".json", ".npy", ".npz"]


def test_too_little_space_is_refused_before_the_work(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"6 scans at 1048576 px need [\d,.]+ MB, the disk has [\d,.]+ MB left"):
        PixelStore.build(catalog, tmp_path / "store", size=2**20)


def test_a_disk_that_fills_up_meanwhile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medprior.data.store import fill as storing

    for i in range(40):
        write_image(tmp_path / f"scans/{i}.png", noise((200, 200), i))
    small = tmp_path / "small"
    small.mkdir()
    if (
        shutil.which("mount") is None
        or os.geteuid()
        or os.system(f"mount -t tmpfs -o size=1m tmpfs {small} 2>/dev/null")
    ):
        pytest.skip("mounting a small disk is not allowed here")
    try:
        monkeypatch.setattr(storing, "_check_space", lambda folder, plan: None)
        with pytest.raises(OutputError, match=r"40 scans at 192 px need 3\.3 MB"):
            PixelStore.build(build_catalog(tmp_path / "scans"), small / "store", size=192)
        assert not list((small / "store").iterdir())
    finally:
        os.system(f"umount {small}")


def test_a_place_that_is_no_folder_is_said(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here is a file")
    with pytest.raises(OutputError, match="a part of this path is a file"):
        PixelStore.build(catalog, tmp_path / "file" / "store", size=64)


def test_colour_that_is_grey_takes_one_channel(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / f"scans/{i}.png", np.repeat(noise((32, 32, 1), i), 3, axis=2))
    store = PixelStore.build(build_catalog(tmp_path / "scans"), tmp_path / "store", size=32)
    assert store.channels == 1
    np.testing.assert_array_equal(level0(store, 1)[0], noise((32, 32, 1), 1)[..., 0])


def test_colour_and_grey_together_take_three(tmp_path: Path) -> None:
    colour = noise((32, 32, 3), 0)
    write_image(tmp_path / "scans/0.png", colour)
    write_image(tmp_path / "scans/1.png", noise((32, 32), 1))
    catalog = build_catalog(tmp_path / "scans")
    store = PixelStore.build(catalog, tmp_path / "store", size=32)
    assert store.channels == len(store.mean) == 3
    np.testing.assert_array_equal(level0(store, 0), colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        level0(store, 1), np.repeat(noise((1, 32, 32), 0) * 0 + noise((32, 32), 1), 3, axis=0)
    )
    grey = PixelStore.build(catalog, tmp_path / "grey", size=32, channels=1)
    np.testing.assert_allclose(level0(grey, 0)[0], colour @ [0.299, 0.587, 0.114], atol=0.5001)
    with pytest.raises(DataError, match="the scan has 3 channels, the store 2"):
        PixelStore.build(build_catalog(tmp_path / "scans" / "0.png"), tmp_path / "two", size=32, channels=2)


def test_volumes_make_a_3d_store_and_do_not_mix_with_images(tmp_path: Path) -> None:
    volume = noise((40, 30, 20), 0, np.int16)
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans/a.npy", volume)
    catalog = build_catalog(tmp_path / "scans")
    store = PixelStore.build(catalog, tmp_path / "store", size=32, spatial_dims=3)
    assert store.load().shape == (1, 1, 32, 32, 48)
    np.testing.assert_array_equal(store.pixels(np.array([0]))[0], pack(level0(store, 0), 2))
    assert store.physical(0).shape == (1, 32, 24, 16)
    expected = resize(volume[None], (32, 24, 16))
    low, step = store.rows.offset[0, 0], store.rows.scale[0, 0]
    assert np.abs(store.physical(0) - expected.clip(low, low + 255 * step)).max() <= step / 2 * (1 + 1e-6)
    with pytest.raises(DataError, match=r"1 scans are volumes \(3D\) and 0 are images \(2D\)"):
        PixelStore.build(catalog, tmp_path / "other", size=32)
    write_image(tmp_path / "scans/b.png", noise((32, 32), 1))
    with pytest.raises(DataError, match=r"1 scans are images \(2D\) and 1 are volumes.*\n*.*folders of their own"):
        PixelStore.build(build_catalog(tmp_path / "scans"), tmp_path / "other", size=32, spatial_dims=3)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 32, "channels": 0}, {"size": 32, "spatial_dims": 4}])
def test_impossible_stores_are_refused(catalog: Catalog, tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="no store has"):
        PixelStore.build(catalog, tmp_path / "store", **wrong)


def test_workers_change_nothing(catalog: Catalog, store: PixelStore, tmp_path: Path) -> None:
    one = PixelStore.build(catalog, tmp_path / "one", size=64, workers=1)
    np.testing.assert_array_equal(one.load(), store.load())
    assert (one.mean, one.std) == (store.mean, store.std)


@pytest.mark.data
@pytest.mark.skipif(not (SHARED / "msd-task04-hippocampus").is_dir(), reason="../shared/data is absent")
def test_real_volumes(tmp_path: Path) -> None:
    some = sorted((SHARED / "msd-task04-hippocampus").rglob("*.nii.gz"))[:4]
    (tmp_path / "scans").mkdir()
    for file in some:
        shutil.copy(file, tmp_path / "scans")
    store = PixelStore.build(build_catalog(tmp_path / "scans"), tmp_path / "store", size=32, spatial_dims=3)
    assert not store.failed.any()
    assert 0.05 < store.mean[0] < 0.95
