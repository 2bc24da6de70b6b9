"""Batches are the same whether they are gathered at once or made ahead, and no thread is left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store.resident import ResidentStore, Stored
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import StoreError
from medprior.training.feed import Feed, gather
from medprior.training.sampler import Sampler
from medprior.views.plan import independent
from medprior.views.recipe import ViewRecipe, base_recipe
from medprior.views.window import Crops

CPU = torch.device("cpu")
FLAT = independent(base_recipe("CR", 16), 1)
DEEP = independent(ViewRecipe(8, spatial_dims=3, pitch=(1.0, 2.0)), 2)


@pytest.fixture(scope="module")
def images(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    return PixelStore.build(build_catalog(cohort.parent), tmp_path_factory.mktemp("store"), size=32)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> ResidentVolumes:
    folder = tmp_path_factory.mktemp("volumes")
    (folder / "scans").mkdir()
    for i in range(6):
        voxels = np.random.default_rng(i).normal(0, 300, (14 + i, 20, 18)).astype(np.int16)
        np.save(folder / "scans" / f"{i}.npy", voxels)
    return VolumeStore.build(build_catalog(folder / "scans"), folder / "store").resident(CPU)


def pixels(scans: Stored | Crops) -> list[torch.Tensor]:
    return [window.pixels for window in scans.windows] if isinstance(scans, Crops) else [scans.pixels]


def same(one: Stored | Crops, other: Stored | Crops) -> bool:
    parts = zip([one.index, *pixels(one)], [other.index, *pixels(other)], strict=True)
    return all(torch.equal(a, b) for a, b in parts)


@pytest.mark.parametrize("kind", ["host", "disk"])
@pytest.mark.parametrize("threads", [1, 3])
def test_images_come_in_order_wherever_they_lie(images: PixelStore, kind: str, threads: int) -> None:
    store: ResidentStore = images.resident(CPU, kind)  # type: ignore[arg-type]
    sampler = Sampler(np.arange(60), 16, seed=1)
    feed = Feed(store, sampler, FLAT, 4, first=2, last=9, threads=threads)
    for step in range(2, 9):
        assert same(feed.take(step), gather(store, sampler.batch(step), FLAT, seed=4, step=step))
    assert feed.waited > 0
    feed.close()


def test_volumes_are_cut_ahead(volumes: ResidentVolumes) -> None:
    sampler = Sampler(np.arange(6), 3, seed=1)
    feed = Feed(volumes, sampler, DEEP, 4, first=0, last=6, threads=2)
    for step in range(6):
        assert same(feed.take(step), gather(volumes, sampler.batch(step), DEEP, seed=4, step=step))
    feed.close()


def readers() -> list[threading.Thread]:
    """The threads of queues."""
    return [thread for thread in threading.enumerate() if "_work" in thread.name]


@pytest.mark.parametrize(("kind", "threads"), [("host", 0), ("disk", 2)])
def test_images_in_memory_need_no_thread(images: PixelStore, kind: str, threads: int) -> None:
    store: ResidentStore = images.resident(CPU, kind)  # type: ignore[arg-type]
    feed = Feed(store, Sampler(np.arange(60), 16, 1), FLAT, 0, first=0, last=99, threads=2)
    assert len(readers()) == threads
    feed.close()
    assert readers() == []


def test_a_fault_of_a_thread_comes_up_where_its_batch_is_taken(images: PixelStore) -> None:
    sampler = Sampler(np.array([0, 1, 2, 999]), 4, seed=1)
    feed = Feed(images.resident(CPU, "disk"), sampler, FLAT, 0, first=0, last=3, threads=1)
    with pytest.raises(StoreError, match="no row 999"):
        feed.take(0)
    feed.close()
