"""Fine-tuning learns, averages its last weights, and stops early only with a validation set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import medprior.training.adapt as room
from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.errors import Interrupted
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import Probe, linear_probe
from medprior.tasks.classification import Classification
from medprior.training.adapt import Labelled, embed, fit, predict, probabilities
from medprior.training.descent import Recipe
from medprior.views.recipe import base_recipe

TASK = Classification("binary", ("dark", "light"))
BASE = base_recipe("CR", 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    """40 noisy images: the odd ones carry a light square."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for i in range(40):
        pixels = rng.normal(90, 12, (32, 32))
        pixels[10:22, 10:22] += 70 * (i % 2)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return PixelStore.build(build_catalog(folder), folder / "store", size=32).resident(torch.device("cpu"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return create_encoder("test_vit", in_channels=1, size=32, mean=[0.4], std=[0.2], seed=1)


def labelled(rows: range) -> Labelled:
    return Labelled(np.array(rows), np.array(rows) % 2.0)


def test_it_learns_what_is_plain_to_see(store: ResidentStore, encoder: Encoder) -> None:
    model = fit(encoder, TASK, store, labelled(range(30)), Recipe(40, batch_size=10, lr=3e-3).scratch(), BASE, seed=0)
    chances = probabilities(TASK, predict(model, TASK, store, np.arange(30, 40), BASE))
    assert score("auroc", chances, np.arange(30, 40) % 2.0, "binary") > 0.95


def test_the_given_encoder_is_left_alone_and_seeds_repeat(store: ResidentStore, encoder: Encoder) -> None:
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    recipe = Recipe(5, batch_size=8)
    first, again, other = (
        predict(fit(encoder, TASK, store, labelled(range(20)), recipe, BASE, seed=s), TASK, store, np.arange(40), BASE)
        for s in (3, 3, 4)
    )
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_last_weights_are_averaged(store: ResidentStore, encoder: Encoder) -> None:
    seen: list[torch.Tensor] = []

    class Spy(room._Fitting):
        def step(self, number: int) -> None:
            super().step(number)
            seen.append(self.model.head.weight.detach().clone())

    plain, room._Fitting = room._Fitting, Spy
    try:
        model = fit(encoder, TASK, store, labelled(range(20)), Recipe(8, batch_size=8, average=0.5), BASE, seed=0)
    finally:
        room._Fitting = plain
    torch.testing.assert_close(model.head.weight, torch.stack(seen[4:]).mean(0))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_a_few_steps_ends_in_weights_that_moved(
    store: ResidentStore, encoder: Encoder, steps: int
) -> None:
    ends = [
        fit(encoder, TASK, store, labelled(range(20)), Recipe(steps, batch_size=8, lr=lr, warmup=0), BASE, seed=0)
        for lr in (1e-3, 1e-2)
    ]
    assert not torch.equal(ends[0].head.weight, ends[1].head.weight)


def test_validation_keeps_the_best_weights(store: ResidentStore, encoder: Encoder) -> None:
    held = labelled(range(30, 40))
    model = fit(encoder, TASK, store, labelled(range(30)), Recipe(10, batch_size=10), BASE, seed=0, validation=held)
    chances = probabilities(TASK, predict(model, TASK, store, held.rows, BASE))
    ends = fit(encoder, TASK, store, labelled(range(30)), Recipe(10, batch_size=10, average=0.05), BASE, seed=0)
    last = probabilities(TASK, predict(ends, TASK, store, held.rows, BASE))
    assert score("auroc", chances, held.targets, "binary") >= score("auroc", last, held.targets, "binary")


def test_it_may_start_at_the_head_of_a_probe(store: ResidentStore, encoder: Encoder) -> None:
    train = labelled(range(20))
    features = embed(encoder, store, np.arange(40), BASE)
    probe = linear_probe(features[train.rows], train.targets, train.rows, "binary", 2)
    model = fit(encoder, TASK, store, train, Recipe(1, batch_size=8, lr=1e-12), BASE, seed=0, head=probe)
    chances = probabilities(TASK, predict(model, TASK, store, np.arange(40), BASE))
    np.testing.assert_allclose(chances, probe.predict_proba(features), atol=1e-4)


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    """140 images of a faint ring in noise; those of the odd ones are narrow."""
    folder = tmp_path_factory.mktemp("rings")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for i in range(140):
        pixels = rng.normal(110, 30, (32, 32))
        radius = np.hypot(y - rng.uniform(12, 20), x - rng.uniform(12, 20))
        pixels += 34 * np.exp(-(((radius - (5 if i % 2 else 7.5)) / 1.5) ** 2))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
    return PixelStore.build(build_catalog(folder), folder / "store", size=32).resident(torch.device("cpu"))


def test_fine_tuning_leaves_a_probe_of_the_encoder_within_2_points_of_its_score_before(rings: ResidentStore) -> None:
    """The encoder learnt from 80 images and is tuned with 10 of them; at a rate that is far too high it forgets."""
    blank = create_encoder("test_resnet", in_channels=1, size=32, mean=[0.43], std=[0.13], seed=1)
    recipe = Recipe(40, batch_size=32, lr=3e-2).scratch()
    lasting = fit(blank, TASK, rings, labelled(range(80)), recipe, BASE, seed=0).encoder
    train, known, held = labelled(range(10)), np.arange(80), np.arange(80, 140)

    def probed(encoder: Encoder, rows: np.ndarray) -> tuple[Probe, float]:
        features = embed(encoder, rings, np.arange(140), BASE)
        probe = linear_probe(features[rows], rows % 2.0, rows, "binary", 2)
        return probe, score("auroc", probe.predict_proba(features[held]), held % 2.0, "binary")

    def least(recipe: Recipe, head: Probe | None) -> float:
        """The lowest score of a probe of the encoder while it is fine-tuned."""
        seen: list[float] = []

        class Watched(room._Fitting):
            def step(self, number: int) -> None:
                super().step(number)
                if number % 6 == 5:
                    seen.append(probed(self.model.encoder, known)[1])
                    self.model.train()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "_Fitting", Watched)
            fit(lasting, TASK, rings, train, recipe, BASE, seed=0, head=head)
        return min(seen)

    before = probed(lasting, known)[1]
    assert 0.9 < before < 1
    assert least(Recipe(24, batch_size=10), probed(lasting, train.rows)[0]) >= before - 0.02
    assert least(Recipe(24, batch_size=10, lr=0.5).scratch(), None) < before - 0.02


def test_a_stop_is_obeyed(store: ResidentStore, encoder: Encoder) -> None:
    with pytest.raises(Interrupted):
        fit(encoder, TASK, store, labelled(range(20)), Recipe(50), BASE, seed=0, stop=lambda: True)


def test_features_do_not_depend_on_the_batch(store: ResidentStore, encoder: Encoder) -> None:
    together = embed(encoder, store, np.arange(40), BASE)
    alone = np.concatenate([embed(encoder, store, np.array([i]), BASE) for i in (0, 17, 39)])
    np.testing.assert_allclose(alone, together[[0, 17, 39]], atol=1e-5)
