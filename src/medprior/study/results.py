"""What a study measured: one file pair per trained model, and the tables drawn from all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medprior.errors import RunError
from medprior.evaluation.calibration import Calibration
from medprior.evaluation.luck import Sample
from medprior.evaluation.measures import Estimate
from medprior.evaluation.strata import over_folds, thin_folds
from medprior.evaluation.yardstick import Yardstick, yardstick_of
from medprior.files import replace_file, said_plainly, write_json

if TYPE_CHECKING:
    import pandas

Array = NDArray[Any]
SCHEMA = "medprior.cell/2"
COLUMNS = ("arm", "budget", "seed", "adaptation", "metric", "value", "n_train", "n_test")
FEWEST_IN_FOLD = 2
"""Fewest patients of the smallest class in the average fold for an interval: one alone has none to be compared with."""
_ARRAYS = ("rows", "scores", "targets", "patients")
_CORRUPTED = "corrupted"


@dataclass(frozen=True, order=True)
class Arm:
    """One line of the learning-curve figure: a way of pre-training, an encoder and a way of adapting it."""

    name: str
    encoder: str
    adaptation: str

    @property
    def scratch(self) -> bool:
        """Whether it starts from random weights, at normal length or twice as long."""
        return self.adaptation in ("scratch", "scratch-2x")


@dataclass(frozen=True)
class CellResult:
    """One trained model on its test patients.

    `adaptation` is "scratch", "scratch-2x", "probe" or "fine-tune"; `method` is None without pre-training of our own.
    `budget` counts labelled patients, `budget_images` their images. `fold` tells the test sets of a cross-validated
    study apart, over all repeats. `rows` (N,) are catalog rows, `scores` and `targets` what the yardstick of the task
    takes (`evaluation.yardstick`), `patients` (N,) a number or name for each image's patient, the same in every cell;
    numbers keep names out of the files. `temperature` and `thresholds` are those of its `held`: None where no label of
    the budget was held out, and in cells of older versions. `corrupted` (J, N, K) are scores of the same images under
    each of the J `corruptions` (name, severity), of the largest budget alone; None elsewhere and in older versions.
    """

    arm: str
    encoder: str
    method: str | None
    adaptation: str
    budget: int
    budget_images: int
    seed: int
    pretrain_seed: int | None
    fold: int
    rows: Array
    scores: Array
    targets: Array
    patients: Array
    n_train: int
    n_test: int
    seconds: float = 0.0
    steps: int = 0
    temperature: float | None = None
    thresholds: Sequence[Sequence[float | None]] | None = None
    corruptions: Sequence[tuple[str, int]] = ()
    corrupted: Array | None = None

    @property
    def held(self) -> Calibration:
        """What labels inside the budget that were not learnt from say of its chances."""
        return Calibration(self.temperature, self.thresholds)

    @property
    def key(self) -> Arm:
        return Arm(self.arm, self.encoder, self.adaptation)

    def save(self, path: Path) -> None:
        """Write `<path>.npz`, then `<path>.json`, each whole or not at all; the JSON marks the cell as finished."""
        arrays, facts = _files(path)
        with said_plainly(facts):
            facts.parent.mkdir(parents=True, exist_ok=True)
        patients = self.patients.astype(str) if self.patients.dtype == object else self.patients
        with replace_file(arrays) as aside, aside.open("wb") as file:
            more: dict[str, Any] = {} if self.corrupted is None else {_CORRUPTED: self.corrupted}
            np.savez(file, rows=self.rows, scores=self.scores, targets=self.targets, patients=patients, **more)
        arrayed = (*_ARRAYS, _CORRUPTED)
        write_json(facts, {"schema": SCHEMA} | {k: v for k, v in vars(self).items() if k not in arrayed})

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a finished cell was saved at `path`."""
        return all(file.is_file() for file in _files(path))

    @classmethod
    def load(cls, path: Path) -> CellResult:
        """Read the cell saved at `path`. Raises RunError when it is damaged or of another version."""
        try:
            facts = json.loads(_files(path)[1].read_text(encoding="utf-8"))
            schema = facts.pop("schema", None)
            facts["corruptions"] = tuple((name, severity) for name, severity in facts.get("corruptions", ()))
            with np.load(_files(path)[0], allow_pickle=False) as arrays:
                held = (*_ARRAYS, _CORRUPTED) if facts["corruptions"] else _ARRAYS
                cell = cls(**facts, **{name: arrays[name] for name in held})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
            reason = f"this result cannot be read ({type(error).__name__})"
            raise RunError(reason, where=str(path), do="Delete it; the same command trains it again") from error
        if schema != SCHEMA:
            raise RunError(f"this result is of another version ({schema})", where=str(path), do="Choose another --out")
        return cell


@dataclass(frozen=True)
class Points:
    """The study under one metric: a sample for each arm and budget, and the patients in the smallest class."""

    samples: dict[tuple[Arm, int], Sample]
    smallest: int


@dataclass(frozen=True)
class StudyResults:
    """All cells of a study of one task, with its kind and the names of its classes or labels."""

    cells: Sequence[CellResult]
    kind: str
    names: tuple[str, ...]

    @property
    def yardstick(self) -> Yardstick:
        """How they are scored."""
        return yardstick_of(self.kind, len(self.names))

    @cached_property
    def runs(self) -> dict[tuple[Arm, int, int, int], list[CellResult]]:
        """Cells by arm, budget, seed and pre-training run, one per fold; a run that lacks a fold is left out."""
        found: dict[tuple[Arm, int, int, int], list[CellResult]] = {}
        for cell in sorted(self.cells, key=lambda cell: (cell.key, cell.budget, cell.seed, _run(cell), cell.fold)):
            found.setdefault((cell.key, cell.budget, cell.seed, _run(cell)), []).append(cell)
        folds = len({cell.fold for cell in self.cells})
        return {key: cells for key, cells in found.items() if len(cells) == folds}

    @property
    def missing(self) -> int:
        """Trained models that count nowhere yet, because other folds of the same run are not finished."""
        return len(self.cells) - sum(map(len, self.runs.values()))

    @cached_property
    def test(self) -> tuple[Array, Array]:
        """Patients and targets of every test image, each image once."""
        cells = list({cell.fold: cell for cell in self.cells}.values())
        _, first = np.unique(np.concatenate([cell.rows for cell in cells]), return_index=True)
        patients, targets = (
            np.concatenate([getattr(cell, name) for cell in cells]) for name in ("patients", "targets")
        )
        return patients[first], targets[first]

    @cached_property
    def smallest(self) -> Array:
        """(K,) test patients from whom each class or label can be measured: of a label those on its rarer side."""
        return self.yardstick.smallest(*self.test)

    @cached_property
    def keep(self) -> Array:
        """Classes or labels that count in the mean, (K,): of labels those with enough test patients."""
        return self.yardstick.keep(self.smallest)

    def can(self, metric: str, cells: Sequence[CellResult]) -> bool:
        """Whether all these cells have what a metric needs: some need a temperature or thresholds."""
        return self.yardstick.can(metric, self.test[0], [cell.held for cell in cells])

    def points(self, metric: str) -> Points:
        """Scores of every arm and budget, and how far every test patient moves them.

        An arm and a budget of which some run lacks what the metric needs (see `can`) are left out.
        """
        strata = self.yardstick.strata(*self.test)
        samples: dict[tuple[Arm, int], list[tuple[int, int, float, Array]]] = {}
        lacking = {key[:2] for key, cells in self.runs.items() if not self.can(metric, cells)}
        for (arm, budget, chance, run), cells in self.runs.items():
            if (arm, budget) in lacking:
                continue
            found = over_folds(strata, [(cell.patients, self.estimate(metric, cell)) for cell in cells])
            samples.setdefault((arm, budget), []).append((chance, run, *found))
        counted = self.smallest[self.keep]
        return Points(
            {key: _sample(entries, self._thin) for key, entries in samples.items()},
            int(counted.min()) if len(counted) else 0,
        )

    @cached_property
    def _thin(self) -> str:
        """Why folds hold too few patients for an interval, or ""."""
        folds = {cell.fold: cell for cell in self.cells}.values()
        least = [self.yardstick.smallest(cell.patients, cell.targets)[self.keep] for cell in folds]
        return thin_folds([int(found.min()) if len(found) else 0 for found in least], FEWEST_IN_FOLD)

    def score(self, metric: str, cell: CellResult) -> float:
        """One cell's score over the labels that count."""
        return self.estimate(metric, cell).value

    def estimate(self, metric: str, cell: CellResult) -> Estimate:
        """The same with the pull of every test image."""
        return self.yardstick.estimate(metric, cell.scores, cell.targets, cell.patients, self.keep, cell.held)

    def table(self, metrics: Sequence[str] = ()) -> pandas.DataFrame:
        """Rows of results.csv: per arm, budget and seed the mean over folds, of every metric unless some are named.

        A metric that needs a temperature, thresholds or patients with several images has rows where those are.
        `n_train` is the mean number of training images, `n_test` the number of distinct test images. An arm is named
        with its encoder when the study has several.
        """
        import pandas

        several = len({cell.encoder for cell in self.cells}) > 1
        rows = []
        for (arm, budget, seed, _), cells in self.runs.items():
            name = f"{arm.name} ({arm.encoder})" if several else arm.name
            trained = round(float(np.mean([cell.n_train for cell in cells])))
            tested = len(np.unique(np.concatenate([cell.rows for cell in cells])))
            for metric in metrics or self.yardstick.all:
                if not self.can(metric, cells):
                    continue
                value = _mean([self.score(metric, cell) for cell in cells])
                rows.append((name, budget, seed, arm.adaptation, metric, value, trained, tested))
        return pandas.DataFrame(rows, columns=list(COLUMNS))


def _files(path: Path) -> tuple[Path, Path]:
    """The arrays and the facts of a cell; its name may hold dots."""
    return Path(f"{path}.npz"), Path(f"{path}.json")


def _run(cell: CellResult) -> int:
    return -1 if cell.pretrain_seed is None else cell.pretrain_seed


def _sample(entries: list[tuple[int, int, float, Array]], reason: str) -> Sample:
    seeds, runs, values, moves = zip(*entries, strict=True)
    return Sample(np.array(values), np.stack(moves), np.array(seeds), np.array(runs), reason)


def _mean(values: list[float]) -> float:
    """Mean over the folds that can be scored: a small one may lack a class."""
    measured = [value for value in values if np.isfinite(value)]
    return float(np.mean(measured)) if measured else float("nan")
