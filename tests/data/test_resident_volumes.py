"""Windows of stored volumes: the same wherever the volumes lie, black outside, errors that name the file."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medprior.data.catalog import build_catalog
from medprior.data.store.placement import Kind, Placement
from medprior.data.volumestore.fill import volume_name
from medprior.data.volumestore.resident import ResidentVolumes, overlap
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import StoreError

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("device", "host", "disk")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def write_volumes(folder: Path) -> None:
    """Ragged volumes whose values need scales and offsets of their own: CT, floats, large numbers, and one twice."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    floats = rng.normal(3, 1e-3, (70, 9, 21)).astype(np.float32)
    ct, large = rng.normal(-300, 400, (20, 30, 40)), rng.integers(40_000, 60_000, (5, 64, 50))
    small = rng.normal(100, 10, (5, 6, 7)).astype(np.float32)
    for name, values in enumerate([ct.astype(np.int16), floats, large.astype(np.uint16), floats, small]):
        np.save(folder / f"{name}.npy", values[None])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VolumeStore]:
    folder = tmp_path_factory.mktemp("volumes")
    write_volumes(folder / "scans")
    catalog = build_catalog(folder / "scans")
    return {dtype: VolumeStore.build(catalog, folder / dtype, dtype=dtype) for dtype in ("int16", "uint8")}


@pytest.fixture
def small(tmp_path: Path) -> VolumeStore:
    write_volumes(tmp_path / "scans")
    return VolumeStore.build(build_catalog(tmp_path / "scans"), tmp_path / "store")


def placed(volumes: VolumeStore, kind: Kind, device: torch.device = CPU) -> ResidentVolumes:
    return ResidentVolumes(volumes, device, Placement(kind, "in a test"))


def padded_window(volumes: VolumeStore, row: int, corner: list[int], side: tuple[int, int, int]) -> np.ndarray:
    """The window voxel by voxel: those outside are black."""
    whole, window = volumes.volume(row), np.empty((volumes.channels(row), *side), volumes.index.settings.dtype)
    for at in np.ndindex(side):
        place = [c + a for c, a in zip(corner, at, strict=True)]
        inside = all(0 <= p < n for p, n in zip(place, whole.shape[1:], strict=True))
        window[(slice(None), *at)] = whole[(slice(None), *place)] if inside else volumes.black(row)
    return window


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_windows_are_the_same_wherever_volumes_lie(
    stores: dict[str, VolumeStore], dtype: str, kind: Kind, data: st.DataObject
) -> None:
    volumes = stores[dtype]
    rows = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    side = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    corners = np.array([[data.draw(st.integers(-9, n + 2)) for n in volumes.shape(row)] for row in rows.tolist()])
    found = placed(volumes, kind).windows(rows, corners, side)
    assert found.dtype == getattr(torch, dtype)
    for window, row, corner in zip(found, rows.tolist(), corners.tolist(), strict=True):
        np.testing.assert_array_equal(window.numpy(), padded_window(volumes, row, corner, side))


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_may_stick_out_on_every_side_at_once(stores: dict[str, VolumeStore], kind: Kind) -> None:
    volumes, rows = stores["int16"], np.arange(5)
    side = (75, 70, 60)
    found = placed(volumes, kind).windows(rows, np.full((5, 3), -3), side)
    for row in rows.tolist():
        inside = tuple(slice(3, 3 + n) for n in volumes.shape(row))
        window = found[row].numpy().copy()
        np.testing.assert_array_equal(window[(slice(None), *inside)], volumes.volume(row))
        window[(slice(None), *inside)] = volumes.black(row).reshape(-1, 1, 1, 1)
        assert (window == volumes.black(row).reshape(-1, 1, 1, 1)).all()


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9)), min_size=3, max_size=3))
def test_a_window_and_a_volume_meet_where_both_are(sides: list[tuple[int, int, int]]) -> None:
    source, target = overlap(*map(list, zip(*sides, strict=True)))
    for (at, _, _), from_volume, from_window in zip(sides, source, target, strict=True):
        both = [set(range(at, at + extent)) & set(range(n)) for at, extent, n in sides]
        met = from_volume.stop - from_volume.start
        assert met == from_window.stop - from_window.start
        if all(both):
            assert from_volume.start == from_window.start + at >= 0
        else:
            assert met == 0
    counts = math.prod(part.stop - part.start for part in source)
    assert counts == math.prod(len(set(range(at, at + e)) & set(range(n))) for at, e, n in sides)


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_the_mapping_leads_to_black_and_white(stores: dict[str, VolumeStore], dtype: str) -> None:
    volumes, rows = stores[dtype], np.array([4, 0, 1, 2])
    scale, offset = placed(volumes, "host").mapping(rows)
    assert scale.shape == offset.shape == (4, 1)
    assert scale.dtype == offset.dtype == torch.float32
    for i, row in enumerate(rows.tolist()):
        low, high = volumes.edges(row)
        expected = (volumes.physical(row) - low[0]) / (high - low)[0]
        found = torch.from_numpy(volumes.volume(row)).float() * scale[i] + offset[i]
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
        black = volumes.black(row).astype(np.float32) * scale[i].numpy() + offset[i].numpy()
        assert abs(black) <= scale[i].numpy() / 2 + 1e-5, "black is 0 to half a step"


def test_a_scan_without_contrast_has_a_mapping(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((1, 5, 6, 7), 7, np.int16))
    volumes = VolumeStore.build(build_catalog(tmp_path), tmp_path / "store")
    scale, offset = placed(volumes, "host").mapping(np.array([0]))
    assert torch.isfinite(scale).all() and torch.isfinite(offset).all()
    assert placed(volumes, "host").moments(np.array([0])) == ((0.0,), (1 / 255,))


def test_lengths_are_those_of_the_volumes(stores: dict[str, VolumeStore]) -> None:
    found = placed(stores["int16"], "disk").lengths(np.array([2, 0, 1, 1]))
    assert found.tolist() == [[5, 64, 50], [20, 30, 40], [70, 9, 21], [70, 9, 21]]
    assert len(placed(stores["int16"], "disk")) == 5


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_moments_are_near_those_of_all_voxels_and_always_the_same(stores: dict[str, VolumeStore], dtype: str) -> None:
    volumes = stores[dtype]
    for rows in (np.array([0]), np.array([0, 2])):
        values = []
        for row in rows.tolist():
            low, high = volumes.edges(row)
            values.append(((volumes.physical(row) - low[0]) / (high - low)[0]).clip(0, 1).mean())
        (mean,), (std,) = placed(volumes, "host").moments(rows)
        assert min(values) - 0.02 < mean < max(values) + 0.02
        assert 0.05 < std < 0.5
        assert placed(volumes, "device").moments(rows) == ((mean,), (std,))


def test_moments_are_exact_where_windows_cover_the_volume(stores: dict[str, VolumeStore]) -> None:
    volumes = stores["int16"]
    low, high = volumes.edges(0)
    values = ((volumes.physical(0) - low[0]) / (high - low)[0]).clip(0, 1)
    (mean,), (std,) = placed(volumes, "host").moments(np.array([0]))
    assert mean == pytest.approx(values.mean(), abs=1e-9)
    assert std == pytest.approx(values.std(), abs=1e-9)


def test_channels_are_kept_apart(tmp_path: Path) -> None:
    """Colour shares its black and white, so the means tell the channels."""
    volume = np.random.default_rng(0).integers(0, 90, (3, 10, 60, 50)).astype(np.uint8)
    np.save(tmp_path / "scan.npy", volume + np.array([0, 60, 120], np.uint8).reshape(3, 1, 1, 1))
    volumes = VolumeStore.build(build_catalog(tmp_path), tmp_path / "store")
    rows, corners = np.array([0, 0]), np.array([[-1, 0, 0], [2, 3, 48]])
    for kind in KINDS:
        found = placed(volumes, kind).windows(rows, corners, (3, 4, 5))
        for window, corner in zip(found, corners.tolist(), strict=True):
            np.testing.assert_array_equal(window.numpy(), padded_window(volumes, 0, corner, (3, 4, 5)))
    scale, offset = placed(volumes, "host").mapping(rows)
    unit = volumes.volume(0) * scale[0].numpy().reshape(3, 1, 1, 1) + offset[0].numpy().reshape(3, 1, 1, 1)
    mean, std = placed(volumes, "host").moments(rows)
    np.testing.assert_allclose(mean, unit.clip(0, 1).mean(axis=(1, 2, 3)), atol=0.01)
    np.testing.assert_allclose(std, unit.clip(0, 1).std(axis=(1, 2, 3)), atol=0.01)


def test_rows_of_different_channels_and_rows_not_stored_are_named(small: VolumeStore, tmp_path: Path) -> None:
    from dataclasses import replace

    index = small.index
    two = replace(index.rows[0], channels=2, scale=(1.0, 1.0), offset=(0.0, 0.0), low=(0.0, 0.0), high=(1.0, 1.0))
    mixed = VolumeStore(small.folder, replace(index, rows=(two, *index.rows[1:]), failures={4: "damaged"}))
    resident = placed(mixed, "host")
    with pytest.raises(StoreError, match="1 and 2 channels"):
        resident.windows(np.array([0, 1]), np.zeros((2, 3), np.int64), (1, 1, 1))
    with pytest.raises(StoreError, match="row 4 is not in the store: damaged"):
        resident.mapping(np.array([1, 4]))


@pytest.mark.parametrize("kind", ["host", "disk"])
@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_volume_damaged_in_use_is_named(small: VolumeStore, kind: Kind, damage: str) -> None:
    resident = placed(small, kind)
    rows, corners = np.array([0]), np.zeros((1, 3), np.int64)
    resident.windows(rows, corners, (3, 3, 3))
    row = small.index.rows[0]
    assert row is not None
    path = small.folder / volume_name(row.key)
    if damage == "truncate":
        os.truncate(path, 700)
    else:
        path.unlink()
    with pytest.raises(StoreError, match=f"{path.name}.*\nDelete this file and repeat"):
        resident.windows(rows, corners, (3, 3, 3))


def test_the_place_is_chosen_or_asked_for(small: VolumeStore) -> None:
    assert small.resident("cpu").placement.kind == "host"
    assert small.resident("cpu", "disk").placement == Placement("disk", "as was asked")


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_it(stores: dict[str, VolumeStore], kind: Kind) -> None:
    volumes, resident = stores["int16"], placed(stores["int16"], kind)
    drawn = [np.random.default_rng(seed) for seed in range(24)]
    asked = [(rng.integers(0, 5, 4), rng.integers(-3, 9, (4, 3))) for rng in drawn]
    with ThreadPoolExecutor(6) as pool:
        for (rows, corners), found in zip(
            asked, pool.map(lambda one: resident.windows(*one, (6, 5, 4)), asked), strict=True
        ):
            for window, row, corner in zip(found, rows.tolist(), corners.tolist(), strict=True):
                np.testing.assert_array_equal(window.numpy(), volumes.crop(row, corner, (6, 5, 4)))


def test_equal_volumes_are_held_once(stores: dict[str, VolumeStore]) -> None:
    assert len(placed(stores["int16"], "device")._held) == 4


@GPU
@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_the_same_on_a_gpu_and_nothing_waits(stores: dict[str, VolumeStore], kind: Kind) -> None:
    resident, rows = placed(stores["int16"], kind, torch.device("cuda")), np.array([2, 0, 1, 1])
    corners = np.array([[-2, 3, 40], [5, 5, 5], [60, -3, 9], [100, 0, 0]])
    expected = placed(stores["int16"], "host")
    resident.prepare()
    resident.windows(rows, corners, (9, 9, 9))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, mapped = resident.windows(rows, corners, (9, 9, 9)), resident.mapping(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected.windows(rows, corners, (9, 9, 9)))
    for one, other in zip(mapped, expected.mapping(rows), strict=True):
        assert torch.equal(one.cpu(), other)
