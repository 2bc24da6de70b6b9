"""From a finished study to the plain data of its report, and the page itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.backbones.encoder import Encoder
from medprior.data.volumestore.volumes import VolumeStore
from medprior.methods.method import Batch, Clock
from medprior.report.calibration import read_calibration
from medprior.report.content import (
    Budget,
    ClassScore,
    DataSummary,
    Gallery,
    Problem,
    ReportContent,
    Rows,
    names_of,
    scans_of,
)
from medprior.report.groups import read_groups
from medprior.report.heated import saliency_of
from medprior.report.mapped import embedding_of
from medprior.report.outlines import note_on_classes, outlines_of, scores_by_class
from medprior.report.page import write_report
from medprior.report.robustness import read_robustness
from medprior.report.seen import as_bytes, seen, whole
from medprior.study.arms import BORROWED, Pretraining
from medprior.study.canvas import common_modality
from medprior.study.classes import class_scores
from medprior.study.ground import Ground
from medprior.study.lost import LostStore
from medprior.study.pretraining import encoder_of, make_trainer
from medprior.study.study import Outcome
from medprior.study.takehome.modelcard import write_model_card
from medprior.training.run import Curves, Run

EXAMPLES, SHOWN_ROWS = 12, 6


def report(outcome: Outcome) -> Path:
    """Write `report.html` and `model-card.md` of a finished study; returns the path of the page."""
    write_model_card(outcome)
    return write_report(outcome.out / "report.html", content_of(outcome))


def content_of(outcome: Outcome) -> ReportContent:
    """Everything the page shows, gathered from the study's folder; without pictures where its pixels are gone."""
    ground, grid, verdict, told = outcome.ground, outcome.grid, outcome.verdict, outcome.told
    images = {b: len(ground.budget(b, 0, 0)) for b in grid.budgets}
    first = [Pretraining(m, b, 0, 0) for m, b in grid.methods if m not in BORROWED]
    hours = (told.seconds or 0.0) / 3600
    facts = {k: ", ".join(v) or "none" if isinstance(v, list) else str(v) for k, v in told.environment.items()}
    there = not isinstance(ground.store, LostStore)
    return ReportContent(
        title=f"What pre-training was worth on {len(ground.catalog):,} {scans_of(verdict, len(ground.catalog))}",
        verdict=verdict,
        summary=_summary(outcome),
        plan=[*told.found, *told.planned],
        budgets=[Budget(b, n) for b, n in images.items()],
        per_class=scores_by_class(outcome) if ground.outlined else _per_class(outcome),
        class_note=note_on_classes(outcome) if ground.outlined else "",
        outlines=outlines_of(outcome) if ground.outlined and there else None,
        examples=_examples(outcome) if there else None,
        reconstructions=_reconstructions(outcome, first) if there else {},
        views=_views(outcome, first) if there else {},
        training={f"{w.method} on {w.backbone}": _curves(Run(outcome.out / w.folder, {})) for w in first},
        results=[{str(k): v for k, v in row.items()} for row in outcome.results.table().to_dict("records")],
        command=told.command,
        environment={**facts, "hours of this call": f"{hours:.2f}"},
        links={
            "model to take home": "best/",
            "how it was chosen": ", ".join(f"{k} {v}" for k, v in outcome.best.items()),
            "use it": "medprior predict best/ NEW_SCANS",
            "its model card": "model-card.md",
        },
        limits=[*pixels_lost(outcome), *_collapses(outcome)],
        embedding=embedding_of(outcome),
        saliency=saliency_of(outcome) if there else None,
        calibration=read_calibration(outcome.out, verdict, outcome.results.kind, outcome.results.names),
        groups=read_groups(outcome.out, verdict),
        robustness=read_robustness(outcome.out, verdict),
    )


def pixels_lost(outcome: Outcome) -> list[str]:
    """A sentence on what a page has to leave out; none where the stored pixels are there."""
    if not isinstance(outcome.ground.store, LostStore):
        return []
    return [
        "No scans are shown: the stored pixels of this run are gone or damaged. Where the scans still are, the command "
        "that made it stores them again."
    ]


def _curves(run: Run) -> Curves:
    """Losses and looks at the embeddings; what both hold in the finer steps of the losses."""
    return {**run.curves(), **run.curves("diagnosis"), **run.curves()}


def _collapses(outcome: Outcome) -> list[str]:
    """What each pre-training said of embeddings that collapsed."""
    runs = [which for which in outcome.grid.pretrainings() if which.method not in BORROWED]
    return [
        f"{which.method} on {which.backbone}, fold {which.fold + 1}, seed {which.seed + 1}: {sentence}"
        for which in runs
        for sentence in Run(outcome.out / which.folder, {}).card().get("warnings", ())
    ]


def _summary(outcome: Outcome) -> DataSummary:
    ground = outcome.ground
    catalog, split = ground.catalog, ground.splits[0]
    parts = {"train": split.pool, "val": split.val, "test": split.test}
    parts = {name: rows for name, rows in parts.items() if len(rows)}
    sides = sorted({"x".join(map(str, shape)) for shape in catalog.table["shape"]})
    problems: list[Problem] = [
        {"row": int(i), "reason": "could not be read"} for i in np.flatnonzero(ground.store.failed)
    ]
    return DataSummary(
        images=len(catalog),
        labelled=int(catalog.table["labelled"].sum()),
        patients=ground.known_patients if catalog.patients_known else None,
        modality=common_modality(ground.catalog) or "",
        sizes=sides[0] if len(sides) == 1 else f"{len(sides)} sizes{_stored_said(ground)}",
        splits={name: len(rows) for name, rows in parts.items()},
        classes={
            name: {part: _count(ground.targets[rows], k) for part, rows in parts.items()}
            for k, name in enumerate(ground.task.names)
        },
        problems=problems,
    )


def _stored_said(ground: Ground) -> str:
    return "" if isinstance(ground.store, VolumeStore) or ground.outlined else f", stored at {ground.store.size} px"


def _count(targets: NDArray[np.float64], k: int) -> int:
    return int((targets == k).sum()) if targets.ndim == 1 else int((targets[:, k] == 1).sum())


def _per_class(outcome: Outcome) -> list[ClassScore]:
    """AUROC of each class against the rest at the largest budget."""
    budget, names = max(outcome.grid.budgets), names_of(outcome.verdict)
    return [
        {
            "arm": names[found.arm.name, found.arm.adaptation, found.arm.encoder],
            "budget": budget,
            "class": found.name,
            "metric": "AUROC",
            "mean": found.auroc.value,
            "low": found.auroc.low,
            "high": found.auroc.high,
        }
        for found in class_scores(outcome.results, budget)
        if found.arm.adaptation != "scratch-2x"
    ]


def _framed(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(N, C, H, W) in the middle of black squares: small crops keep their scale beside large ones."""
    missing = [max(0, side - length) for length in images.shape[2:]]
    return np.pad(images, [(0, 0), (0, 0), *((gap // 2, gap - gap // 2) for gap in missing)])


def _some_rows(outcome: Outcome, count: int) -> NDArray[np.int64]:
    pool = outcome.ground.usable(outcome.ground.splits[0].pool)
    return np.sort(np.random.default_rng(outcome.ground.seed).permutation(pool)[:count])


def _examples(outcome: Outcome) -> Gallery:
    rows = _some_rows(outcome, EXAMPLES)
    return Gallery(as_bytes(whole(outcome.ground, rows)), [f"row {row}: {_label(outcome, row)}" for row in rows])


def _label(outcome: Outcome, row: int) -> str:
    names, target = outcome.ground.task.names, outcome.ground.targets[row]
    if np.ndim(target) == 0:
        return names[int(target)]
    return ", ".join(name for name, value in zip(names, target, strict=True) if value == 1) or "none"


def _views(outcome: Outcome, runs: list[Pretraining]) -> dict[str, Rows]:
    rows = _some_rows(outcome, SHOWN_ROWS)
    original = whole(outcome.ground, rows)
    sheets = {}
    for which in runs:
        trainer = _trainer(outcome, which)
        views = [view.pixels for view in seen(outcome.ground, rows, trainer.views)]
        side = max(max(one.shape[-2:]) for one in (original, *views))
        images = np.stack([_framed(as_bytes(one), side) for one in (original, *views)], axis=1)
        columns = ["original", *[f"view {i + 1}" for i in range(len(views))]]
        sheets[which.method] = Rows(columns, images, [f"row {row}" for row in rows])
    return sheets


def _reconstructions(outcome: Outcome, runs: list[Pretraining]) -> dict[str, Rows]:
    rows = _some_rows(outcome, SHOWN_ROWS)
    sheets = {}
    for which in runs:
        trainer = _trainer(outcome, which)
        if not hasattr(trainer.method, "reconstruct"):
            continue
        _restore(trainer.method, outcome.out / which.folder, encoder_of(outcome.out / which.folder, trainer.store))
        views = seen(outcome.ground, rows, trainer.views)
        with torch.no_grad():
            batch = Batch(index=torch.from_numpy(rows), seed=0, clock=Clock(0, 1, 0))
            parts = trainer.method.reconstruct(views, batch)
        images = np.stack([as_bytes(part) for part in parts], axis=1)
        given = "masked" if behind_grey(parts[0], parts[1]) else "as seen"
        sheets[which.method] = Rows(["target", given, "reconstruction"], images, [f"row {row}" for row in rows])
    return sheets


def behind_grey(target: torch.Tensor, seen: torch.Tensor) -> bool:
    """Whether what an encoder was not given as it is, and there is some, was all hidden behind one grey."""
    changed = seen[seen != target]
    return len(changed) > 0 and bool(changed.min() == changed.max())


def _trainer(outcome: Outcome, which: Pretraining) -> Any:
    store = outcome.ground.store.resident(torch.device("cpu"))
    encoder = encoder_of(outcome.out / which.folder, store)  # the weights that the run began with may be gone
    return make_trainer(
        outcome.ground,
        store,
        outcome.settings,
        which.method,
        which.backbone,
        fold=0,
        seed=0,
        steps=1,
        encoder=encoder,
    )


def _restore(method: Any, folder: Path, encoder: Encoder) -> None:
    """Put what a run kept back into a fresh method: its encoder and its parts."""
    from safetensors.torch import load_file

    method.encoder.load_state_dict(encoder.state_dict())
    for name, part in method.parts().items():
        part.load_state_dict(load_file(folder / "parts" / f"{name}.safetensors"))
    method.eval()
