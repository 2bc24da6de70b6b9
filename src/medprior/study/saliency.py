"""Heat maps of a few test images by models of a study, drawn while a model is at hand and kept beside its cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.files import replace_file
from medprior.study.verdict.errorsnearby import Wrong, presence, wrongly_answered
from medprior.tasks.saliency import answer_score, heat_map
from medprior.training.adapt import Classifier
from medprior.views.engine import render
from medprior.views.plan import independent

if TYPE_CHECKING:
    from medprior.study.arms import Cell
    from medprior.study.cells import Bench

Array = NDArray[Any]
SCHEMA = "medprior.saliency/1"
EACH = 4
"""Images of right answers, and of wrong ones."""


@dataclass(frozen=True)
class Answer:
    """What a model said of a test image: class or label `label`, of labels whether it is `there`; with its chance."""

    row: int
    label: int
    there: bool
    truth: str
    said: str
    chance: float

    @property
    def right(self) -> bool:
        return self.truth == self.said


@dataclass(frozen=True)
class Seen:
    """An answer with its heat map, (*cells) in [0, 1] over the whole view, and the method that drew it."""

    answer: Answer
    heat: NDArray[np.float32]
    method: str


def keep_heat_maps(
    bench: Bench, cell: Cell, model: Callable[[], Classifier], test: NDArray[np.int64], chances: Array
) -> None:
    """Write heat maps of the first cell of every arm at the largest budget, of encoders that have any.

    Args:
        model: gives the model that was tested on the rows `test`, with these chances (N, K).
    """
    ground = bench.ground
    first = (cell.seed, cell.fold, cell.budget) == (0, 0, max(ground.budgets))
    if not first or cell.adaptation == "scratch-2x":
        return
    shown = ground.catalog.table["burnt"].isna().to_numpy()[test]  # text may be burnt into the others
    rows, persons = test[shown], ground.persons[test[shown]]
    answers = draw(chances[shown], ground.targets[rows], rows, persons, ground.task.names, seed=ground.seed)
    if not answers:
        return
    made = model()
    kind = ground.classification.kind
    views = _views(bench, [one.row for one in answers])
    scores = [answer_score(made.head, kind, one.label, one.there) for one in answers]
    maps = [heat_map(made.encoder, score, view) for score, view in zip(scores, views, strict=True)]
    found = [Seen(a, m.heat.cpu().numpy(), m.name) for a, m in zip(answers, maps, strict=True) if m is not None]
    if found and found[0].heat.size >= 2**ground.spatial_dims:  # one cell points nowhere
        _keep(heat_path(bench.out, cell), found)


def heat_path(out: Path, cell: Cell) -> Path:
    """Where the heat maps of a cell lie below the folder of its study."""
    return out / "cells" / f"{cell.key}.saliency.npz"


def kept_heat_maps(file: Path) -> list[Seen]:
    """What a cell kept, right answers first; none where it kept nothing that can be read."""
    if not file.is_file():
        return []
    with np.load(file, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        if about["schema"] != SCHEMA:
            return []
        return [
            Seen(Answer(**one), found[f"map{number}"], about["method"]) for number, one in enumerate(about["answers"])
        ]


def draw(
    chances: Array, targets: Array, rows: Array, persons: Array, names: Sequence[str], *, seed: int
) -> list[Answer]:
    """4 right answers, the classes in turn, and 4 wrong ones, drawn at random, one of each patient.

    Args:
        chances: (N, K). targets: as in `metrics`. rows, persons: (N,) catalog rows and the patients of each.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    place = {int(row): int(at) for row, at in zip(rows, np.argsort(order), strict=True)}
    person = dict(zip(rows.tolist(), persons.tolist(), strict=True))
    wrong = [_answer(one, names) for one in wrongly_answered(chances, targets, rows, tuple(names))]
    right = _right(chances, targets, rows, names)
    taken: set[int] = set()
    chosen = []
    for group in (_in_turn(sorted(right, key=lambda one: place[one.row])), sorted(wrong, key=lambda o: place[o.row])):
        alone = [one for one in _first_of_each(group, person) if person[one.row] not in taken][:EACH]
        taken |= {person[one.row] for one in alone}
        chosen += alone
    return chosen


def _answer(one: Wrong, names: Sequence[str]) -> Answer:
    if one.label is None:
        return Answer(one.row, list(names).index(one.said), True, one.truth, one.said, one.chance)
    there = one.said == names[one.label]
    return Answer(one.row, one.label, there, one.truth, one.said, one.chance)


def _right(chances: Array, targets: Array, rows: Array, names: Sequence[str]) -> list[Answer]:
    """Images of which the class, or of several labels the surest that is there, was said rightly."""
    if targets.ndim == 1:
        label, hit = chances.argmax(1), chances.argmax(1) == targets
    else:
        hits = np.where((targets == 1) & (chances >= 0.5), chances, 0)
        label, hit = hits.argmax(1), hits.any(1)
    return [
        Answer(int(rows[i]), k, True, presence(names[k], True), presence(names[k], True), float(chances[i, k]))
        for i, k in zip(np.flatnonzero(hit).tolist(), label[hit].tolist(), strict=True)
    ]


def _in_turn(answers: Sequence[Answer]) -> list[Answer]:
    """The first of every class, then the second of every class, and so on."""
    counts: dict[int, int] = {}
    turns = []
    for one in answers:
        turns.append(counts.get(one.label, 0))
        counts[one.label] = turns[-1] + 1
    return [answers[i] for i in np.argsort(turns, kind="stable").tolist()]


def _first_of_each(answers: Iterable[Answer], person: dict[int, int]) -> list[Answer]:
    first: dict[int, Answer] = {}
    for one in answers:
        first.setdefault(person[one.row], one)
    return list(first.values())


def _views(bench: Bench, rows: Sequence[int]) -> Tensor:
    """(N, C, *S) what a model is tested on."""
    stored = bench.pixels.batch(torch.tensor(rows))
    (view,) = render(stored, independent(bench.ground.base.plain(), count=1), seed=0, step=0)
    return view.pixels


def _keep(file: Path, found: Sequence[Seen]) -> None:
    about = {"schema": SCHEMA, "method": found[0].method, "answers": [asdict(one.answer) for one in found]}
    with replace_file(file) as aside, aside.open("wb") as stream:
        maps: dict[str, Any] = {f"map{number}": one.heat.astype(np.float32) for number, one in enumerate(found)}
        np.savez_compressed(stream, about=np.array(json.dumps(about)), **maps)
