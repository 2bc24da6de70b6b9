"""A schedule keeps to its minutes, and counts what runs side by side and what runs one after another."""

from dataclasses import replace

import pytest

from medprior.study.arms import Grid
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
