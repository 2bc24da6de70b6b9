"""Learning to outline from a few annotated scans: crops aimed at what is labelled, and prediction in windows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.backbones.encoder import Encoder
from medprior.data.volumestore.foreground import Foreground
from medprior.errors import SettingsError
from medprior.objectives.segmentation import IGNORED, supervised_at_every_scale
from medprior.tasks.segmentation import Segmentation, Segmenter, joins_image, make_decoder, take_over
from medprior.tasks.sliding import slide
from medprior.training.descent import Descent, Recipe, layers_of
from medprior.training.device import channels_last, pixels_last, precision
from medprior.training.feed import Feed
from medprior.training.interrupt import Stop, check, never
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.window import Crops

if TYPE_CHECKING:
    from medprior.data.volumestore.resident import ResidentVolumes

FEWEST = 2
"""Annotated scans that a training needs."""


def fit_segmenter(
    encoder: Encoder,
    task: Segmentation,
    store: ResidentVolumes,
    rows: NDArray[np.int64],
    recipe: Recipe,
    base: ViewRecipe,
    *,
    foreground: Foreground,
    seed: int,
    decoder: Mapping[str, Tensor] | None = None,
    supervise: int = 0,
    stop: Stop = never,
    tick: Callable[[], None] = lambda: None,
) -> Segmenter:
    """Train a copy of `encoder` with a decoder on the label maps of scans `rows`; the weights of the last steps are
    averaged.

    A batch is as large however few scans there are: several crops of each are in it. For the first steps that the
    recipe says so (`hold`) the decoder learns alone, on what the encoder makes of the crops as it is.

    Args:
        foreground: where labelled voxels lie in these scans.
        decoder: weights of a pre-trained decoder to start from; where it saw the image, this one does.
        supervise: coarser resolutions that are supervised too.

    Raises:
        SettingsError: a single scan, or a decoder of another kind.
        Interrupted: a stop was asked for.
        StoreError: the store was deleted or cut short.
    """
    if len(rows) < FEWEST:
        raise SettingsError(f"{len(rows)} annotated scan cannot be learnt from", do=f"Annotate {FEWEST} or more")
    device = next(encoder.parameters()).device
    torch.manual_seed(seed)
    fresh = make_decoder(encoder, task, supervise, sees_image=decoder is not None and joins_image(decoder))
    model = Segmenter(copy.deepcopy(encoder), fresh).to(device).train()
    if decoder is not None:
        take_over(model.decoder, decoder)
    convolves = encoder.kind == "cnn"
    if convolves:
        channels_last(model, encoder.spatial_dims)
    descent = Descent(model, layers_of(model.encoder, model.decoder), recipe)
    sampler, plan = _crops(rows, recipe.batch_size, base, seed)
    with closing(Feed(store, sampler, plan, seed, first=0, last=recipe.steps, foreground=foreground)) as feed:
        for step in range(recipe.steps):
            check(stop)
            torch.manual_seed(seed * 1_000_003 + step)  # dropout-like layers: the same on every repeat
            crops = feed.take(step)
            assert isinstance(crops, Crops)
            views = render(crops, plan, seed=seed, step=step)
            pixels = torch.cat([view.pixels for view in views])
            labels = torch.cat([view.labels for view in views if view.labels is not None])
            labels = labels.masked_fill(labels >= task.outputs, IGNORED)
            with precision(device):
                seen = pixels_last(pixels) if convolves else pixels
                maps = _still(model.encoder, seen) if step < recipe.held_steps else model.encoder(seen)
                outputs = model.decoder.outputs(maps, seen)
            descent.step(step, supervised_at_every_scale(outputs, labels))
            tick()
    return descent.averaged()


@torch.inference_mode()
def predict_logits(
    model: Segmenter,
    store: ResidentVolumes,
    row: int,
    shape: Sequence[int],
    *,
    overlap: float = 0.5,
    flips: tuple[int, ...] = (),
) -> Tensor:
    """Logits (K, *S) of a scan on its stored grid, through windows of `shape`.

    Args:
        overlap: share of a window that the next one covers, at the least.
        flips: axes along which windows are also mirrored, and the answers averaged.

    Raises:
        StoreError: the scan could not be stored, or its file is gone or damaged.
    """
    model.eval()
    device = next(model.parameters()).device

    def answer(windows: Tensor) -> Tensor:
        with precision(device):
            return model(windows)  # type: ignore[no-any-return]

    scan = store.unit(row)
    return slide(scan, tuple(shape), answer, overlap=overlap, flips=flips)


def _still(encoder: Encoder, pixels: Tensor) -> list[Tensor]:
    """The maps of an encoder that stands still: without a gradient, and no statistic of it moves."""
    with torch.no_grad():
        maps: list[Tensor] = encoder.eval()(pixels)
    encoder.train()
    return maps


def _crops(rows: NDArray[np.int64], batch_size: int, base: ViewRecipe, seed: int) -> tuple[Sampler, ViewPlan]:
    """Which scans make a step, and how many crops of each."""
    each = math.ceil(batch_size / min(batch_size, len(rows)))
    return Sampler(rows, max(1, batch_size // each), seed), independent(base.outlining(), each)
