"""A schedule keeps to its minutes, and counts what runs side by side and what runs one after another."""

import math
import re
from dataclasses import replace

import pytest

from medprior.study.arms import Grid
from medprior.study.planning.fitting import too_long
from medprior.study.planning.plan import SIDE_BY_SIDE, Rates, make_schedule

PAIR = ("mae", "vit")
GRID = Grid((PAIR,), ("probe", "fine-tune"), (40, 160, 640), 3, 1, 1)
RATES = Rates({PAIR: 0.15}, {"vit": 0.25}, {"vit": 0.001})
IMAGES = {40: 40, 160: 160, 640: 640}


def schedule(seconds=1500.0, workers=1, grid=GRID, **given):
    return make_schedule(grid, IMAGES, RATES, seconds=seconds, batch_size=32, embedded=2000, workers=workers, **given)


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("minutes", [10, 25, 60])
def test_a_schedule_takes_no_more_than_its_minutes(minutes, workers):
    planned = schedule(60.0 * minutes, workers)
    assert 0.8 * 60 * minutes < planned.seconds <= 60 * minutes


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_cells_share_the_workers_and_the_model_to_take_home_does_not(workers):
    base, longer = (schedule(workers=workers, pretrain_steps=100, adapt_steps=steps) for steps in (100, 101))
    cells = (3 + 1) * 3 * 3 * 0.25 * (SIDE_BY_SIDE / workers if workers > 1 else 1)
    taken_home = (1 + 2) * 0.25
    assert longer.seconds - base.seconds == pytest.approx(1.04 * (cells + taken_home))


def test_more_seeds_and_more_workers():
    assert schedule(workers=2).adapt_steps[640] > schedule().adapt_steps[640]
    assert schedule(grid=replace(GRID, seeds=6)).adapt_steps[640] < schedule().adapt_steps[640]


FOLDED = replace(GRID, folds=10)
LEAST = make_schedule(FOLDED, IMAGES, RATES, seconds=1, batch_size=32, embedded=2000).seconds


def said(seconds, grid=FOLDED, repeats=2, **given):
    def plan(some):
        return schedule(seconds, grid=some, **given)

    minutes, steps = seconds / 60, bool(given)
    lines = too_long(plan(grid), grid, seconds, plan, minutes=minutes, repeats=repeats, given_steps=steps)
    assert all(line.startswith(start) for line, start in zip(lines, ("Beware   ", " " * 9), strict=False))
    return tuple(line[9:] for line in lines)


def test_minutes_that_are_kept_need_no_word():
    assert said(1.01 * LEAST) == () == said(LEAST / 1.04)


def test_minutes_that_cannot_be_kept_are_said_with_what_would_fit():
    first, second = said(0.55 * LEAST)
    assert first.startswith(f"{0.55 * LEAST / 60:g} minutes cannot be kept: 10 pre-trainings and 360 trainings of at")
    assert first.endswith(f"of at least 30 steps each take about {math.ceil(LEAST / 60)}.")
    assert second.startswith("What would fit: --set study.repeats=1 or --budgets 40 or --seeds 1; or --minutes")


def options(seconds):
    """The grid that the one set of options for so many seconds gives."""
    grid = FOLDED
    (line,) = said(seconds)[1:]
    assert line.endswith(f", all together; or --minutes {math.ceil(LEAST / 60)}.")
    changes = {"study.folds": "folds", "seeds": "seeds", "budgets": "budgets"}
    for name, value in re.findall(r"--(?:set )?([a-z.]+)[= ](\d+)", line.partition("; or")[0]):
        if name in changes:
            grid = replace(grid, **{changes[name]: (int(value),) if name == "budgets" else int(value)})
    return grid


@pytest.mark.parametrize("share", [0.1, 0.04])
def test_what_fits_only_together_does_fit(share):
    grid = options(share * LEAST)
    assert grid.folds == 2 and grid.budgets == (40,)
    assert schedule(share * LEAST, grid=grid).seconds <= 1.05 * share * LEAST


def test_nothing_fits_into_no_time():
    assert said(5)[1].startswith("Nothing smaller would fit, either")
    assert "--set study" not in " ".join(said(0.5 * LEAST, replace(GRID, folds=1, seeds=30), repeats=1))


def test_steps_that_were_asked_for_may_be_too_many():
    first, _ = said(LEAST, pretrain_steps=100, adapt_steps=100)
    assert "trainings of the steps that were asked for take about" in first


@pytest.mark.parametrize(("each", "shown"), [(0.01, True), (1.0, False)])
def test_corrupted_images_are_counted_and_left_out_where_they_take_too_long(each, shown):
    def planned(corruptions):
        rates = replace(RATES, corrupted_image={"vit": each})
        given = {"batch_size": 32, "embedded": 0, "tested": 100, "pretrain_steps": 100, "adapt_steps": 100}
        return make_schedule(GRID, IMAGES, rates, seconds=1500, corruptions=corruptions, **given)

    off, quick, always = (planned(asked) for asked in (False, "auto", True))
    assert (off.corruptions, quick.corruptions, always.corruptions) == (False, shown, True)
    cells = (2 + 2) * 3
    assert always.seconds - off.seconds == pytest.approx(always.corrupting_seconds) == pytest.approx(100 * cells * each)
