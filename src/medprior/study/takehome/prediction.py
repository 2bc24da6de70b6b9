"""Using what a run left behind on new scans: predictions and features."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder
from medprior.backbones.source import Source, encoder_named, read_source
from medprior.backbones.weights import load_encoder
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.errors import DataError, SettingsError
from medprior.files import make_folder, write_text
from medprior.progress import Progress, silent
from medprior.study.canvas import CPU_SIZE, GPU_SIZE, common_modality
from medprior.study.takehome.outlineprediction import outline_scans
from medprior.study.takehome.predicted import Predicted, as_csv, unreadable_said
from medprior.tasks.outliner import is_outliner
from medprior.tasks.predictor import Predictor, Preprocessing
from medprior.training.adapt import embed
from medprior.training.device import pick_device
from medprior.views.recipe import base_recipe


def predict_scans(
    folder: Path, scans: Path, out: Path, *, anyway: bool = False, progress: Progress = silent
) -> Predicted:
    """Write `predictions.csv`: one row per scan with its probabilities, or with the reason why there are none.

    A scan unlike those the predictor was made from gets no prediction unless `anyway`. Where `folder` holds an
    outliner, scans are outlined instead, see `outlineprediction.outline_scans`.

    Raises:
        RunError: no predictor in `folder`. DataError: no scan can be used at all.
        OutputError: no space, no permission.
    """
    if is_outliner(folder):
        return outline_scans(folder, scans, out, anyway=anyway, progress=progress)
    predictor = Predictor.load(folder)
    make_folder(out)
    catalog = build_catalog(scans, progress=progress)
    encoder = load_encoder(folder)
    rows, features = _features(lambda store: encoder, catalog, predictor.preprocessing, progress)
    strange = np.ones(len(catalog), bool)
    distance = np.full(len(catalog), np.nan)
    chances = np.full((len(catalog), len(predictor.names)), np.nan)
    distance[rows] = predictor.familiarity.distances(features)
    strange[rows] = distance[rows] > predictor.familiarity.limit
    chances[rows] = predictor.probabilities(features)
    shown = np.isfinite(distance) if anyway else ~strange
    write_text(out / "predictions.csv", _table(catalog, predictor, chances, distance, strange, shown))
    refused = int((~shown).sum())
    lines = [f"Predicted {int(shown.sum()):,} of {len(catalog):,} scans: {out / 'predictions.csv'}"]
    if refused:
        lines.append(
            f"Refused   {refused:,} scans unlike those this model was trained on   (--anyway predicts them too)"
        )
    lines += unreadable_said(catalog.problems)
    return Predicted(int(shown.sum()), tuple(lines))


def embed_scans(
    encoder: str | Path,
    scans: Path,
    out: Path,
    *,
    backbone: str | None = None,
    size: int | None = None,
    progress: Progress = silent,
) -> tuple[int, int]:
    """Write `features.npy` (N, D) and `features.csv` (row, path, frame); returns N and D.

    Args:
        encoder: an encoder folder, or other weights as `read_source` reads them.
        backbone, size: of weights that do not say them; 64 pixels a side on a CPU and 224 on a GPU by default.

    Raises:
        SettingsError: the weights cannot be had, are for another encoder, or do not say for which.
        DataError: no scan can be used. OutputError: no space, no permission.
    """
    source = read_source(encoder)
    make_folder(out)
    name = backbone or encoder_named(source)
    if name is None:
        raise SettingsError("these weights do not say of which encoder they are", do="Name it with --backbone")
    ready = load_encoder(source.path) if source.path is not None and name == encoder_named(source) else None
    catalog = build_catalog(scans, progress=progress)
    modality = common_modality(catalog)
    if ready is not None:
        channels, dims, own = (int(ready.spec[key]) for key in ("in_channels", "spatial_dims", "size"))
        pre = Preprocessing(size or own, 2 * (size or own), channels, dims, modality)
        rows, features = _features(lambda store: ready, catalog, pre, progress)
    else:
        grey, dims = bool(catalog.table["grey"].all()), len(catalog.table["shape"].iloc[0])
        side = size or (GPU_SIZE if pick_device().type == "cuda" else CPU_SIZE)
        pre = Preprocessing(side, 2 * side, 1 if grey else 3, dims, modality)
        rows, features = _features(lambda store: _begun(source, name, side, store, progress), catalog, pre, progress)
    np.save(out / "features.npy", features)
    places = catalog.table[["path", "member", "frame"]].iloc[rows]
    lines = ([i, *place] for i, place in enumerate(places.itertuples(index=False)))
    write_text(out / "features.csv", as_csv(["row", *places], lines))
    return len(features), features.shape[1]


def _begun(source: Source, name: str, size: int, store: PixelStore, progress: Progress) -> Encoder:
    """An encoder for the scans of a store; weights without statistics of their own get those of the scans."""
    mean, std = (None, None) if source.published else store.moments(np.flatnonzero(~store.failed))
    found = create_encoder(name, store.channels, store.spatial_dims, size, weights=source.text, mean=mean, std=std)
    for line in found.loaded.told(source.title) if found.loaded else ():
        progress.say(line)
    return found


def _features(
    make: Callable[[PixelStore], Encoder], catalog: Catalog, pre: Preprocessing, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the catalog that could be embedded, and their features."""
    device = pick_device()
    fits = np.array([len(shape) == pre.spatial_dims for shape in catalog.table["shape"]])
    if not fits.any():
        kind = "images" if pre.spatial_dims == 2 else "volumes"
        raise DataError(f"none of the {len(catalog):,} scans are {kind}", where=str(catalog.root), do=f"Give {kind}")
    catalog = replace(catalog, table=catalog.table[fits].reset_index(drop=True))
    with tempfile.TemporaryDirectory(prefix="medprior-") as place:
        store = PixelStore.build(
            catalog,
            Path(place) / "store",
            size=pre.store_size,
            channels=pre.channels,
            spatial_dims=pre.spatial_dims,
            ct_window=(pre.ct_window[0], pre.ct_window[1]),
            progress=progress,
        )
        rows = np.flatnonzero(~store.failed)
        if not len(rows):
            raise DataError("none of the scans could be read", where=str(catalog.root))
        base = base_recipe(pre.modality, pre.size, pre.spatial_dims)
        encoder = make(store).to(device)
        with progress.task("Embedding", len(rows), "images") as bar:
            features = embed(encoder, store.resident(device), rows, base, bar.advance)
    return np.flatnonzero(fits)[rows], features


def _table(
    catalog: Catalog,
    predictor: Predictor,
    chances: NDArray[np.float64],
    distance: NDArray[np.float64],
    strange: NDArray[np.bool_],
    shown: NDArray[np.bool_],
) -> str:
    chance_columns = [f"p_{name}" for name in predictor.names]
    header = ["path", "member", "frame", *chance_columns, "predicted", "familiar", "distance", "reason"]
    lines = []
    for row, found in enumerate(catalog.table.itertuples()):
        values = [f"{p:.4f}" for p in chances[row]] if shown[row] else [""] * len(predictor.names)
        named = _named(predictor, chances[row]) if shown[row] else ""
        far = f"{distance[row] / predictor.familiarity.limit:.2f}" if np.isfinite(distance[row]) else ""
        familiar = "no" if strange[row] else "yes"
        reason = _reason(bool(strange[row]), distance[row])
        lines.append([found.path, found.member, found.frame, *values, named, familiar, far, reason])
    for problem in catalog.problems.itertuples():
        lines.append([problem.path, "", "", *[""] * len(predictor.names), "", "", "", problem.reason])
    return as_csv(header, lines)


def _reason(strange: bool, distance: float) -> str:
    """Why a scan is refused, or nothing."""
    if not np.isfinite(distance):
        return "its pixels cannot be used by this model"
    return "unlike the scans this model was trained on" if strange else ""


def _named(predictor: Predictor, chances: NDArray[np.float64]) -> str:
    if predictor.kind == "multilabel":
        return "; ".join(name for name, p in zip(predictor.names, chances, strict=True) if p >= 0.5)
    return predictor.names[int(chances.argmax())]
