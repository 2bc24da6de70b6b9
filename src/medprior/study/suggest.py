"""What to label next: the scans of a finished run that may be labelled, and those among them that teach the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medprior.backbones.weights import load_encoder
from medprior.data.catalog import Catalog
from medprior.data.duplicates.copies import copies_of
from medprior.errors import RunError, SettingsError
from medprior.evaluation.metrics import Kind
from medprior.evaluation.probes import linear_probe
from medprior.evaluation.suggestion import Choice, Images, typical, uncertain, uncertainty
from medprior.progress import Progress, silent
from medprior.study.canvas import common_modality
from medprior.study.division import divide, measured_labels
from medprior.study.finished import Finished, open_finished
from medprior.study.worklist import By, Suggested, Worklist
from medprior.training.adapt import embed
from medprior.training.device import computing, pick_device
from medprior.views.recipe import base_recipe

Rows = NDArray[np.int64]
NOT_DRAWN = "These patients are chosen, not drawn: learn from their labels, and test on patients drawn at random."


def suggest(place: Path, count: int, by: By | None = None, progress: Progress = silent) -> Worklist:
    """Choose what to label next in the run of `place`. The same question has the same answer.

    Chosen from are readable scans of patients of whom nothing is labelled, tested or validated, and that copy no scan
    of such patients. Before any label they are the typical ones (`suggestion.typical`), afterwards the uncertain ones
    (`suggestion.uncertain`), by a linear probe on the pre-trained features. Where the run holds test patients out,
    their labels choose nothing.

    Raises:
        RunError: no finished run with embeddings, or nothing is left to label.
        SettingsError: fewer than one, or uncertain before any label.
    """
    if count < 1:
        raise SettingsError(f"{count} scans cannot be suggested", where="--count", do="Ask for at least 1")
    run = open_finished(place)
    labelled = run.catalog.table["labelled"].to_numpy(dtype=bool)
    if by == "uncertain" and not labelled.any():
        do = "Leave it out: the typical ones are suggested. Or give the run labels first"
        raise SettingsError("nothing is labelled in this run, so nothing is uncertain", where="--by", do=do)
    rows = may_be_labelled(run.catalog, run.store.failed)
    if not len(rows):
        do = "Add scans of other patients, and run again"
        raise RunError("nothing is left to label: all patients are labelled or tested", where=str(place), do=do)
    by = by or ("uncertain" if labelled.any() else "typical")
    known = _Known.of(run) if labelled.any() else None
    chosen = _choose(run, rows, known, count, by, progress)
    persons = run.catalog.persons()[rows]
    patients = len(np.unique(persons))
    warnings = (*_too_few(len(chosen), count, patients), *_nameless(run.catalog, rows), NOT_DRAWN)
    return Worklist(run.out, by, tuple(chosen), run.catalog, run.store, len(rows), patients, warnings)


def may_be_labelled(catalog: Catalog, failed: NDArray[np.bool_]) -> Rows:
    """Rows that can be read, whose patient has no label and no place in a published test or validation set, and that
    copy no row of such a patient."""
    table, person = catalog.table, catalog.persons()
    held = table["labelled"].to_numpy(dtype=bool) | np.isin(table["split"].to_numpy(dtype=str), ("val", "test"))
    guarded = np.isin(person, person[held])
    return np.flatnonzero(~guarded & ~failed & ~copies_of(guarded, catalog.duplicates.cluster))


@dataclass(frozen=True)
class _Known:
    """Labelled rows that may be learnt from, and what they say."""

    rows: Rows
    targets: NDArray[np.float64]
    kind: Kind
    names: tuple[str, ...]

    @classmethod
    def of(cls, run: Finished) -> _Known:
        catalog = run.catalog
        assert catalog.labels is not None
        splits, _ = divide(catalog, run.settings)
        labels, _ = measured_labels(catalog, splits)
        rows = np.unique(np.concatenate([part for split in splits for part in (split.pool, split.val)]))
        rows = rows[~run.store.failed[rows]]
        targets, names = catalog.targets(), catalog.labels.names
        if labels is not None:
            targets, names = targets[:, list(labels)], tuple(names[i] for i in labels)
        return cls(rows, targets[rows], cast(Kind, catalog.labels.kind), tuple(names))


def _choose(run: Finished, rows: Rows, known: _Known | None, count: int, by: By, progress: Progress) -> list[Suggested]:
    seed, persons = run.settings.study.seed, run.catalog.persons()
    features = _embedded(run, rows, known, progress)
    candidates = _images(run, rows, features)
    images = {
        int(person): int(number) for person, number in zip(*np.unique(persons[rows], return_counts=True), strict=True)
    }
    labelled = None if known is None else _images(run, known.rows, features)
    if by == "typical" or known is None:
        found = typical(candidates, count, labelled=labelled, seed=seed)
        return [_suggested(choice, rows, persons, images) for choice in found]
    groups, classes = persons[known.rows], len(known.names)
    probe = linear_probe(features[known.rows], known.targets, groups, known.kind, classes, seed=seed)
    chances = probe.predict_proba(candidates.features)
    doubt = uncertainty(chances, known.kind)
    found = uncertain(candidates, doubt, count, seed=seed)
    said = [_expected(chances[choice.image], known) for choice in found]
    return [
        _suggested(choice, rows, persons, images, float(doubt[choice.image]), expected)
        for choice, expected in zip(found, said, strict=True)
    ]


def _suggested(
    choice: Choice, rows: Rows, persons: Rows, images: dict[int, int], doubt: float | None = None, expected: str = ""
) -> Suggested:
    row = int(rows[choice.image])
    return Suggested(row, choice.group + 1, choice.size, images[int(persons[row])], doubt, expected)


def _images(run: Finished, rows: Rows, features: NDArray[np.float32]) -> Images:
    return Images(features[rows], run.catalog.persons()[rows], run.catalog.duplicates.cluster[rows])


def _embedded(run: Finished, rows: Rows, known: _Known | None, progress: Progress) -> NDArray[np.float32]:
    """(N, D) features by catalog row, zeros where they are not needed."""
    device = pick_device()
    encoder = load_encoder(run.encoder).to(device)
    wanted = rows if known is None else np.union1d(rows, known.rows)
    features = np.zeros((len(run.catalog), encoder.embed_dim), np.float32)
    base = base_recipe(common_modality(run.catalog), int(encoder.spec["size"]), run.store.spatial_dims)
    with computing(run.settings.study.threads), progress.task("Embedding", len(wanted), "images") as bar:
        features[wanted] = embed(encoder, run.store.resident(device), wanted, base, bar.advance)
    return features


def _expected(chances: NDArray[np.float64], known: _Known) -> str:
    if known.kind == "multilabel":
        pairs = [(name, chance) for name, chance in zip(known.names, chances, strict=True) if chance >= 0.5]
    else:
        pairs = [(known.names[int(chances.argmax())], chances.max())]
    return "; ".join(f"{name} ({chance:.2f})" for name, chance in pairs) or "none"


def _too_few(found: int, count: int, patients: int) -> Sequence[str]:
    if found < count:
        return [f"{count:,} were asked for; only {found:,} can be suggested."]
    if patients < count:
        return [f"There are only {patients:,} patients to choose from: some are in the list again."]
    return []


def _nameless(catalog: Catalog, rows: Rows) -> Sequence[str]:
    count = int((catalog.table["patient"].to_numpy(dtype=str)[rows] == "").sum())
    if not count:
        return []
    of = "1 scan names" if count == 1 else f"{count:,} scans name"
    return [f"{of} no patient: each counts as a patient of its own, and may be of one who is labelled or tested."]
