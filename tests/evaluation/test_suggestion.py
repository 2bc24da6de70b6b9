"""What is suggested for labelling: every part of the data, every patient once, nothing twice."""

from __future__ import annotations

import numpy as np
import pytest

from medprior.evaluation import suggestion
from medprior.evaluation.suggestion import Images, typical, uncertain, uncertainty

PARTS, EACH, WIDTH = 12, 20, 24


def planted(seed: int = 0, images_each: int = 1) -> tuple[Images, np.ndarray]:
    """Twelve tight clouds of twenty patients, and the cloud of each image."""
    rng = np.random.default_rng(seed)
    part = np.repeat(np.arange(PARTS), EACH * images_each)
    features = 10 * np.eye(PARTS, WIDTH)[part] + rng.normal(0, 0.1, (len(part), WIDTH))
    patients = np.repeat(np.arange(PARTS * EACH), images_each)
    return Images(features.astype(np.float32), patients, np.full(len(part), -1)), part


def some(images: Images, kept: np.ndarray) -> Images:
    return Images(images.features[kept], images.patients[kept], images.copies[kept])


@pytest.mark.parametrize("many", [20_000, 100])
def test_every_cloud_is_hit_before_any_is_hit_twice(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestion, "MANY", many)
    images, part = planted()
    hit = [part[choice.image] for choice in typical(images, PARTS)]
    assert sorted(hit) == list(range(PARTS))


def test_uncertain_images_are_spread_over_the_clouds_that_are_in_doubt() -> None:
    images, part = planted()
    doubt = np.where(part < 4, 0.9, 0.0)
    assert sorted(part[choice.image] for choice in uncertain(images, doubt, 4)) == [0, 1, 2, 3]


def test_of_two_clouds_the_one_in_more_doubt_comes_first() -> None:
    images, part = planted()
    kept = part < 2
    doubt = np.where(part[kept] == 1, 0.9, 0.3)
    assert [part[kept][choice.image] for choice in uncertain(some(images, kept), doubt, 2)] == [1, 0]


def test_clouds_with_a_label_come_last() -> None:
    images, part = planted()
    first = np.arange(len(part)) % EACH == 0
    labelled = some(images, first & (part >= 5))
    left, clouds = some(images, ~first), part[~first]
    chosen = [clouds[choice.image] for choice in typical(left, 5, labelled=labelled)]
    assert sorted(chosen) == [0, 1, 2, 3, 4]


def test_what_lies_in_the_middle_is_typical_and_not_the_slices_of_one_patient() -> None:
    rng = np.random.default_rng(0)
    cloud = rng.normal(0, 1, (60, 8)) + 3 * np.eye(8)[0]
    stack = np.repeat(rng.normal(0, 1, (1, 8)) * 2 + 3 * np.eye(8)[0], 40, axis=0)  # one patient, forty like slices
    other = rng.normal(0, 0.1, (60, 8)) - 3 * np.eye(8)[0]
    features = np.concatenate([cloud, stack, other])
    patients = np.concatenate([np.arange(60), np.full(40, 60), np.arange(61, 121)])
    chosen = typical(Images(features, patients, np.full(160, -1)), 2)
    assert 60 not in {patients[choice.image] for choice in chosen}


@pytest.mark.parametrize("way", ["typical", "uncertain"])
def test_no_patient_twice(way: str) -> None:
    images, _ = planted(images_each=3)
    chosen = choose(way, images, 100)
    assert len(chosen) == 100
    assert len(set(images.patients[chosen])) == 100


def test_patients_come_again_only_when_all_came_once() -> None:
    images, _ = planted(images_each=3)
    few = some(images, images.patients < 7)
    chosen = [few.patients[choice.image] for choice in typical(few, 10)]
    assert sorted(chosen[:7]) == list(range(7))
    assert len(set(chosen[7:])) == 3
    assert len(typical(few, 50)) == len(few)


def test_the_uncertain_are_never_of_one_patient() -> None:
    images, _ = planted(images_each=3)
    few = some(images, images.patients < 7)
    assert len(uncertain(few, np.full(len(few), 0.5), 50)) == 7


@pytest.mark.parametrize("way", ["typical", "uncertain"])
def test_of_copies_one_is_chosen(way: str) -> None:
    images, part = planted()
    copied = Images(images.features, images.patients, np.where(part < 6, part, -1))
    chosen = choose(way, copied, len(part))
    assert len(chosen) == 6 + (part >= 6).sum()
    assert len(set(part[chosen][part[chosen] < 6])) == 6


@pytest.mark.parametrize("way", ["typical", "uncertain"])
def test_the_same_seed_gives_the_same_list(way: str) -> None:
    rng = np.random.default_rng(3)
    images = Images(rng.normal(size=(400, 16)), np.arange(400), np.full(400, -1))
    assert choose(way, images, 30) == choose(way, images, 30)
    assert choose(way, images, 30) != choose(way, images, 30, seed=1)


@pytest.mark.parametrize("way", ["typical", "uncertain"])
def test_like_embeddings_and_no_candidates_do_no_harm(way: str) -> None:
    alike = Images(np.ones((9, 4)), np.arange(9), np.full(9, -1))
    assert sorted(choose(way, alike, 9)) == list(range(9))
    assert choose(way, some(alike, np.zeros(9, bool)), 5) == []


def test_uncertainty_is_entropy_between_none_and_all() -> None:
    assert uncertainty(np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3]]), "multiclass") == pytest.approx([0, 1], abs=1e-9)
    assert uncertainty(np.array([[0.5, 0.5]]), "binary") == pytest.approx([1])
    assert uncertainty(np.array([[0.5, 1.0], [0.0, 1.0]]), "multilabel") == pytest.approx([0.5, 0], abs=1e-9)


def choose(way: str, images: Images, count: int, seed: int = 0) -> list[int]:
    doubt = np.linspace(0.1, 0.9, len(images))
    found = typical(images, count, seed=seed) if way == "typical" else uncertain(images, doubt, count, seed=seed)
    return [choice.image for choice in found]
