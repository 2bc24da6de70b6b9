"""A whole study: pre-train every arm, adapt at every budget and seed, and keep each finished piece on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medprior.config import Settings
from medprior.data.annotations.groups import check_groups, groups_lines
from medprior.data.catalog import PATIENTS_UNKNOWN
from medprior.data.catalogfile import save_catalog
from medprior.errors import RunError
from medprior.files import alone_in, make_folder, said_plainly, write_json, write_text
from medprior.progress import Progress, silent
from medprior.study.arms import BORROWED, Cell, Grid
from medprior.study.cells import Bench
from medprior.study.classes import class_table
from medprior.study.ground import Ground, prepare
from medprior.study.outlining import truth_sizes, unkept_decoders
from medprior.study.planning.choice import Chosen, check_methods, chosen_methods, primary_arm, without_missing
from medprior.study.planning.fitting import too_long
from medprior.study.planning.found import write_problems, write_rows
from medprior.study.planning.measure import measure_rates
from medprior.study.planning.plan import DEFAULT_MINUTES, Schedule, make_schedule
from medprior.study.planning.reading import asks_for_outlines, for_task, read_catalog
from medprior.study.planning.unread import check_adaptations
from medprior.study.planning.words import ground_lines, pixels_line, plan_lines
from medprior.study.pretraining import run_pretraining, training_preset
from medprior.study.record import Record
from medprior.study.results import CellResult, StudyResults
from medprior.study.takehome.best import is_whole, take_home
from medprior.study.takehome.bestoutlines import take_home_outliner
from medprior.study.told import Told
from medprior.study.verdict.bygroup import ByGroup, examine_by_group, groupings_of
from medprior.study.verdict.calibration import calibration_table
from medprior.study.verdict.robustness import Robustness, examine_robustness, robustness_said, robustness_table
from medprior.study.verdict.scores import score_table
from medprior.study.verdict.verdict import make_verdict
from medprior.study.workers import check_workers, work_off, worker_count
from medprior.training.device import computing, pick_device
from medprior.training.interrupt import Stop, check, never
from medprior.training.run import environment

if TYPE_CHECKING:
    import pandas

FEW_PASSES = 10


@dataclass(frozen=True)
class Outcome:
    """A finished study: what it stood on, what was planned, and what came out."""

    ground: Ground
    grid: Grid
    schedule: Schedule
    settings: Settings
    results: StudyResults
    verdict: dict[str, Any]
    best: dict[str, object]
    out: Path
    told: Told


def run_study(
    scans: Path,
    labels: Path | None,
    settings: Settings,
    out: Path,
    *,
    command: str = "",
    progress: Progress = silent,
    stop: Stop = never,
) -> Outcome:
    """Folder in, verdict out. The same call on the same folder resumes.

    Writes `results.csv`, `scores.csv`, `classes.csv` (of outlines) or `calibration.csv` and `robustness.csv`,
    `groups.csv`, `shortcuts.csv`, `verdict.json`, `catalog.parquet`, `report.json`, `best/` and everything in between
    below `out`. `command` is what stands in its report, without names of files.

    Raises:
        MedpriorError: bad input, another study in `out`, no space; or Interrupted. Finished cells stay.
    """
    began = time.perf_counter()
    device = pick_device(settings.study.device)
    check_methods(settings)
    check_workers(settings)
    check_adaptations(settings, asks_for_outlines(settings))
    check_groups(settings.data.groups, labels)
    make_folder(out)
    with alone_in(out), computing(settings.study.threads):
        return _run(scans, labels, settings, out, device, command, began, progress, stop)


def _run(
    scans: Path,
    labels: Path | None,
    settings: Settings,
    out: Path,
    device: torch.device,
    command: str,
    began: float,
    progress: Progress,
    stop: Stop,
) -> Outcome:
    record = Record.open(out, settings)
    read = read_catalog(scans, labels, settings, out, progress)
    catalog = for_task(read, settings, out, progress)
    record.same_data(catalog.fingerprint())
    groupings, ungrouped = groupings_of(catalog, labels, settings.data)
    write_problems(catalog, out)
    write_rows(catalog, out)
    save_catalog(catalog, out / "catalog.parquet")
    ground = prepare(catalog, settings, out, device.type == "cuda", progress)
    store = ground.store.resident(device, settings.data.placement)
    chosen = without_missing(make_grid(ground, settings, device.type == "cuda"), ground, out, progress)
    grid = chosen.grid
    primary_arm(settings, grid)
    found = tuple(ground_lines(ground, settings, device.type == "cuda"))
    for line in found:
        progress.say(line)
    schedule = _schedule(record, ground, grid, settings, store, began, progress)
    planned = (pixels_line(store), *plan_lines(ground, grid, schedule, settings, chosen.skipped))
    planned = (*planned, *record.too_long(), *groups_lines(groupings, ungrouped))
    for line in planned:
        progress.say(line)
    failed = tuple(np.flatnonzero(ground.store.failed).tolist())
    told = Told(command, grid, device.type == "cuda", ground.crops, found, planned, failed=failed)
    told.keep(out)
    for which in grid.pretrainings():
        check(stop)
        steps = schedule.pretrain_steps[(which.method, which.backbone)]
        run_pretraining(ground, store, settings, which, steps, out, progress=progress, stop=stop)
    bench = Bench(ground, store, settings, dict(schedule.adapt_steps), out, schedule.corruptions)
    results = _adapt(bench, grid, progress, stop)
    verdict = make_verdict(results, facts=_facts(bench, record.most_seeds(grid.seeds), chosen, results, stop))
    by_group = examine_by_group(results, ground, grid.methods, groupings, out)
    robust = examine_robustness(results)
    verdict = robustness_said(by_group.said_in(verdict, results), robust)
    _write(out, results, verdict, by_group, robust)
    kept = record.best() if is_whole(out / "best") else None
    take = take_home_outliner if ground.outlined else take_home
    best = kept or take(bench, grid, out / "best", progress=progress, stop=stop)
    record.keep_best(best)
    parting = tuple(column.grouping for column in by_group.groups.columns)
    told = replace(told, groupings=parting, environment=environment(), seconds=time.perf_counter() - began)
    told.keep(out)
    return Outcome(ground, grid, schedule, settings, results, verdict, best, out, told)


def make_grid(ground: Ground, settings: Settings, on_gpu: bool = False) -> Grid:
    """The arms that were asked for, or those that suit this machine.

    Raises:
        SettingsError: an unknown method, or an encoder a method cannot use.
    """
    return Grid(
        methods=chosen_methods(settings, ground.spatial_dims, on_gpu, ground.outlined),
        adaptations=("fine-tune",) if ground.outlined else settings.adapt.adaptations,
        budgets=ground.budgets,
        seeds=settings.study.seeds,
        pretrain_seeds=settings.pretrain.seeds,
        folds=len(ground.splits),
    )


def _schedule(
    record: Record, ground: Ground, grid: Grid, settings: Settings, store: Any, began: float, progress: Progress
) -> Schedule:
    kept = record.schedule(grid)
    if kept is not None:
        return kept
    rates = measure_rates(ground, store, grid, settings, progress)
    images = {b: len(ground.budget(b, 0, 0)) for b in grid.budgets}
    split = ground.splits[0]
    minutes = settings.study.minutes or DEFAULT_MINUTES
    most = {}
    for method, backbone in grid.methods:
        if method in BORROWED:
            most[(method, backbone)] = 1
            continue
        preset = training_preset(settings, method)
        most[(method, backbone)] = max(
            1, preset.epochs * len(split.pretrain) // min(preset.batch_size, len(split.pretrain))
        )
    seconds = minutes * 60 - (time.perf_counter() - began)

    def plan(some: Grid) -> Schedule:
        return make_schedule(
            some,
            images,
            rates,
            seconds=seconds,
            batch_size=1 if ground.outlined else settings.adapt.batch_size,  # a step has as many crops at any budget
            embedded=int(ground.catalog.table["labelled"].sum()),
            tested=sum(len(split.test) for split in ground.splits) * some.folds // grid.folds,
            corruptions=False if ground.outlined else settings.study.corruptions,
            pretrain_steps=settings.pretrain.steps,
            adapt_steps=settings.adapt.steps,
            most_pretrain_steps=most,
            workers=worker_count(settings, store.device, record.path.parent),
        )

    schedule = plan(grid)
    given = bool(settings.pretrain.steps and settings.adapt.steps)
    repeats = 1 + max(split.repeat for split in ground.splits)
    record.keep_too_long(too_long(schedule, grid, seconds, plan, minutes=minutes, repeats=repeats, given_steps=given))
    record.keep_schedule(schedule)
    return schedule


def _adapt(bench: Bench, grid: Grid, progress: Progress, stop: Stop) -> StudyResults:
    cells = list(grid.cells())
    make_folder(bench.out / "cells")
    finished = {cell: found for cell in cells if (found := _finished(bench, cell)) is not None}
    left = [cell for cell in cells if cell not in finished]
    before = sum(map(bench.cost, finished))
    with progress.task("Adapting", sum(map(bench.cost, cells)), "steps", done=before) as bar:
        bar.note(f"{len(left)} of {len(cells)} cells to train")
        if left:
            work_off(bench, left, bar, stop)
    results = [finished.get(cell) or CellResult.load(bench.cell_path(cell)) for cell in cells]
    return StudyResults(results, bench.ground.task.kind, bench.ground.task.names)


def _finished(bench: Bench, cell: Cell) -> CellResult | None:
    """The result of a cell that was done before; a damaged one is done again."""
    path = bench.cell_path(cell)
    if not CellResult.exists(path):
        return None
    try:
        return CellResult.load(path)
    except RunError:
        return None


def _facts(bench: Bench, most_seeds: int, chosen: Chosen, results: StudyResults, stop: Stop) -> dict[str, Any]:
    ground, settings = bench.ground, bench.settings
    tested = np.unique(np.concatenate([cell.rows for cell in results.cells]))
    sizes = {"sizes": truth_sizes(bench, tested, stop)} if ground.outlined else {}
    known = [warning for warning in ground.warnings if warning != PATIENTS_UNKNOWN]  # the verdict says it itself
    return {
        **sizes,
        "patients_known": ground.catalog.patients_known,
        "primary": primary_arm(settings, chosen.grid),
        "margin": settings.study.margin,
        "free_validation": settings.study.free_validation and not ground.outlined,
        "warnings": [
            *known,
            *chosen.skipped,
            *unkept_decoders(bench, chosen.grid),
            *_given_warning(settings),
            *_fewer_seeds(settings, most_seeds),
            *_brief_warning(bench),
        ],
    }


def _fewer_seeds(settings: Settings, most: int) -> list[str]:
    """A verdict on a choice of the seeds that were trained must say so: it could have been chosen for its answer."""
    used = settings.study.seeds
    return [f"{most} adaptation seeds were trained; this verdict uses the first {used} of them."] if used < most else []


def _brief_warning(bench: Bench) -> list[str]:
    """Said when the largest budget was seen so few times that longer training may change the picture."""
    budget = max(bench.steps)
    images = len(bench.ground.budget(budget, 0, 0))
    each = bench.recipe(budget).batch_size
    passes = bench.steps[budget] * (each if bench.ground.outlined else min(each, images)) / images
    if passes >= FEW_PASSES:
        return []
    times = f"{passes:.0f} times" if passes >= 2 else "about once"
    return [f"At the largest budget every arm saw its images only {times}: more --minutes may change the picture."]


def _given_warning(settings: Settings) -> list[str]:
    if not settings.pretrain.weights:
        return []
    return ["The given encoder may have seen test patients while it was pre-trained; medprior cannot know."]


def _write(
    out: Path, results: StudyResults, verdict: dict[str, Any], by_group: ByGroup, robust: Robustness | None
) -> None:
    with said_plainly(out):
        for name, table in _tables(results, verdict, by_group, robust).items():
            write_text(out / name, table.to_csv(index=False, float_format="%.6f"))
    write_json(out / "verdict.json", verdict)


def _tables(
    results: StudyResults, verdict: dict[str, Any], by_group: ByGroup, robust: Robustness | None
) -> dict[str, pandas.DataFrame]:
    """The files of numbers that a study leaves, by name."""
    outlined = results.kind == "segmentation"
    own = {"classes.csv": class_table} if outlined else {"calibration.csv": calibration_table}
    return {
        **by_group.tables(),
        **{name: make(results) for name, make in own.items()},
        **({} if outlined else {"robustness.csv": robustness_table(robust)}),
        "results.csv": results.table(),
        "scores.csv": score_table(results, verdict),
    }
