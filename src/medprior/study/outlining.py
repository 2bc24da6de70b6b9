"""A cell of a study that learns outlines: train on the annotated scans of a budget, score those of test patients."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.data.store.letterbox import resize
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.errors import DataError
from medprior.evaluation.segmentation import Scores, score_labels
from medprior.evaluation.trivial import class_sizes
from medprior.evaluation.yardstick import packed
from medprior.files import replace_file
from medprior.objectives.segmentation import IGNORED
from medprior.study.arms import Cell, Grid, Pretraining
from medprior.study.ground import Ground
from medprior.study.pretraining import encoder_of
from medprior.tasks.segmentation import Segmentation, Segmenter, fits, joins_image, make_decoder
from medprior.training.descent import Recipe
from medprior.training.interrupt import Stop, check, never
from medprior.training.segment import fit_segmenter, predict_logits

if TYPE_CHECKING:
    from medprior.backbones.encoder import Encoder
    from medprior.study.cells import Bench

SHOWN = 3
"""Test scans of a cell whose label maps are kept for the report: the worst, the middle, the best."""
SIZES = "truth-sizes.npz"
"""How large each class is in the masks of the test scans, in the folder of a study."""
Labels = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class Outlined:
    """What a segmenter made of some scans: scores (N, K, M) and targets (N, K) as `Outlines` takes them."""

    scores: NDArray[np.float64]
    targets: NDArray[np.float64]


def train_segmenter(
    bench: Bench,
    cell: Cell,
    encoder: Encoder,
    rows: NDArray[np.int64],
    recipe: Recipe,
    seed: int,
    stop: Stop = never,
    tick: Callable[[], None] = lambda: None,
) -> Segmenter:
    """Fit a segmenter to the masks of `rows`, with the decoder of the pre-training where it is to be kept and fits."""
    ground, adapt = bench.ground, bench.settings.adapt
    return fit_segmenter(
        encoder,
        ground.outlines,
        volumes_of(bench),
        rows,
        recipe,
        ground.base,
        foreground=ground.foreground,
        seed=seed,
        decoder=kept_decoder(bench, cell, encoder),
        supervise=adapt.supervise,
        stop=stop,
        tick=tick,
    )


def kept_decoder(bench: Bench, cell: Cell, encoder: Encoder) -> Mapping[str, Tensor] | None:
    """The decoder that the pre-training left beside its encoder, if outlines can be learnt with it and it is to be
    kept."""
    weights = _left_decoder(bench, cell.pretraining) if cell.pretraining else None
    return weights if weights is not None and _serves(encoder, bench.ground.outlines, weights) else None


def unkept_decoders(bench: Bench, grid: Grid) -> list[str]:
    """A sentence for every arm whose decoder was to be kept and is of a kind that outlines are not learnt with."""
    if not bench.ground.outlined:
        return []
    task, found = bench.ground.outlines, []
    for method, backbone in grid.methods:
        which = Pretraining(method, backbone, fold=0, seed=0)
        weights = _left_decoder(bench, which)
        if weights is not None and not _serves(encoder_of(bench.out / which.folder, bench.store), task, weights):
            found.append(
                f"The decoder that {method} trained with {backbone} is of another kind than that of outlines: its arm "
                "began with a fresh one."
            )
    return found


def _left_decoder(bench: Bench, which: Pretraining) -> Mapping[str, Tensor] | None:
    """What a pre-training kept beside its encoder; nothing where a fresh decoder was asked for."""
    from safetensors.torch import load_file

    file = bench.out / which.folder / "parts" / "decoder.safetensors"
    if bench.settings.adapt.decoder == "fresh" or not file.exists():
        return None
    return load_file(file, device=str(bench.store.device))


def _serves(encoder: Encoder, task: Segmentation, weights: Mapping[str, Tensor]) -> bool:
    """Whether outlines can be learnt with a decoder of these weights on the maps of this encoder."""
    return fits(make_decoder(encoder, task, sees_image=joins_image(weights)), weights)


def annotated(ground: Ground, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `rows` whose pixels and mask can be read."""
    return np.array([row for row in ground.usable(rows).tolist() if ground.volumes.has_mask(row)], np.int64)


def outline(bench: Bench, model: Segmenter, row: int) -> Labels:
    """(*S) class indices of a scan, in the grid of its file."""
    ground = bench.ground
    adapt = bench.settings.adapt
    flips = tuple(range(ground.spatial_dims)) if adapt.mirrored else ()
    logits = predict_logits(model, volumes_of(bench), row, ground.base.shape, overlap=adapt.overlap, flips=flips)
    shape: Any = ground.catalog.table["shape"].iat[row]
    return labels_of(logits, tuple(map(int, shape)))


def volumes_of(bench: Bench) -> ResidentVolumes:
    """The scans that crops are cut from, on the device."""
    assert isinstance(bench.store, ResidentVolumes)
    return bench.store


def labels_of(logits: Tensor, shape: Sequence[int]) -> Labels:
    """(*shape) the likeliest class of every voxel, from logits (K, *S) of another grid of the same box."""
    if tuple(logits.shape[1:]) != tuple(shape):
        logits = torch.from_numpy(resize(logits.cpu().numpy(), shape))
    dtype = torch.uint8 if logits.shape[0] <= 2**8 else torch.int32
    found = logits.argmax(0).to(dtype).cpu().numpy()
    return found if dtype == torch.uint8 else found.astype(np.uint16)


def score_outlines(
    bench: Bench, model: Segmenter, rows: NDArray[np.int64], stop: Stop = never, keep: Path | None = None
) -> Outlined:
    """Score a segmenter on the scans `rows`, each in the grid of its file.

    Args:
        keep: an .npz that gets the label maps of the worst, the middle and the best scan, for the report.

    Raises:
        DataError: a mask cannot be read any more.
        Interrupted: a stop was asked for.
    """
    found: list[Scores] = []
    maps: dict[int, Labels] = {}
    for row in rows.tolist():
        check(stop)
        labels = outline(bench, model, row)
        found.append(_scored(bench, labels, row))
        if keep is not None:
            maps[row] = labels
    scores, targets = packed(found)
    if keep is not None:
        _keep(keep, rows, scores, maps)
    return Outlined(scores, targets)


def truth_sizes(bench: Bench, rows: NDArray[np.int64], stop: Stop = never) -> dict[int, NDArray[np.int64]]:
    """(C,) voxels of each class in the masks of `rows`, in the grids of their files; counted once for a study.

    Raises:
        DataError: a mask cannot be read any more.
        Interrupted: a stop was asked for.
    """
    file = bench.out / SIZES
    if file.exists() and (kept := _kept_sizes(file)).keys() >= set(rows.tolist()):
        return kept
    found: dict[int, NDArray[np.int64]] = {}
    for row in rows.tolist():
        check(stop)
        found[row] = class_sizes(_truth(bench.ground, row), bench.ground.task.outputs)
    with replace_file(file) as aside, aside.open("wb") as stream:
        np.savez(stream, rows=rows, sizes=np.stack([found[row] for row in rows.tolist()]))
    return found


def _kept_sizes(file: Path) -> dict[int, NDArray[np.int64]]:
    """What was counted before; nothing where the file was damaged."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            return dict(zip(kept["rows"].tolist(), kept["sizes"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}


def _truth(ground: Ground, row: int) -> NDArray[np.int32]:
    """(*S) the class of every voxel of a scan, `IGNORED` where it was not judged."""
    truth = ground.catalog.read_mask(row)
    if truth is None:
        where = str(ground.catalog.table["path"].iat[row])
        raise DataError("its mask is gone", where=where, do="Index the scans again")
    return np.where(truth < ground.task.outputs, truth.astype(np.int32), IGNORED)


def _scored(bench: Bench, labels: Labels, row: int) -> Scores:
    ground, table = bench.ground, bench.ground.catalog.table
    truth = _truth(ground, row)
    spacing: Any = table["spacing"].iat[row]
    steps = (1.0,) * truth.ndim if spacing is None else tuple(spacing)
    tolerance = bench.settings.study.tolerance
    return score_labels(labels, truth, ground.task.outputs, steps, tolerance=tolerance)


def _keep(file: Path, rows: NDArray[np.int64], scores: NDArray[np.float64], maps: Mapping[int, Labels]) -> None:
    """Label maps of the scans with the least, the middle and the greatest mean Dice."""
    dice = scores[:, :, 0]
    counted = np.isfinite(dice).sum(1)
    means = np.where(np.isfinite(dice), dice, 0).sum(1) / np.maximum(counted, 1)
    order = rows[np.argsort(np.where(counted, means, np.inf), kind="stable")][: int((counted > 0).sum())]
    if not len(order):
        return
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]
    with replace_file(file) as aside, aside.open("wb") as stream:
        about = json.dumps([[int(row), float(means[np.flatnonzero(rows == row)[0]])] for row in chosen])
        arrays: dict[str, Any] = {f"row{row}": maps[int(row)] for row in chosen}
        np.savez_compressed(stream, about=np.array(about), **arrays)


def kept_maps(file: Path) -> list[tuple[int, float, Labels]]:
    """The rows, mean Dice and label maps that a cell kept, the worst first; none where it kept none."""
    if not file.exists():
        return []
    with np.load(file, allow_pickle=False) as found:
        return [(int(row), float(dice), found[f"row{row}"]) for row, dice in json.loads(str(found["about"]))]
