"""Every arm's score under each metric, with its interval: what a verdict says of one metric, for all that matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medprior.evaluation.luck import Sample
from medprior.evaluation.yardstick import BIASED
from medprior.study.results import Arm, StudyResults
from medprior.study.verdict.findings import Findings

if TYPE_CHECKING:
    import pandas

COLUMNS = ("arm", "encoder", "adaptation", "budget", "metric", "mean", "low", "high", "seeds")


def score_table(results: StudyResults, verdict: Mapping[str, Any]) -> pandas.DataFrame:
    """Rows of scores.csv: mean and 95% interval by arm, budget and metric; a bound that cannot be given is empty.

    What needs a temperature or thresholds has rows where every model of an arm and a budget has them. Calibration
    errors have no bounds, see `yardstick.BIASED`.

    Args:
        verdict: of the same results, for its own metric is not computed again.
    """
    import pandas

    rows = [row | {"metric": verdict["metric"]} for row in verdict["arms"]]
    for metric in results.yardstick.beside:
        if metric != verdict["metric"]:
            rows += _scored(results, metric, verdict)
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _scored(results: StudyResults, metric: str, verdict: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of the verdict's arms and budgets under another metric.

    One whose largest value is not 1 is seen as a share of that, since intervals are made for shares.
    """
    points, largest = results.points(metric), results.yardstick.largest(metric)
    shares = {key: _share(one, largest) for key, one in points.samples.items() if np.isfinite(one.mean)}
    findings = Findings(results, replace(points, samples=shares), metric)
    for row in verdict["arms"]:
        arm = Arm(row["arm"], row["encoder"], row["adaptation"])
        if findings.has(arm, row["budget"]):
            score = findings.at(arm, row["budget"])
            bounds = (None, None) if metric in BIASED else (score.low, score.high)
            low, high = (None if bound is None else bound * largest for bound in bounds)
            yield {**row, "metric": metric, "mean": score.value * largest, "low": low, "high": high}


def _share(sample: Sample, largest: float) -> Sample:
    return replace(sample, values=sample.values / largest, moves=sample.moves / largest)
