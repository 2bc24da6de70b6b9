"""Every arm's score under each metric, with its interval: what a verdict says of one metric, for all that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medprior.study.findings import Findings, examine
from medprior.study.results import Arm, StudyResults

if TYPE_CHECKING:
    import pandas

COLUMNS = ("arm", "encoder", "adaptation", "budget", "metric", "mean", "low", "high", "seeds")


def score_table(
    results: StudyResults, verdict: Mapping[str, Any], *, draws: int = 1000, seed: int = 0
) -> pandas.DataFrame:
    """Rows of scores.csv: mean and 95% interval by arm, budget and metric; a bound that cannot be given is empty.

    Args:
        verdict: of the same results, for its own metric is not computed again.
        draws: bootstrap replicates.
    """
    import pandas

    rows = [row | {"metric": verdict["metric"]} for row in verdict["arms"]]
    for metric in results.yardstick.beside:
        if metric != verdict["metric"]:
            findings = examine(results, metric, draws=draws, seed=seed)
            rows += [_scored(findings, row) for row in verdict["arms"]]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _scored(findings: Findings, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of an arm and a budget under another metric."""
    score = findings.at(Arm(row["arm"], row["encoder"], row["adaptation"]), row["budget"])
    return {**row, "metric": findings.metric, "mean": score.value, "low": score.low, "high": score.high}
