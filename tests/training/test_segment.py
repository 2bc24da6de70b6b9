"""Learning outlines from a few annotated scans, in images and in volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.volumestore.foreground import find_foreground
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import SettingsError
from medprior.methods.dae import DAE
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.tasks.segmentation import Segmentation, Segmenter, fits, make_decoder, take_over
from medprior.training.descent import Descent, Recipe, layers_of
from medprior.training.segment import _crops, fit_segmenter, predict_logits
from medprior.views.recipe import base_recipe
from medprior.views.view import View

TASK = Segmentation(("disc",))


def disc(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise, and where it is."""
    rng = np.random.default_rng(seed)
    radius = min(shape) / 5
    centre = [rng.uniform(radius, n - radius) for n in shape]
    where = np.linalg.norm(np.stack(np.indices(shape), -1) - centre, axis=-1) < radius
    return (60 + 90 * where + rng.normal(0, 15, shape)).clip(0, 255).astype(np.uint8), where.astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ResidentVolumes:
    root = tmp_path_factory.mktemp("images")
    for part in ("images", "masks"):
        (root / part).mkdir()
    for i in range(6):
        grey, mask = disc(i, (40, 52))
        Image.fromarray(grey).save(root / "images" / f"{i}.png")
        Image.fromarray(mask * 255).save(root / "masks" / f"{i}.png")
    return _stored(root, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> ResidentVolumes:
    root = tmp_path_factory.mktemp("volumes")
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir()
    for i in range(3):
        grey, mask = disc(i, (10, 20, 26))
        nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), root / "imagesTr" / f"{i}.nii")
        nibabel.save(nibabel.Nifti1Image(mask.T, np.eye(4)), root / "labelsTr" / f"{i}.nii")
    return _stored(root, tmp_path_factory.mktemp("store"))


def _stored(root: Path, place: Path) -> ResidentVolumes:
    return VolumeStore.build(build_catalog(root, workers=1), place, masks=True, workers=1).resident("cpu")


def fitted(
    store: ResidentVolumes, rows: list[int], steps: int, size: int, hold: float = 0.0, **more: object
) -> Segmenter:
    dims = store.spatial_dims
    encoder = create_encoder("unet_4", 1, dims, size, seed=0)
    base = replace(base_recipe(None, size, dims), pitch=(1.0, 1.0))
    recipe = Recipe(steps, batch_size=4, lr=5e-3, layer_decay=1.0, hold=hold)
    foreground = find_foreground(store.volumes, rows)
    return fit_segmenter(encoder, TASK, store, np.array(rows), recipe, base, foreground=foreground, seed=1, **more)  # type: ignore[arg-type]


def dice(model: Segmenter, store: ResidentVolumes, row: int, size: int) -> float:
    found = predict_logits(model, store, row, (size,) * store.spatial_dims).argmax(0).numpy()
    truth = store.volumes.mask(row)
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_a_bright_disc_is_outlined_in_images_never_learnt_from(images: ResidentVolumes) -> None:
    model = fitted(images, [0, 1, 2, 3], 40, 32)
    assert min(dice(model, images, row, 32) for row in (4, 5)) > 0.8
    assert not model.training


def test_volumes_thinner_than_the_crop_are_learnt_from_and_outlined(volumes: ResidentVolumes) -> None:
    model = fitted(volumes, [0, 1], 3, 16, supervise=1)
    logits = predict_logits(model, volumes, 2, (16,) * 3, flips=(0, 1, 2))
    assert logits.shape == (2, *volumes.volumes.shape(2)) and logits.isfinite().all()


def test_the_same_seed_gives_the_same_weights(volumes: ResidentVolumes) -> None:
    one, two = (fitted(volumes, [0, 1], 2, 16).state_dict() for _ in range(2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_an_encoder_that_is_held_stands_still_while_its_decoder_learns(images: ResidentVolumes) -> None:
    before = create_encoder("unet_4", 1, 2, 32, seed=0).state_dict()
    whole, half = (fitted(images, [0, 1], 4, 32, hold=share) for share in (1.0, 0.5))
    assert all(torch.equal(value, before[name]) for name, value in whole.encoder.state_dict().items())
    assert not torch.equal(whole.decoder.heads[-1].weight, half.decoder.heads[-1].weight)
    moved = [name for name, value in half.encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert {"network.stages.0.0.conv.weight", "network.stages.3.1.conv.weight"} <= set(moved)


def test_the_rate_of_an_encoder_that_was_held_rises_as_that_of_its_head_did() -> None:
    encoder, recipe = create_encoder("unet_4", 1, 2, 16, seed=0), Recipe(20, lr=1.0, layer_decay=1.0, hold=0.2)
    decoder = make_decoder(encoder, TASK)
    model = Segmenter(encoder, decoder)
    descent = Descent(model, layers_of(encoder, decoder), recipe)
    seen = []
    for step in range(20):
        descent.step(step, sum(weight.square().sum() for weight in model.parameters()))  # type: ignore[arg-type]
        seen.append([group["lr"] for group in descent.optimizer.param_groups])
    below, top = np.array(seen)[:, 0], np.array(seen)[:, -1]
    np.testing.assert_allclose(below[:6], top[:6] * [0, 0, 0, 0, 0.5, 1])
    np.testing.assert_allclose(below[6:], top[6:])
    assert top[0] > 0


def test_a_step_has_as_many_crops_however_few_the_scans() -> None:
    base = replace(base_recipe(None, 16, 2), pitch=(1.0, 1.0))
    for count, scans, each in ((2, 2, 4), (3, 2, 3), (8, 8, 1), (50, 8, 1)):
        sampler, plan = _crops(np.arange(count), 8, base, seed=0)
        assert (sampler.batch_size, len(plan.specs)) == (scans, each)


def test_one_annotated_scan_is_too_few(images: ResidentVolumes) -> None:
    with pytest.raises(SettingsError, match="1 annotated scan"):
        fitted(images, [0], 1, 32)


def test_a_pretrained_decoder_is_taken_over_but_for_its_heads(images: ResidentVolumes) -> None:
    encoder = create_encoder("unet_4", 1, 2, 32)
    given = make_decoder(encoder, Segmentation(("a", "b", "c"))).state_dict()
    fresh = make_decoder(encoder, TASK)
    heads = {name: value.clone() for name, value in fresh.state_dict().items() if name.startswith("heads.")}
    take_over(fresh, given)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, heads[name] if name in heads else given[name])
    started = fitted(images, [0, 1], 1, 32, decoder=given)
    assert started.decoder.heads[-1].weight.shape[0] == 2


def dae(dims: int, **settings: object) -> DAE:
    facts = DataFacts(6, 1, dims, 16, (0.5,), (0.25,))
    method = create_method("dae", create_encoder("unet_4", 1, dims, 16, seed=0), overrides=settings, facts=facts)
    assert isinstance(method, DAE)
    return method.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_decoder_of_dae_arrives_whole_and_goes_on_learning(dims: int, request: pytest.FixtureRequest) -> None:
    store: ResidentVolumes = request.getfixturevalue({2: "images", 3: "volumes"}[dims])
    given = dae(dims).decoder.state_dict()
    untrained = fitted(store, [0, 1], 0, 16, decoder=given).decoder.state_dict()
    assert untrained.keys() == given.keys()
    joined = [name for name in given if name.startswith("image.")]
    assert joined
    assert all(torch.equal(untrained[name], value) for name, value in given.items() if not name.startswith("heads."))
    trained = fitted(store, [0, 1], 4, 16, decoder=given).decoder.state_dict()
    assert not any(torch.equal(trained[name], given[name]) for name in joined if name.endswith("conv.weight"))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_segmenter_shows_its_decoder_what_dae_shows_it(dims: int) -> None:
    method = dae(dims, variance=0.0, factor=2, mask_ratio=0.0)
    pixels = torch.rand(2, 1, *(16,) * dims, generator=torch.Generator().manual_seed(0))
    view = View(pixels, torch.ones_like(pixels, dtype=torch.bool), torch.eye(dims, dims + 1).expand(2, -1, -1))
    _, seen, restored = method.reconstruct([view], Batch(torch.arange(2), seed=0, clock=Clock(0, 1)))
    with torch.no_grad():
        torch.testing.assert_close(Segmenter(method.encoder, method.decoder)(seen).clamp(0, 1), restored)


def test_a_decoder_of_another_kind_is_refused() -> None:
    encoder = create_encoder("unet_4", 1, 2, 32)
    other = {"blocks.0.weight": torch.zeros(3)}
    assert not fits(make_decoder(encoder, TASK), other)
    with pytest.raises(SettingsError, match="fresh"):
        take_over(make_decoder(encoder, TASK), other)
