"""An outliner is the same after it was written, and says what is wrong with a folder."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.errors import RunError
from medprior.tasks.outliner import Outliner, fingerprint, is_outliner
from medprior.tasks.predictor import learn_familiarity
from medprior.tasks.segmentation import Segmentation, Segmenter, make_decoder
from medprior.training.windowfeatures import MOST_WINDOWS, spread

FACTS = Outliner(
    names=("left", "right"), values=(0, 3, 7), shape=(16, 16), spacing=(2.0, 1.5), channels=3, spatial_dims=2,
    modality=None, ct_window=(-200.0, 300.0), supervise=1, overlap=0.25, mirrored=True, origin={"arm": "scratch"},
)  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Segmenter]:
    encoder = create_encoder("unet_8", in_channels=3, spatial_dims=2, size=16, seed=0)
    torch.manual_seed(0)
    model = Segmenter(encoder, make_decoder(encoder, Segmentation(FACTS.names), FACTS.supervise)).eval()
    FACTS.save(tmp_path, model)
    return tmp_path, model


def test_it_comes_back_and_answers_alike(saved: tuple[Path, Segmenter]) -> None:
    folder, model = saved
    facts, again = Outliner.load(folder)
    assert is_outliner(folder) and facts == FACTS
    pixels = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(again(pixels), model(pixels), rtol=0, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_whose_decoder_sees_the_image_does_so_again(dims: int, tmp_path: Path) -> None:
    encoder = create_encoder("unet_8", in_channels=3, spatial_dims=dims, size=16, seed=0)
    torch.manual_seed(0)
    decoder = make_decoder(encoder, Segmentation(FACTS.names), FACTS.supervise, sees_image=True)
    model = Segmenter(encoder, decoder).eval()
    dataclasses.replace(FACTS, spatial_dims=dims, shape=(16,) * dims).save(tmp_path, model)
    facts, again = Outliner.load(tmp_path)
    assert facts.sees_image and again.decoder.sees_image
    pixels = torch.rand(2, 3, *facts.shape)
    torch.testing.assert_close(again(pixels), model(pixels), rtol=0, atol=1e-6)
    grey = pixels[:, :1]
    torch.testing.assert_close(again(grey), model(grey.expand_as(pixels)), rtol=0, atol=1e-6)


def test_a_folder_that_does_not_say_whether_its_decoder_sees_the_image_has_one_that_does_not(
    saved: tuple[Path, Segmenter],
) -> None:
    folder, model = saved
    said = json.loads((folder / "outliner.json").read_text())
    assert said.pop("sees_image") is False
    (folder / "outliner.json").write_text(json.dumps(said))
    facts, again = Outliner.load(folder)
    assert facts == FACTS
    pixels = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(again(pixels), model(pixels), rtol=0, atol=0)


def test_how_far_a_scan_may_lie_comes_back_and_goes_with_another_model(saved: tuple[Path, Segmenter]) -> None:
    folder, model = saved
    assert Outliner.load(folder)[0].familiarity is None
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    familiarity = learn_familiarity(features)
    dataclasses.replace(FACTS, familiarity=familiarity).save(folder, model)
    again = Outliner.load(folder)[0].familiarity
    assert again is not None and again.limit == familiarity.limit
    np.testing.assert_array_equal(again.distances(features), familiarity.distances(features))
    (folder / "familiarity.npz").write_bytes((folder / "familiarity.npz").read_bytes()[:100])
    with pytest.raises(RunError, match="no outliner can be read"):
        Outliner.load(folder)
    FACTS.save(folder, model)
    assert Outliner.load(folder)[0].familiarity is None


@pytest.mark.parametrize(("lengths", "count"), [((16, 16), 1), ((33, 16), 3), ((200, 200), MOST_WINDOWS), ((7, 60), 4)])
def test_windows_are_spread_over_a_scan(lengths: tuple[int, int], count: int) -> None:
    shape = (min(16, lengths[0]), 16)
    places = spread(lengths, shape)
    assert len(places) == count and len({tuple((s.start, s.stop) for s in place) for place in places}) == count
    for axis, (length, side) in enumerate(zip(lengths, shape, strict=True)):
        assert all(0 <= place[axis].start < place[axis].stop == place[axis].start + side <= length for place in places)
        assert {0, length} <= {edge for place in places for edge in (place[axis].start, place[axis].stop)}


def test_grey_is_shown_to_a_model_of_colour_as_colour(saved: tuple[Path, Segmenter]) -> None:
    folder, model = saved
    _, again = Outliner.load(folder)
    grey = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(again(grey), model(grey.expand(-1, 3, -1, -1)), rtol=0, atol=0)


def test_another_model_has_another_fingerprint(saved: tuple[Path, Segmenter]) -> None:
    folder, model = saved
    before = fingerprint(folder)
    FACTS.save(folder, model)
    assert fingerprint(folder) == before
    dataclasses.replace(FACTS, overlap=0.5).save(folder, model)
    changed = fingerprint(folder)
    with torch.no_grad():
        next(model.decoder.parameters()).add_(1)
    FACTS.save(folder, model)
    assert len({before, changed, fingerprint(folder)}) == 3


@pytest.mark.parametrize("damage", ['"a text"', "[1]", "{}", "{"])
def test_a_damaged_one_is_said(saved: tuple[Path, Segmenter], damage: str) -> None:
    folder, _ = saved
    (folder / "outliner.json").write_text(damage)
    with pytest.raises(RunError, match="no outliner can be read"):
        Outliner.load(folder)


@pytest.mark.parametrize("name", ["decoder.safetensors", "encoder.safetensors"])
def test_missing_weights_are_said(saved: tuple[Path, Segmenter], name: str) -> None:
    folder, _ = saved
    (folder / name).unlink()
    with pytest.raises(RunError, match="cannot be"):
        Outliner.load(folder)
    with pytest.raises(RunError, match="cannot be read"):
        fingerprint(folder)
