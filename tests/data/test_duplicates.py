"""All copies are found and no more; what crosses a line is said; training gives way and tests never do."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from medprior.data.duplicates.find import Duplicates, dropped, find_duplicates, members
from medprior.data.duplicates.leaks import leaks, summary
from medprior.data.duplicates.likeness import difference_hash, distances, near, near_pairs, normalised
from medprior.data.facts import THUMB_2D, THUMB_3D, facts_of


def blobs(rng: np.random.Generator, shape: tuple[int, ...], count: int = 1) -> np.ndarray:
    """(count, *shape) uint8 pictures of something, each of something else."""
    noise = rng.normal(size=(count, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, *(n / 12 for n in shape)))
    low, high = smooth.min(initial=0), smooth.max(initial=0)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def table_of(images: list[np.ndarray], **columns: list[object]) -> pd.DataFrame:
    """A catalog's table of images (H, W) or volumes, with what copies are looked for by."""
    facts = [facts_of(image[None]) for image in images]
    table = pd.DataFrame({"hash": [f.hash for f in facts], "patient": "", "split": "", "labelled": False})
    table["thumb"] = pd.Series([f.thumb.astype("<f4").tobytes() for f in facts], dtype=object)
    return table.assign(**columns)


def jpeg(image: np.ndarray, quality: int = 70) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def bits_by_hand(unit: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, bits) of booleans, by loops over pixels: an independent difference hash."""
    step = 0.05 * unit[unit.any(axis=1)].std(axis=1).mean() if unit.any() else 0.0
    thumbs = unit.reshape(-1, *shape)
    return np.array(
        [[row[k + 1] - row[k] > step for row in t.reshape(-1, shape[-1]) for k in range(shape[-1] - 1)] for t in thumbs]
    )


def every_near_pair(unit: np.ndarray, shape: tuple[int, ...]) -> dict[tuple[int, int], tuple[float, float]]:
    """All pairs, each looked at on its own."""
    bits, found = bits_by_hand(unit, shape), {}
    for i in range(len(unit)):
        for j in range(i + 1, len(unit)):
            distance = (bits[i] != bits[j]).sum() / max(1, bits[i].sum() + bits[j].sum())
            correlation = float(unit[i].astype(float) @ unit[j].astype(float))
            if unit[i].any() and unit[j].any() and near(np.array([distance]), np.array([correlation]))[0]:
                found[i, j] = (distance, correlation)
    return found


@pytest.mark.parametrize("shape", [THUMB_2D, THUMB_3D])
@pytest.mark.parametrize("seed", range(3))
def test_the_pairs_are_those_of_all_against_all(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    seeds = blobs(rng, shape, 30).astype(np.float32)
    copies = seeds[rng.integers(0, 30, 90)] + rng.normal(size=(90, *shape)) * rng.choice([0.3, 3, 9], (90,)).reshape(
        -1, *[1] * len(shape)
    )
    thumbs = np.concatenate([seeds, copies, np.full((5, *shape), 7.0)])
    unit = normalised(thumbs)
    found = near_pairs(difference_hash(unit, shape), unit)
    expected = every_near_pair(unit, shape)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == sorted(expected)
    assert len(expected) > 50
    np.testing.assert_allclose(found.distance, [expected[pair][0] for pair in sorted(expected)])
    np.testing.assert_allclose(found.correlation, [expected[pair][1] for pair in sorted(expected)], atol=1e-6)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    unit = normalised(np.repeat(blobs(rng, THUMB_2D, 20), 6, axis=0) + rng.normal(size=(120, *THUMB_2D)))
    bits = difference_hash(unit, THUMB_2D)
    whole = near_pairs(bits, unit)
    monkeypatch.setattr("medprior.data.duplicates.likeness._TALL", 7)
    monkeypatch.setattr("medprior.data.duplicates.likeness._WIDE", 11)
    monkeypatch.setattr("medprior.data.duplicates.likeness._PIECE", 5)
    pieces = near_pairs(bits, unit)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(pieces, field.name))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_distance_is_symmetric_and_between_none_and_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = normalised(blobs(rng, THUMB_2D, 6))
    bits = difference_hash(unit, THUMB_2D)
    apart = distances(bits[:3], bits[3:])
    np.testing.assert_array_equal(apart, distances(bits[3:], bits[:3]))
    assert ((apart >= 0) & (apart <= 1)).all()
    assert (distances(bits, bits) == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(-500, 500), st.floats(0.01, 50))
def test_brightness_and_contrast_change_nothing(offset: float, factor: float) -> None:
    thumbs = blobs(np.random.default_rng(1), THUMB_2D, 4).astype(np.float64)
    first, second = normalised(thumbs), normalised(thumbs * factor + offset * factor)
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1000.0, 255.0, 3e38])
def test_what_shows_nothing_is_like_nothing(value: float) -> None:
    thumbs = np.full((4, *THUMB_2D), value, np.float32)
    thumbs[1, 3, 3] *= 1 + 1e-5
    unit = normalised(thumbs)
    assert not unit.any()
    assert len(near_pairs(difference_hash(unit, THUMB_2D), unit)) == 0


def test_not_a_number_is_like_nothing() -> None:
    thumbs = blobs(np.random.default_rng(0), THUMB_2D, 3).astype(np.float32)
    thumbs[1, 2, 2], thumbs[2, 0, 0] = np.nan, np.inf
    unit = normalised(thumbs)
    assert np.isfinite(unit).all()
    assert not unit[1:].any()


def test_flat_images_match_only_the_same_pixels() -> None:
    flat = [np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), np.ones((20, 20), np.uint8)]
    found = find_duplicates(table_of([*flat, np.zeros((30, 20), np.uint8)]))
    assert found.cluster.tolist() == [0, 0, -1, -1]
    assert found.pairs["kind"].tolist() == ["exact"]


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows(count: int) -> None:
    found = find_duplicates(table_of(list(blobs(np.random.default_rng(0), (32, 32)))[:count]))
    assert found.cluster.tolist() == [-1] * count
    assert found.cluster.dtype == np.int64
    assert list(found.pairs) == ["row_a", "row_b", "kind", "distance", "correlation"]
    assert len(found.pairs) == 0
    assert members(found.cluster) == []
    assert found.original.tolist() == list(range(count))
    assert leaks(table_of([]), Duplicates(np.zeros(0, np.int64), np.zeros(0, np.int64), found.pairs)) == []


def test_copies_are_found_and_different_images_are_not() -> None:
    rng = np.random.default_rng(2)
    seen = list(blobs(rng, (96, 80), 12))
    bigger = np.asarray(Image.fromarray(seen[2]).resize((160, 192), Image.Resampling.BICUBIC))
    darker = (seen[3] * 0.7 + 20).astype(np.uint8)
    found = find_duplicates(table_of([*seen, seen[0].copy(), jpeg(seen[1]), bigger, darker, seen[4][:, ::-1].copy()]))
    assert [rows.tolist() for rows in found.clusters()] == [[0, 12], [1, 13], [2, 14], [3, 15]]
    assert found.pairs["kind"].tolist() == ["exact", "near", "near", "near"]
    assert found.pairs.notna().all(axis=None)


def test_a_volume_is_found_again_and_is_never_compared_with_an_image() -> None:
    rng = np.random.default_rng(4)
    volumes = list(blobs(rng, (24, 30, 28), 5))
    noisy = (volumes[1] + rng.normal(0, 3, volumes[1].shape)).clip(0, 255).astype(np.uint8)
    found = find_duplicates(table_of([*blobs(rng, (30, 28), 3), *volumes, noisy]))
    assert [rows.tolist() for rows in found.clusters()] == [[4, 8]]


def test_rows_without_a_thumb_are_compared_by_their_pixels() -> None:
    table = table_of(list(blobs(np.random.default_rng(0), (32, 32), 3)))
    table["hash"], table["thumb"] = ["a", "a", "b"], None
    assert find_duplicates(table).cluster.tolist() == [0, 0, -1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_clusters_are_an_equivalence_that_holds_all_pairs(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = blobs(rng, (20, 21), 6)
    images = [
        kinds[k] if rng.random() < 0.5 else (kinds[k] * 0.9 + rng.normal(0, 2, (20, 21))).clip(0, 255).astype(np.uint8)
        for k in rng.integers(0, 6, count)
    ]
    table = table_of(images)
    found = find_duplicates(table)
    for one, other in found.pairs[["row_a", "row_b"]].to_numpy():
        assert one < other
    for rows in found.clusters():
        assert len(rows) > 1
        assert (found.cluster[rows] == rows[0]).all()
    for _, rows in table.groupby("hash").groups.items():
        assert len(rows) == 1 or len(set(found.cluster[rows])) == 1
    linked = {tuple(pair) for pair in found.pairs.loc[found.pairs["kind"] == "near", ["row_a", "row_b"]].to_numpy()}
    first = table["hash"].map({content: row for row, content in reversed(list(enumerate(table["hash"])))}).to_numpy()
    for row, original in enumerate(found.original):
        assert found.original[original] == original
        one, other = sorted((int(first[row]), int(first[original])))
        assert one == other or (one, other) in linked
    order = rng.permutation(count)
    again = find_duplicates(table.iloc[order].reset_index(drop=True))
    together = found.cluster[order][:, None] == found.cluster[order]
    linked = (found.cluster[order] >= 0)[:, None] & together
    np.testing.assert_array_equal(linked, (again.cluster >= 0)[:, None] & (again.cluster[:, None] == again.cluster))


def test_crowds_of_copies_do_not_cost_their_square() -> None:
    rng = np.random.default_rng(3)
    one, other = blobs(rng, THUMB_2D, 2).astype(np.float32)
    thumbs = np.concatenate([one + rng.normal(0, 0.2, (4000, *THUMB_2D)), other + rng.normal(0, 0.2, (30, *THUMB_2D))])
    unit = normalised(rng.permutation(thumbs))
    found = near_pairs(difference_hash(unit, THUMB_2D), unit)
    assert 3999 + 30 * 29 // 2 <= len(found) < 50_000
    table = pd.DataFrame({"hash": np.arange(4030).astype(str), "thumb": list(unit)})
    sizes = sorted(len(rows) for rows in find_duplicates(table).clusters())
    assert sizes == [30, 4000]
    assert len(np.unique(find_duplicates(table).original)) == 2


def test_a_stack_whose_neighbours_are_alike_is_one_cluster_and_more_than_one_slice_of_it_stays() -> None:
    first, last = blobs(np.random.default_rng(6), (64, 64), 2).astype(np.float64)
    stack = [(first * (1 - share) + last * share).round().astype(np.uint8) for share in np.linspace(0, 1, 60)]
    found = find_duplicates(table_of(stack))
    assert found.cluster.tolist() == [0] * 60
    nobody, unlabelled = np.zeros(60, bool), np.zeros(60, bool)
    kept = np.flatnonzero(~dropped(found.cluster, nobody, unlabelled, found.original))
    assert 2 <= len(kept) <= 20
    linked = {tuple(pair) for pair in found.pairs[["row_a", "row_b"]].to_numpy()}
    assert not any((one, other) in linked for one in found.original for other in found.original if one < other)
    one_tested = np.arange(60) == 30
    assert dropped(found.cluster, nobody, unlabelled).sum() == 59
    assert dropped(found.cluster, one_tested, unlabelled, found.original).sum() == 59


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_training_gives_way(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    group, part = rng.integers(-1, 6, count), rng.integers(0, 2, count)
    cluster = np.array([-1 if g < 0 else np.flatnonzero(group == g)[0] for g in group], np.int64)
    stars = [[i] if group[i] < 0 else np.flatnonzero((group == group[i]) & (part == part[i])) for i in range(count)]
    original = np.array([star[-1] for star in stars], np.int64)
    protected, labelled = rng.random(count) < 0.2, rng.random(count) < 0.5
    gone = dropped(cluster, protected, labelled, original)
    assert gone.shape == (count,)
    assert not (gone & protected).any()
    assert not gone[cluster < 0].any()
    for rows in members(cluster):
        kept = rows[~gone[rows] & ~protected[rows]]
        if protected[rows].any():
            assert len(kept) == 0
            continue
        alike = [rows[original[rows] == row] for row in np.unique(original[rows])]
        assert set(kept) == {(star[labelled[star]] if labelled[star].any() else star)[0] for star in alike}


def test_what_crosses_is_said_and_what_does_not_is_not() -> None:
    images = list(blobs(np.random.default_rng(8), (40, 40), 6))
    table = table_of(
        [images[0], images[0], images[1], jpeg(images[1]), images[2], images[2], images[3], images[3], images[4]],
        split=["train", "test", "train", "train", "test", "", "train", "test", "val"],
        labelled=[True, True, True, True, True, False, True, True, True],
        patient=["a", "b", "c", "d", "e", "f", "g", "g", "a"],
    )
    targets = np.array([0, 0, 0, 1, 1, np.nan, 1, 1, 0.0])
    found = find_duplicates(table)
    said = leaks(table, found, targets)
    assert [(leak.kind, leak.rows, leak.splits) for leak in said] == [
        ("split", (0, 1), ("train", "test")),
        ("labels", (2, 3), ("train",)),
        ("pool", (4, 5), ("test",)),
        ("patient", (0, 8), ("train", "val")),
        ("patient", (6, 7), ("train", "test")),
    ]
    assert said[0].distance == 0
    assert said[0].said() == "Rows 0 and 1 are copies and stand in train and test."
    assert "near-copies (distance 0." in said[1].said() or said[1].distance == 0
    assert summary(said, found) == [
        "8 images are copies or near-copies of each other, in 4 groups.",
        "1 group of copies stands in more than one of train, val and test (2 images).",
        "1 group of copies has images with and without a label (2 images).",
        "1 group of copies has labels that contradict each other (2 images).",
        "2 patients stand in more than one of train, val and test (4 images).",
    ]


def test_nothing_crosses_where_nothing_is_split() -> None:
    image = blobs(np.random.default_rng(8), (40, 40))[0]
    table = table_of([image, image])
    assert leaks(table, find_duplicates(table)) == []
    assert summary([], find_duplicates(table_of([image]))) == []


def read(files: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(file).convert("L")) for file in files]


@pytest.mark.data
def test_one_image_stands_in_covid_ct_twice_with_two_labels_in_train_and_test(real_data: Path) -> None:
    labels = pd.read_csv(real_data / "covid-ct/labels.csv", dtype=str)
    table = table_of(
        read([real_data / "covid-ct" / path for path in labels["path"]]),
        split=labels["split"].tolist(),
        patient=labels["patient"].tolist(),
        labelled=[True] * len(labels),
    )
    found = find_duplicates(table)
    assert 4 <= len(found.pairs) <= 20
    assert found.pairs["distance"].between(0, 0.2).all()
    said = leaks(table, found, (labels["label"] == "COVID").to_numpy(dtype=float))
    by_kind = {kind: [leak for leak in said if leak.kind == kind] for kind in ("split", "labels", "patient")}
    assert [leak.splits for leak in by_kind["split"]] == [("train", "test")]
    assert by_kind["labels"][0].rows == by_kind["split"][0].rows
    assert len(by_kind["patient"]) == 6


@pytest.mark.data
def test_near_copies_are_listed_among_unlabelled_ct_slices(real_data: Path) -> None:
    files = sorted((real_data / "ct-slices-unlabelled/images").glob("*.jpg"))
    pairs = find_duplicates(table_of(read(files))).pairs
    assert 10 <= len(pairs) <= 40
    assert (pairs["kind"] == "near").all()
    assert pairs["distance"].between(0, 0.2).all()
    assert pairs["correlation"].between(0.97, 1).all()


@pytest.mark.data
def test_pneumoniamnist_tests_on_images_it_trains_on(real_data: Path) -> None:
    arrays = np.load(real_data / "pneumoniamnist/pneumoniamnist.npz")
    parts = ("train", "val", "test")
    images = [image for part in parts for image in arrays[f"{part}_images"]]
    table = table_of(images, split=[part for part in parts for _ in arrays[f"{part}_images"]])
    found = find_duplicates(table)
    same = pd.Series([image.tobytes() for image in images])
    assert (found.pairs["kind"] == "exact").sum() == len(images) - same.nunique() > 0
    crossing = table["split"].groupby(same.to_numpy()).nunique().gt(1).sum()
    assert sum(leak.kind == "split" for leak in leaks(table, found)) == crossing > 0
