"""From what was found to what will be done, each choice with its reason and the time it will take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from medprior.study.arms import Grid

PRETRAIN_SHARE = 0.4
RESERVE_SHARE = 0.08
RESERVE_SECONDS = 20.0
SIDE_BY_SIDE = 1.2
"""How much longer a step takes in one of several processes: they share caches and memory."""
LEAST_STEPS = 30
MOST_EPOCHS = 100
DEFAULT_MINUTES = 30.0
CORRUPTING_SHARE = 0.1
"""Most of the time that corrupted test images may take where nobody asked for them."""


@dataclass(frozen=True)
class Rates:
    """What this machine does, measured: seconds per pre-training step by (method, backbone), and by backbone per
    fine-tuning step, per embedded image, per test scan where outlining and scoring it counts, and per test image under
    every corruption."""

    pretrain_step: Mapping[tuple[str, str], float]
    adapt_step: Mapping[str, float]
    embed_image: Mapping[str, float]
    test_scan: Mapping[str, float] = field(default_factory=dict)
    corrupted_image: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """Steps of every training, fixed before the first one, and the seconds they should take.

    `corrupting_seconds` is what corrupted test images add, in `seconds` already: 0 where none are shown, None where an
    older version made the plan, which showed none.
    """

    pretrain_steps: Mapping[tuple[str, str], int]
    adapt_steps: Mapping[int, int]
    seconds: float
    corrupting_seconds: float | None = None

    @property
    def corruptions(self) -> bool:
        """Whether models of the largest budget are shown corrupted test images."""
        return bool(self.corrupting_seconds)


def make_schedule(
    grid: Grid,
    images: Mapping[int, int],
    rates: Rates,
    *,
    seconds: float,
    batch_size: int,
    embedded: int,
    tested: int = 0,
    corruptions: bool | Literal["auto"] = False,
    pretrain_steps: int | None = None,
    adapt_steps: int | None = None,
    most_pretrain_steps: Mapping[tuple[str, str], int] | None = None,
    workers: int = 1,
) -> Schedule:
    """Share `seconds` between pre-training and adaptation.

    Two fifths go to pre-training, shared equally between its runs, and less where adaptation could not have its fewest
    steps otherwise. Adaptation steps grow with the square root of the
    images of a budget, at least 30 and at most 100 passes over them; scratch is trained once as long and once
    twice as long as any fine-tuning.

    Args:
        images: budget -> images it holds.
        embedded: images each pre-trained encoder has to embed for its probes.
        tested: test scans of all folds.
        corruptions: whether they are shown corrupted, too, to models of the largest budget; "auto" where that takes no
            more than `CORRUPTING_SHARE` of the time.
        pretrain_steps, adapt_steps: given by the user; then nothing is chosen.
        most_pretrain_steps: no more than the method's own preset asks for.
        workers: processes that train cells side by side.
    """
    runs = dict.fromkeys(grid.methods, grid.pretrain_seeds * grid.folds)
    embedding = sum(rates.embed_image[backbone] * embedded * runs[(m, backbone)] for m, backbone in grid.methods)
    testing = _testing(grid, rates.test_scan, tested, workers)
    corrupting = _testing(replace(grid, budgets=grid.budgets[-1:]), rates.corrupted_image, tested, workers)
    if not corruptions or (corruptions == "auto" and corrupting > CORRUPTING_SHARE * seconds):
        corrupting = 0.0
    testing += corrupting
    left = max(0.0, seconds * (1 - RESERVE_SHARE) - RESERVE_SECONDS - embedding - testing)
    costs = {b: _unit_cost(grid, rates, b, images, batch_size, workers) for b in grid.budgets}
    least = sum(costs.values()) * (adapt_steps or LEAST_STEPS)
    share = min(left * PRETRAIN_SHARE, max(0.0, left - least)) / max(1, len(grid.methods))
    chosen = {}
    for pair in grid.methods:
        afford = int(share / (runs[pair] * rates.pretrain_step[pair]))
        limit = (most_pretrain_steps or {}).get(pair, afford)
        chosen[pair] = pretrain_steps or max(LEAST_STEPS, min(afford, limit))
    spent = sum(chosen[pair] * runs[pair] * rates.pretrain_step[pair] for pair in grid.methods)
    adapt = _adapt_steps(costs, images, max(0.0, left - spent), batch_size, adapt_steps)
    adapting = sum(costs[b] * steps for b, steps in adapt.items())
    total = spent + adapting + embedding + testing + RESERVE_SECONDS + 0.04 * (spent + adapting)
    return Schedule(chosen, adapt, total, corrupting)


def _adapt_steps(
    costs: Mapping[int, float], images: Mapping[int, int], seconds: float, batch_size: int, given: int | None
) -> dict[int, int]:
    """Steps by budget; `costs` are the seconds of one more step at each."""
    if given:
        return dict.fromkeys(costs, given)
    most = {b: max(LEAST_STEPS, math.ceil(MOST_EPOCHS * images[b] / min(batch_size, images[b]))) for b in costs}

    def steps(scale: float) -> dict[int, int]:
        return {b: int(min(most[b], max(LEAST_STEPS, scale * math.sqrt(images[b])))) for b in costs}

    def cost(scale: float) -> float:
        return sum(costs[b] * s for b, s in steps(scale).items())

    return steps(_largest(lambda scale: cost(scale) <= seconds))


def _unit_cost(
    grid: Grid, rates: Rates, budget: int, images: Mapping[int, int], batch_size: int, workers: int
) -> float:
    """Seconds that one more step at `budget` costs the whole study; a budget below a batch makes a smaller batch."""
    tuned = "fine-tune" in grid.adaptations
    each = SIDE_BY_SIDE / workers if workers > 1 else 1.0
    total = 0.0
    for backbone in grid.backbones:
        methods = sum(1 for _, b in grid.methods if b == backbone) if tuned else 0
        total += (3 + methods) * grid.seeds * grid.folds * rates.adapt_step[backbone] * each
        if budget == max(grid.budgets):  # what is taken home is chosen there and refitted, one after another
            total += (methods + 2) * rates.adapt_step[backbone]
    return total * min(1.0, images[budget] / batch_size)


def _testing(grid: Grid, rates: Mapping[str, float], scans: int, workers: int) -> float:
    """Seconds that all cells take for their test scans, at so many seconds each by backbone."""
    each = SIDE_BY_SIDE / workers if workers > 1 else 1.0
    arms = {b: 2 + len(grid.adaptations) * sum(1 for _, other in grid.methods if other == b) for b in grid.backbones}
    cells = {b: arms[b] * len(grid.budgets) * grid.seeds for b in grid.backbones}
    return sum(rates.get(b, 0.0) * scans * cells[b] * each for b in grid.backbones)


def _largest(fits: Callable[[float], bool], most: float = 1e4) -> float:
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def default_budgets(patients: int, classes: int, kind: str) -> tuple[int, ...]:
    """Three budgets, evenly spaced in ratio: about 20 patients (four a class at least), the middle, and all.

    Of outlines, which cost much more than a label and teach much more, 4 patients are the fewest.
    """
    least = {"multilabel": 20, "segmentation": 4}.get(kind, max(20, 6 * classes))
    if patients <= 2 * least:
        return (patients,)
    middle = round(math.sqrt(least * patients))
    return (least, middle, patients)
