"""The volume store: exact where it says so, crops equal slices, whole or absent volume by volume."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.catalog import Catalog, build_catalog
from medprior.data.readers import read
from medprior.data.store.letterbox import resize
from medprior.data.volumestore import fill as volumefill
from medprior.data.volumestore.file import decoded_share, layout
from medprior.data.volumestore.plan import VolumeSettings, plan_volumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import DataError, OutputError, SettingsError, StoreError

SHAPES = [(20, 30, 40), (70, 33, 65), (5, 64, 64), (7, 9, 9)]
MASKED = np.random.default_rng(9).integers(0, 3, SHAPES[0]).astype(np.uint8)


def ct(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """HU with air near -1000."""
    volume = np.random.default_rng(seed).normal(0, 60, shape).astype(np.int16)
    volume[:, : shape[1] // 3] -= 1000
    volume[0, 0, 0], volume[0, -1, -1] = -1024, 3071
    return volume


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Four volumes of whole numbers; the first again under another name; and one of floats."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for i, shape in enumerate(SHAPES):
        np.save(folder / f"{i}.npy", ct(shape, i))
    np.save(folder / "4.npy", ct(SHAPES[0], 0))
    np.save(folder / "5.npy", np.random.default_rng(5).normal(3, 1e-3, (12, 13, 14)).astype(np.float32))
    return build_catalog(folder)


@pytest.fixture
def store(catalog: Catalog, tmp_path: Path) -> VolumeStore:
    return VolumeStore.build(catalog, tmp_path / "store")


def masked(folder: Path, *masks: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> Catalog:
    """Volumes and their masks as NIfTI, and one volume without."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate((*masks, None)):
        nibabel.save(nibabel.Nifti1Image(stored_as(ct(SHAPES[0], i)), affine), folder / f"imagesTr/{i}.nii.gz")
        if mask is not None:
            nibabel.save(nibabel.Nifti1Image(stored_as(mask), affine), folder / f"labelsTr/{i}.nii.gz")
    return build_catalog(folder)


def stored_as(volume: np.ndarray) -> np.ndarray:
    """(D, H, W) head, back, left as NIfTI's x, y, z of an affine with x and y turned."""
    return np.ascontiguousarray(volume.T)


def truth(catalog: Catalog, row: int) -> np.ndarray:
    return read(catalog.source(row), catalog.root).pixels


def test_whole_numbers_come_back_exactly_and_others_to_half_a_quantum(catalog: Catalog, store: VolumeStore) -> None:
    for row in range(5):
        np.testing.assert_array_equal(store.physical(row), truth(catalog, row))
        assert store.shape(row) == truth(catalog, row).shape[1:]
        assert store.channels(row) == 1
    (scale,), _ = store.mapping(5)
    values = truth(catalog, 5)
    assert scale <= np.ptp(values) / 65535 * 1.0001
    assert np.abs(store.physical(5) - values).max() <= scale / 2 * (1 + 1e-9)
    assert store.volume(5).dtype == np.int16


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_values_of_any_range_come_back(data: st.DataObject) -> None:
    """`_wide_channel` and `to_stored` alone: every type, extreme ranges, constants."""
    from medprior.data.facts import facts_of
    from medprior.data.volumestore.plan import _wide

    dtype = data.draw(st.sampled_from(["int16", "uint16", "uint8", "int32", "float32"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    low, span = data.draw(st.integers(-30_000, 30_000)), data.draw(st.integers(0, 90_000))
    values = (rng.random((2, 3, 4, 5)) * span + low).clip(*_limits(dtype)).astype(dtype)
    scan = {"dtype": dtype, "quantiles": facts_of(values).quantiles.tolist()}
    scale, offset = _wide(scan, "unknown")
    stored = volumefill.to_stored(values, scale, offset, "int16")
    back = stored * scale.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1)
    error = np.abs(back - values.astype(np.float64))
    assert (error <= scale.reshape(-1, 1, 1, 1) / 2 + 1e-9).all()
    if dtype != "float32" and np.ptp(values.astype(int)) < 2**16:
        assert not error.any(), "whole numbers exactly"


def _limits(dtype: str) -> tuple[float, float]:
    return (-np.inf, np.inf) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def test_a_hot_voxel_leaves_the_rest_its_steps(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (20, 20, 20)).astype(np.float32)
    values[3, 3, 3] = 1e9
    np.save(tmp_path / "a.npy", values)
    store = VolumeStore.build(build_catalog(tmp_path), tmp_path / "store")
    assert store.mapping(0)[0][0] < 1e-2


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_crop_equals_a_slice_of_the_padded_volume(shared: VolumeStore, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(shared) - 1))
    sides = shared.shape(row)
    corner = tuple(data.draw(st.integers(-20, n + 5)) for n in sides)
    shape = tuple(data.draw(st.integers(1, 40)) for _ in sides)
    margin = 70
    whole = np.pad(shared.volume(row), [(0, 0), *[(margin, margin)] * 3], constant_values=shared.black(row)[0])
    at = tuple(slice(c + margin, c + margin + n) for c, n in zip(corner, shape, strict=True))
    np.testing.assert_array_equal(shared.crop(row, corner, shape), whole[(slice(None), *at)])


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    folder = tmp_path_factory.mktemp("shared")
    for i, shape in enumerate(SHAPES[:3]):
        np.save(folder / f"{i}.npy", ct(shape, i))
    return VolumeStore.build(build_catalog(folder), folder / "store")


def test_hounsfield_units_of_floats_become_whole(tmp_path: Path) -> None:
    volume = ct(SHAPES[0], 0).astype(np.float32)
    np.save(tmp_path / "a.npy", volume)
    catalog = build_catalog(tmp_path)
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert [value.tolist() for value in store.mapping(0)] == [[1], [0]]
    np.testing.assert_array_equal(store.physical(0)[0], volume)


def test_contrasts_have_mappings_of_their_own_and_one_slice_is_a_volume(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(0, 1, (8, 9, 6)), rng.normal(500, 100, (8, 9, 6))], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values[:, :, :1, 0], np.eye(4)), tmp_path / "b.nii.gz")
    catalog = build_catalog(tmp_path)
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert (store.channels(0), store.channels(1), store.shape(1)) == (2, 1, (1, 9, 8))
    scale, _ = store.mapping(0)
    assert scale[1] > 20 * scale[0]
    for row in range(2):
        error = np.abs(store.physical(row) - truth(catalog, row)).max(axis=(1, 2, 3))
        assert (error <= store.mapping(row)[0] / 2 * (1 + 1e-9)).all()
    assert store.crop(0, (0, 0, 0), (4, 4, 4)).shape == (2, 4, 4, 4)
    outside = store.crop(0, (0, 0, 100), (2, 2, 2))
    np.testing.assert_array_equal(outside[:, 0, 0, 0], store.black(0))


def test_large_volumes_take_turns(catalog: Catalog) -> None:
    plan = plan_volumes(catalog, VolumeSettings())
    jobs = [volumefill.Job("a", 0, (0,), False)]
    assert volumefill._threads(plan, jobs, 7) == 7
    assert volumefill._threads(plan, jobs, None) == os.cpu_count()
    row = plan.rows[0]
    assert row is not None
    huge = replace(plan, rows=(replace(row, source=(10_000, 10_000, 10_000)),))
    assert volumefill._threads(huge, jobs, None) == 1


def test_black_is_what_the_intensity_plan_shows_black(store: VolumeStore) -> None:
    assert store.black(0).tolist() == [-1000]
    assert [edge.tolist() for edge in store.edges(0)] == [[-1000], [1000]]
    outside = store.crop(5, (-9, 0, 0), (4, 4, 4))
    (low,), _ = store.edges(5)
    (scale,), (offset,) = store.mapping(5)
    assert np.abs(outside * scale + offset - low).max() <= scale


def test_8_bits_follow_the_intensity_plan(catalog: Catalog, tmp_path: Path) -> None:
    store = VolumeStore.build(catalog, tmp_path / "store", dtype="uint8", ct_window=(-200, 300))
    values = truth(catalog, 1).clip(-200, 300)
    assert store.volume(1).dtype == np.uint8
    assert np.abs(store.physical(1) - values).max() <= 500 / 255 / 2 * 1.0001
    assert store.black(1).tolist() == [0]


def test_copies_share_a_file(store: VolumeStore) -> None:
    assert len(list(store.folder.glob("*.b2nd"))) == 5
    assert len(store) == 6


def test_it_opens_as_it_was_built(store: VolumeStore) -> None:
    again = VolumeStore.open(store.folder)
    assert again.index == store.index
    np.testing.assert_array_equal(again.volume(3), store.volume(3))


def test_only_what_changed_is_written_again(catalog: Catalog, store: VolumeStore, tmp_path: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in store.folder.glob("*.b2nd")}
    VolumeStore.build(catalog, store.folder, ct_window=(-100, 100))
    assert {file.name: file.stat().st_mtime_ns for file in store.folder.glob("*.b2nd")} == before
    np.save(tmp_path / "scans/2.npy", ct(SHAPES[2], 77))
    VolumeStore.build(build_catalog(tmp_path / "scans"), store.folder)
    after = {file.name: file.stat().st_mtime_ns for file in store.folder.glob("*.b2nd")}
    assert len(after) == len(before)
    assert len(after.items() & before.items()) == len(before) - 1


def test_volumes_on_another_grid(tmp_path: Path) -> None:
    """Values against area averages in float64, and millimetres of the corners kept."""
    volume = np.random.default_rng(0).integers(-900, 900, (24, 36, 16)).astype(np.int16)
    affine = np.array([[0.0, 0.6, 0, -50], [0.5, 0, 0, 20], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "a.nii.gz")
    catalog = build_catalog(tmp_path)
    own = VolumeStore.build(catalog, tmp_path / "own")
    assert own.spacing(0) == pytest.approx((4, 0.5, 0.6))
    store = VolumeStore.build(catalog, tmp_path / "store", spacing=1.0)
    assert store.shape(0) == (16, 12, 22), "slices of 4 mm are not multiplied"
    assert store.spacing(0) == pytest.approx((4, 1.0, 36 * 0.6 / 22))
    asked = VolumeStore.build(catalog, tmp_path / "asked", spacing=(1.0, 1.0, 1.2))
    assert asked.shape(0) == (64, 12, 18)
    _check_values(truth(catalog, 0), store)
    _check_values(truth(catalog, 0), asked)
    for made in (store, asked):
        for corner in [(0, 0, 0), (1, 1, 1), (1, 0, 1)]:
            np.testing.assert_allclose(_edge(made, corner), _edge(own, corner), atol=1e-6)


def _check_values(source: np.ndarray, store: VolumeStore) -> None:
    expected = source[0].astype(np.float64)
    for axis, n in enumerate(store.shape(0)):
        expected = np.moveaxis(_along(np.moveaxis(expected, axis, 0), n), 0, axis)
    assert np.abs(store.physical(0)[0] - expected).max() <= 0.5 + 1e-2


def _along(values: np.ndarray, n: int) -> np.ndarray:
    """An independent resampling: the integral between edges when shrinking, `np.interp` when growing."""
    flat, before = values.reshape(len(values), -1), len(values)
    if n < before:
        total = np.concatenate([np.zeros((1, flat.shape[1])), np.cumsum(flat, axis=0)])
        edges = np.arange(n + 1) * before / n
        at = np.stack([np.interp(edges, np.arange(before + 1), column) for column in total.T], axis=1)
        made = np.diff(at, axis=0) * n / before
    else:
        centres = (np.arange(n) + 0.5) * before / n - 0.5
        made = np.stack([np.interp(centres, np.arange(before), column) for column in flat.T], axis=1)
    return made.reshape(n, *values.shape[1:])


def _edge(store: VolumeStore, corner: tuple[int, ...]) -> np.ndarray:
    """mm of an outer corner of the box of a volume."""
    index = np.array(corner) * np.array(store.shape(0)) - 0.5
    return (store.affine(0) @ [*index, 1])[:3]


def test_unknown_spacing_keeps_the_grid_and_is_said(catalog: Catalog, tmp_path: Path) -> None:
    store = VolumeStore.build(catalog, tmp_path / "store", spacing=2.0)
    assert store.shape(0) == SHAPES[0]
    assert store.spacing(0) is None and store.affine(0) is None
    assert store.index.warnings == ("6 volumes say nothing of their spacing in mm and keep the grid of their file.",)


def test_masks_become_class_indices_that_mean_the_same_everywhere(tmp_path: Path) -> None:
    first, second = np.array([0, 5, 9], np.uint8)[MASKED], np.array([0, 9, 300], np.uint16)[MASKED]
    known = masked(tmp_path / "scans", first, second)
    store = VolumeStore.build(known, tmp_path / "store", masks=True)
    assert store.classes == (0, 5, 9, 300)
    assert [store.has_mask(row) for row in range(3)] == [True, True, False]
    np.testing.assert_array_equal(store.mask(0), MASKED)
    np.testing.assert_array_equal(store.mask(1), np.array([0, 2, 3])[MASKED])
    cut = store.mask_crop(0, (-2, 3, 4), (5, 6, 7))
    np.testing.assert_array_equal(cut[2:], MASKED[:3, 3:9, 4:11])
    assert not cut[:2].any()
    with pytest.raises(StoreError, match="row 2 has no stored mask"):
        store.mask(2)
    assert VolumeStore.open(store.folder).index == store.index
    assert not VolumeStore.build(known, tmp_path / "store").has_mask(0), "not asked for"


def test_black_and_white_masks_are_0_and_1(tmp_path: Path) -> None:
    two = (MASKED > 0).astype(np.uint8)
    store = VolumeStore.build(masked(tmp_path / "scans", two, two * 255), tmp_path / "store", masks=True)
    assert store.classes == (0, 1)
    np.testing.assert_array_equal(store.mask(0), two)
    np.testing.assert_array_equal(store.mask(1), two)


def test_masks_follow_the_grid_without_mixing(tmp_path: Path) -> None:
    known = masked(tmp_path / "scans", MASKED)
    store = VolumeStore.build(known, tmp_path / "store", masks=True, spacing=(2.0, 0.5, 1.0))
    assert store.mask(0).shape == store.shape(0) == (10, 60, 40)
    np.testing.assert_array_equal(store.mask(0), np.repeat(MASKED[1::2], 2, axis=1))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(MASKED[:8], "its mask has shape"), (MASKED + 100, "none of its classes"), (None, "not there any more")],
)
def test_a_mask_that_changed_is_listed(tmp_path: Path, mask: np.ndarray | None, reason: str) -> None:
    known = masked(tmp_path / "scans", MASKED)
    file = tmp_path / "scans/labelsTr/0.nii.gz"
    file.unlink()
    if mask is not None:
        nibabel.save(nibabel.Nifti1Image(stored_as(mask), np.diag([-1, -1, 1, 1])), file)
    store = VolumeStore.build(known, tmp_path / "store", masks=True)
    assert reason in store.mask_failures[0]
    assert not store.failures and not store.has_mask(0)
    assert store.volume(0).any()
    assert VolumeStore.open(store.folder).mask_failures == store.mask_failures


def test_an_unreadable_volume_is_listed_and_tried_again(catalog: Catalog, tmp_path: Path) -> None:
    whole = (tmp_path / "scans/1.npy").read_bytes()
    (tmp_path / "scans/1.npy").write_bytes(whole[:500])
    np.save(tmp_path / "scans/2.npy", np.zeros((8, 9, 7), np.int16))
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert sorted(store.failures) == [1, 2]
    assert "when it was indexed" in store.failures[2]
    assert store.stored.tolist() == [0, 3, 4, 5]
    with pytest.raises(StoreError, match="row 1 is not in the store"):
        store.crop(1, (0, 0, 0), (4, 4, 4))
    (tmp_path / "scans/1.npy").write_bytes(whole)
    assert sorted(VolumeStore.build(catalog, tmp_path / "store").failures) == [2]


def test_images_among_volumes_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ct((9, 9, 9), 0))
    np.save(tmp_path / "b.npy", np.zeros((64, 64), np.uint8))
    catalog = build_catalog(tmp_path)
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert list(store.failures.values()) == ["it is an image, the store holds volumes"]
    with pytest.raises(DataError, match="no volumes to store"):
        VolumeStore.build(build_catalog(tmp_path / "b.npy"), tmp_path / "other", spatial_dims=3)


def test_no_volume_at_all_is_an_error(catalog: Catalog, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "scans")
    with pytest.raises(DataError, match="none of the 6 scans could be stored"):
        VolumeStore.build(catalog, tmp_path / "store")


@pytest.mark.parametrize("wrong", [{"spacing": 0.0}, {"spacing": (1.0, 2.0)}, {"dtype": "float32"}])
def test_impossible_stores_are_refused(catalog: Catalog, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="no store has"):
        VolumeStore.build(catalog, tmp_path / "store", **wrong)


@pytest.mark.parametrize("damage", ["truncate", "delete", "garbage", "about"])
def test_damage_is_said_and_mended_by_building_again(catalog: Catalog, store: VolumeStore, damage: str) -> None:
    expected = store.volume(1)
    file = store.folder / f"{store.index.rows[1].key}.b2nd"
    match damage:
        case "truncate":
            os.truncate(file, file.stat().st_size - 100)
        case "delete":
            file.unlink()
        case "garbage":
            file.write_bytes(os.urandom(file.stat().st_size))
        case "about":
            (store.folder / "volumes.json").write_text('{"version": 1, "rows": 3}')
    if damage != "about":
        with pytest.raises(StoreError, match=f"(?s){file.name}.*Delete this file and repeat"):
            VolumeStore(store.folder, store.index).crop(1, (0, 0, 0), (8, 8, 8))
    if damage != "garbage":
        with pytest.raises(StoreError, match="Repeat the command"):
            VolumeStore.open(store.folder)
    np.testing.assert_array_equal(VolumeStore.build(catalog, store.folder).volume(1), expected)


def test_no_store_and_a_newer_store_are_said(store: VolumeStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"volumes\.json is not there"):
        VolumeStore.open(tmp_path / "nowhere")
    about = json.loads((store.folder / "volumes.json").read_text())
    (store.folder / "volumes.json").write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(StoreError, match="version"):
        VolumeStore.open(store.folder)


KILLED = """
import os, sys
from medprior.data.volumestore import fill as volumefill
from medprior.data.catalog import build_catalog
from medprior.data.volumestore.plan import VolumeSettings, plan_volumes
from medprior.data.volumestore.volumes import VolumeStore
write, done = volumefill.write_volume, []
def write_two(path, *rest):
    if len(done) == 2:
        path.with_name(f".{path.name}.{os.getpid()}.part").write_bytes(b"half")
        os.kill(os.getpid(), 9)
    done.append(write(path, *rest))
volumefill.write_volume = write_two
VolumeStore.build(build_catalog(sys.argv[1]), sys.argv[2], workers=1)
"""


def test_a_killed_build_goes_on_where_it_was(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "scans", folder], check=False)
    assert done.returncode == -9
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.b2nd")}
    assert len(kept) == 2
    with pytest.raises(StoreError):
        VolumeStore.open(folder)
    store = VolumeStore.build(catalog, folder)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(folder.glob(".*.part"))
    for row in range(5):
        np.testing.assert_array_equal(store.physical(row), truth(catalog, row))


def test_too_little_space_is_refused_before_the_work(catalog: Catalog, tmp_path: Path) -> None:
    catalog.table["spacing"] = [(1000.0, 1000.0, 1000.0)] * len(catalog)
    catalog.table["shape"] = [[1000, 1000, 1000]] * len(catalog)
    catalog.table["channels"] = [1] * len(catalog)
    free = shutil.disk_usage(tmp_path).free
    copies = int(free / (2e9 * volumefill.LEAST_SHARE)) // len(catalog) + 1
    import pandas as pd

    table = pd.concat([catalog.table] * copies, ignore_index=True)
    table["hash"] = [str(i) for i in range(len(table))]
    with pytest.raises(OutputError, match=r"need [\d,.]+ to [\d,.]+ MB, the disk has [\d,.]+ MB left"):
        VolumeStore.build(Catalog(catalog.root, table, catalog.problems), tmp_path / "store")


def test_a_disk_that_fills_up_keeps_what_is_whole(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "scans").mkdir()
    for i in range(6):
        noise = np.random.default_rng(i).integers(-(2**15), 2**15, (40, 64, 64)).astype(np.int16)
        np.save(tmp_path / f"scans/{i}.npy", noise)
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=1m tmpfs {small} 2>/dev/null"):
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with pytest.raises(OutputError, match=r"(?s)volumes and masks are still to be stored.*kept"):
            VolumeStore.build(build_catalog(tmp_path / "scans"), small / "store", workers=1)
        assert len(list((small / "store").glob("*.b2nd"))) == 3
        assert not list((small / "store").glob(".*.part"))
    finally:
        os.system(f"umount {small}")


def test_threads_read_at_once(shared: VolumeStore) -> None:
    whole = [shared.volume(row) for row in range(len(shared))]
    wrong: list[int] = []

    def look(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            row = int(rng.integers(len(shared)))
            corner = [int(rng.integers(0, n)) for n in shared.shape(row)]
            shape = [int(rng.integers(1, n - at + 1)) for n, at in zip(shared.shape(row), corner, strict=True)]
            at = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
            if (shared.crop(row, corner, shape) != whole[row][(slice(None), *at)]).any():
                wrong.append(seed)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_workers_change_nothing(catalog: Catalog, store: VolumeStore, tmp_path: Path) -> None:
    one = VolumeStore.build(catalog, tmp_path / "one", workers=1)
    assert one.index == store.index
    for file in store.folder.glob("*.b2nd"):
        assert (tmp_path / "one" / file.name).read_bytes() == file.read_bytes()


def test_a_crop_decodes_little() -> None:
    """Blocks of 16: a crop of 64 decodes (79/64)^3 times itself on average, a small volume hardly more than itself."""
    rng = np.random.default_rng(0)
    for side, expected in [(64, (79 / 64) ** 3), (96, (111 / 96) ** 3)]:
        corners = rng.integers(0, 512 - side, (2000, 3)).tolist()
        found = np.mean([decoded_share((512,) * 3, corner, (side,) * 3) for corner in corners])
        assert found == pytest.approx(expected, rel=0.02)
    assert decoded_share((35, 51, 35), (0, 0, 0), (35, 51, 35)) < 1.15
    assert layout((2, 35, 51, 300)) == ((1, 36, 52, 64), (1, 12, 13, 16))


def test_blosc2_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, medprior.data.volumestore.volumes; assert not {'blosc2', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.data
def test_real_volumes(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for file in sorted((real_data / "msd-task04-hippocampus/imagesTr").glob("*.nii.gz"))[:4]:
        (tmp_path / "scans" / file.name).symlink_to(file)
        shutil.copy(file, tmp_path / "scans" / f"copy-{file.name}")
    catalog = build_catalog(tmp_path / "scans")
    store = VolumeStore.build(catalog, tmp_path / "store")
    assert not store.failures
    for row in range(len(store)):
        (scale,), _ = store.mapping(row)
        assert np.abs(store.physical(row) - truth(catalog, row)).max() <= scale / 2 * (1 + 1e-9)
    half = VolumeStore.build(catalog, tmp_path / "half", spacing=2.0)
    assert half.spacing(0) == pytest.approx((2, 2, 2), rel=0.05)
    assert np.abs(half.physical(0) - resize(truth(catalog, 0), half.shape(0))).max() <= half.mapping(0)[0] * 0.501
