"""What a study would have to leave out to keep to its minutes, where even the fewest steps take longer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from medprior.study.arms import Grid
from medprior.study.planning.plan import LEAST_STEPS, Schedule

SLACK = 1.05
"""A plan that takes no longer than this many times its minutes counts as kept."""


@dataclass(frozen=True)
class Less:
    """A study made smaller in one way: the option that does it, and the grid that is left."""

    option: str
    grid: Grid


def too_long(
    schedule: Schedule,
    grid: Grid,
    seconds: float,
    plan: Callable[[Grid], Schedule],
    *,
    minutes: float,
    repeats: int = 1,
    given_steps: bool = False,
) -> tuple[str, ...]:
    """Lines for the plan that takes longer than `seconds`, and on what would fit; none where the minutes are kept.

    Args:
        plan: the schedule of another grid in the same time.
        minutes: what the user asked for; `seconds` are what is left of them.
        repeats: of the cross-validation whose folds the grid counts.
        given_steps: whether the user said how many steps there are.
    """
    if schedule.seconds <= SLACK * seconds:
        return ()
    steps = "the steps that were asked for" if given_steps else f"at least {LEAST_STEPS} steps each"
    runs = sum(1 for _ in grid.pretrainings())
    parts = f"{runs:,} pre-training{'s' * (runs != 1)} and {sum(1 for _ in grid.cells()):,} trainings of {steps}"
    whole = math.ceil((schedule.seconds + minutes * 60 - seconds) / 60)
    start = f"Beware   {minutes:g} minutes cannot be kept: {parts} take about {whole}."

    def fits(one: Grid) -> bool:
        return plan(one).seconds <= SLACK * seconds

    alone = [found for way in _ways(grid, repeats).values() if (found := next(filter(_by(fits), way(grid)), None))]
    if alone:
        options = " or ".join(one.option for one in alone)
        return start, f"         What would fit: {options}; or --minutes {whole}."
    together = _together(grid, repeats, fits)
    if together:
        return start, f"         What would fit: {' '.join(together)}, all together; or --minutes {whole}."
    return start, f"         Nothing smaller would fit, either: give --minutes {whole}."


def _by(fits: Callable[[Grid], bool]) -> Callable[[Less], bool]:
    return lambda one: fits(one.grid)


Way = Callable[[Grid], Iterator[Less]]


def _ways(whole: Grid, repeats: int) -> Mapping[str, Way]:
    """How a grid can be made smaller, from what costs the verdict least: each gives smaller and smaller ones."""
    each = whole.folds // repeats

    def folds(grid: Grid) -> Iterator[Less]:
        for times in range(repeats - 1, 0, -1):
            yield Less(f"--set study.repeats={times}", replace(grid, folds=each * times))
        once = "--set study.repeats=1 " if repeats > 1 else ""
        for count in range(each - 1, 1, -1):
            yield Less(f"{once}--set study.folds={count}", replace(grid, folds=count))

    def seeds(grid: Grid) -> Iterator[Less]:
        for count in range(grid.seeds - 1, 0, -1):
            yield Less(f"--seeds {count}", replace(grid, seeds=count))

    def runs(grid: Grid) -> Iterator[Less]:
        for count in range(grid.pretrain_seeds - 1, 0, -1):
            yield Less(f"--set pretrain.seeds={count}", replace(grid, pretrain_seeds=count))

    def budgets(grid: Grid) -> Iterator[Less]:
        ends = (grid.budgets[0], grid.budgets[-1])
        for some in (ends, ends[:1]):
            if len(some) < len(grid.budgets):
                yield Less(f"--budgets {','.join(map(str, some))}", replace(grid, budgets=some))

    def methods(grid: Grid) -> Iterator[Less]:
        names = [method for method, _ in grid.methods]
        for count in range(len(names) - 1, 0, -1) if len(set(names)) == len(names) else ():
            yield Less(f"--methods {','.join(names[:count])}", replace(grid, methods=grid.methods[:count]))

    return {"folds": folds, "runs": runs, "budgets": budgets, "seeds": seeds, "methods": methods}


def _together(grid: Grid, repeats: int, fits: Callable[[Grid], bool]) -> list[str]:
    """Options that fit only all together: one after the other as small as it gets, until the next one fits."""
    ways, left = _ways(grid, repeats), grid
    used: dict[str, str] = {}
    for name, way in ways.items():
        for one in way(left):
            if fits(one.grid):
                return [*used.values(), one.option]
        smaller = list(way(left))
        if smaller:
            used[name], left = smaller[-1].option, smaller[-1].grid
    return []
