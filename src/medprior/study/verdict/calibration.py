"""How often what a study's models said came true: reliability bins of every arm, before and after its temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from medprior.evaluation.calibration import Bin, outcomes, reliability, scaled
from medprior.evaluation.metrics import Kind
from medprior.study.results import Arm, CellResult, StudyResults

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("arm", "encoder", "adaptation", "budget", "temperature", "bin", "predicted", "true", "low", "high"),
    *("patients", "seeds"),
)


def calibration_table(results: StudyResults) -> pandas.DataFrame:
    """Rows of calibration.csv, none of a study of outlines: what was said in a bin and the share that came true.

    The models of an arm and a budget are taken together, each test image as often as it was tested. `temperature` is
    empty for chances as they are; rows after temperature scaling, by each model's own, have the median of them.
    `bin` counts from 1. The interval is over test patients, and empty where they are too few.
    """
    import pandas

    models: dict[tuple[Arm, int], list[CellResult]] = {}
    if results.kind != "segmentation":
        for (arm, budget, _, _), cells in results.runs.items():
            models.setdefault((arm, budget), []).extend(cells)
    rows = [
        (*vars(arm).values(), budget, temperature, number, one.predicted, *_share(one), len({c.seed for c in cells}))
        for (arm, budget), cells in models.items()
        for temperature, bins in _before_and_after(results, cells)
        for number, one in enumerate(bins, start=1)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _before_and_after(results: StudyResults, cells: Sequence[CellResult]) -> Iterator[tuple[float | None, list[Bin]]]:
    yield None, _bins(results, cells, after=False)
    temperatures = [cell.temperature for cell in cells if cell.temperature is not None]
    if len(temperatures) == len(cells):
        yield float(np.median(temperatures)), _bins(results, cells, after=True)


def _bins(results: StudyResults, cells: Sequence[CellResult], *, after: bool) -> list[Bin]:
    kind = cast(Kind, results.kind)
    found = []
    for cell in cells:
        chances = scaled(cell.scores, kind, cell.temperature) if after and cell.temperature else cell.scores
        said, came_true, image = outcomes(chances, cell.targets, kind, results.keep)
        found.append((said, came_true, cell.patients[image]))
    said, came_true, patients = (np.concatenate(part) for part in zip(*found, strict=True))
    return reliability(said, came_true, patients, results.yardstick.strata(*results.test))


def _share(one: Bin) -> tuple[float, float | None, float | None, int]:
    return one.share.value, one.share.low, one.share.high, one.patients
