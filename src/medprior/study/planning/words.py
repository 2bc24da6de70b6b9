"""What was found and what will be done, in lines for the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence

from medprior.backbones.source import read_source
from medprior.config import Settings
from medprior.data.pool import left_pool
from medprior.data.store.resident import ResidentStore
from medprior.study.arms import GIVEN, IMAGENET, Grid, begun_at, method_of
from medprior.study.canvas import view_size
from medprior.study.ground import Ground, Resident
from medprior.study.planning.crops import plan_crops
from medprior.study.planning.found import SHOWN, label_counts
from medprior.study.planning.plan import CORRUPTING_SHARE, Schedule
from medprior.study.planning.reading import task_lines
from medprior.study.planning.unread import unread_lines
from medprior.study.pretraining import training_preset

WHERE = {
    "device": "in the memory of the GPU",
    "host": "in memory that all processes share",
    "disk": "read from the disk when needed",
}
"""How the places of pixels are called."""


def ground_lines(ground: Ground, settings: Settings, on_gpu: bool) -> list[str]:
    """What a study stands on."""
    catalog, split = ground.catalog, ground.splits[0]
    labelled = int(catalog.table["labelled"].sum())
    counts = label_counts(catalog)
    shown = ", ".join(counts[:SHOWN]) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
    patients = f"{ground.known_patients:,} patients" if catalog.patients_known else "patients unknown"
    lines = [f"Found    {len(catalog):,} images, {labelled:,} with labels ({shown}), {patients}"]
    unreadable = int((catalog.problems["kind"] == "unreadable").sum())
    if unreadable:
        lines.append(f"         {unreadable} files could not be read; problems.csv says why")
    lines += [*_pool_line(ground), *(f"         {warning}" for warning in ground.warnings)]
    numbers = f"{len(split.pool):,} images to learn from, {len(split.test):,} to test on"
    lines.append(f"Split    {_split_kind(ground)}: {numbers}; encoders may see {len(split.pretrain):,}")
    return [*lines, *task_lines(catalog, settings), _size_line(ground, settings, on_gpu)]


def _size_line(ground: Ground, settings: Settings, on_gpu: bool) -> str:
    if ground.outlined:
        plan = plan_crops(ground.catalog, settings, on_gpu)
        by = " x ".join(map(str, plan.shape))
        units = "voxels" if len(plan.shape) == 3 else "pixels"
        return f"Crops    {by} {units}, {plan.count} a step, because {plan.why}   (change with --size)"
    size, _, why = view_size(ground.catalog, settings, on_gpu)
    return f"Size     {size} px views, because {why}   (change with --size)"


def _pool_line(ground: Ground) -> list[str]:
    if not len(ground.pool):
        return []
    gone = left_pool(ground.catalog)
    left = "no copy of a labelled image was among them" if not gone else f"{gone:,} copies of labelled images left them"
    return [f"Pool     {len(ground.pool):,} further images, which are only ever pre-trained on; {left}"]


def _split_kind(ground: Ground) -> str:
    if ground.splits[0].given:
        return "the given one"
    if len(ground.splits) == 1:
        return "hold-out by patient"
    repeats = 1 + max(split.repeat for split in ground.splits)
    times = f", {repeats} times" if repeats > 1 else ""
    return f"{len(ground.splits) // repeats}-fold cross-validation by patient{times}"


def pixels_line(store: Resident) -> str:
    """Where the pixels lie, and why."""
    where = WHERE[store.placement.kind]
    change = "(change with --set data.placement=...)"
    sized = f"images at {store.store.size} px" if isinstance(store, ResidentStore) else "scans for crops"
    return f"Pixels   {len(store):,} {sized} {where}: {store.placement.reason}   {change}"


def plan_lines(
    ground: Ground, grid: Grid, schedule: Schedule, settings: Settings, skipped: Sequence[str] = ()
) -> list[str]:
    """What will be done, what will not, and how long it should take."""
    lines = []
    runs = grid.pretrain_seeds * grid.folds
    for method, backbone in grid.methods:
        given = read_source(settings.pretrain.weights).title if settings.pretrain.weights else ""
        if method == GIVEN:
            lines.append(f"Plan     {backbone} from {given}, as it is")
            continue
        if method == IMAGENET:
            lines.append(f"Plan     {backbone} with the published ImageNet weights, as they are")
            continue
        steps, batch = schedule.pretrain_steps[(method, backbone)], training_preset(settings, method).batch_size
        times = f", {runs} runs" if runs > 1 else ""
        begun = {GIVEN: f" from {given}", IMAGENET: " from ImageNet weights"}.get(begun_at(method) or "", "")
        name = f"{method_of(method)} on {backbone}{begun}"
        lines.append(f"Plan     pre-train {name}: {steps:,} steps of {batch} images{times}")
    steps_text = ", ".join(f"{b} ({schedule.adapt_steps[b]} steps)" for b in grid.budgets)
    known, scans = ("annotated", "scans") if ground.outlined else ("labelled", "images")
    unit = "patients" if ground.catalog.patients_known else scans
    lines.append(f"         adapt at {steps_text} {known} {unit} x {grid.seeds} seeds; scratch at 1x and 2x the steps")
    lines += [f"         {line}" for line in (*skipped, *_corruption_lines(ground, schedule, settings))]
    lines += unread_lines(settings, ground.outlined)
    minutes = max(1, round(schedule.seconds / 60))
    return [
        *lines,
        f"         about {minutes} min   (change with --minutes, --methods, --backbone, --budgets, --seeds)",
    ]


def _corruption_lines(ground: Ground, schedule: Schedule, settings: Settings) -> list[str]:
    """Whether test images are shown corrupted, and why not."""
    asked = settings.study.corruptions
    if ground.outlined or not asked:
        return []
    if schedule.corrupting_seconds:
        took = schedule.corrupting_seconds
        said = f"{took:.0f} s" if took < 90 else f"{took / 60:.0f} min"
        return [
            f"test images also corrupted at the largest budget, {said} of the time   (--set study.corruptions=false)"
        ]
    if schedule.corrupting_seconds is None:
        return ["no corrupted test images: an older version made this plan   (another --out has them)"]
    share = f"{100 * CORRUPTING_SHARE:.0f}%"
    return [f"no corrupted test images: they would take more than {share} of it   (--set study.corruptions=true)"]
