"""What a method makes of the same few images as training goes: looked at some forty times, at little cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medprior.evaluation.metrics import Kind
from medprior.evaluation.representation import alignment, deviation, effective_rank, neighbour_scores, uniformity
from medprior.training.collapse import Collapse, Space, collapses
from medprior.training.device import pixels_last, precision
from medprior.training.feed import gather
from medprior.training.guard import Reading, mend
from medprior.training.run import Run
from medprior.views.engine import render
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe

if TYPE_CHECKING:
    from medprior.training.loop import Trainer

Array = NDArray[Any]
Rows = NDArray[np.int64]
SHARE = 0.03
"""Views embedded by all looks, of those a run learns from. To learn from a view costs about three times as much as to
embed it, and where most of it is hidden (MAE) about as much."""
MOMENTS = 40
MOST_ROWS, LEAST_ROWS = 256, 64
"""Images of a look: a rank needs many, and below 64 says little, so that a short run is rather looked at less often."""
PAIRED = 4
"""One image in so many is seen twice, for the alignment, a mean that needs no more."""
LEAST_LABELLED = 16
"""Fewer would leave a probe fewer than four votes."""


@dataclass(frozen=True)
class Labels:
    """What is known of some rows.

    Attributes:
        rows: (N,) of the catalog.
        targets: (N,) or (N, K) as in `medprior.evaluation.metrics`.
        patients: (N,) names or numbers.
        classes: how many classes or labels there are.
    """

    rows: Rows
    targets: NDArray[np.float64]
    patients: Array
    kind: Kind
    classes: int

    def of(self, rows: Rows) -> Labels:
        """The same of those of `rows` that are labelled, in their order."""
        place = {int(row): at for at, row in enumerate(self.rows)}
        at = [place[int(row)] for row in rows if int(row) in place]
        return Labels(self.rows[at], self.targets[at], self.patients[at], self.kind, self.classes)


@dataclass(frozen=True)
class Looks:
    """At which steps (after their update) how many rows are embedded once, and the first `pairs` of them twice more."""

    moments: tuple[int, ...]
    rows: int
    pairs: int


def plan_looks(steps: int, batch: int, views: float, available: int) -> Looks:
    """As many looks at as many rows as stay within `SHARE` of the run.

    First the rows shrink, from 256 to 64, then the moments, from 40 to 2: the first and the last step are always
    looked at. A run of less than about 6,400 views is therefore looked at for more than its share.

    Args:
        steps: of the whole run.
        views: that a step learns from for every scan, small ones by their share of a whole.
        available: rows there are.
    """
    allowed = SHARE * steps * batch * views / (1 + 2 / PAIRED)
    rows = min(int(min(max(allowed / MOMENTS, LEAST_ROWS), MOST_ROWS)), available)
    count = int(min(max(allowed / rows, 2), MOMENTS))
    moments = np.unique(np.linspace(0, steps - 1, count).round().astype(int))
    return Looks(tuple(moments.tolist()), rows, max(1, rows // PAIRED))


def fixed_rows(rows: Rows, labelled: Rows, count: int, seed: int) -> Rows:
    """`count` different rows in an order of their own: up to half are labelled ones, the others drawn from all."""
    draw = np.random.default_rng(seed)
    first = draw.permutation(np.intersect1d(rows, labelled))[: count // 2]
    rest = draw.permutation(np.setdiff1d(rows, first))[: count - len(first)]
    return draw.permutation(np.concatenate([first, rest])).astype(np.int64)


class Diagnosis:
    """Looks at a method in training, writes down what it sees, and says when a collapse is under way.

    Nothing of the training is changed: neither weights, nor running statistics, nor random states.

    Args:
        trainer: what is looked at.
        run: gets a row of `diagnosis.csv` for every look, and an event for every collapse.
        say: prints a line.
        labels: for the probe; rows the trainer does not learn from are left out.

    Attributes:
        looks: when it looks, and at how much.
        note: the last rank in a few words.
    """

    def __init__(self, trainer: Trainer, run: Run, say: Callable[[str], None], labels: Labels | None = None) -> None:
        self._trainer, self._run, self._say = trainer, run, say
        plan, base, known = trainer.plan, trainer.base, np.unique(trainer.sampler.rows)
        self.looks = plan_looks(plan.steps, trainer.sampler.batch_size, views_of(trainer.views, base), len(known))
        self._rows = fixed_rows(known, labels.rows if labels else known[:0], self.looks.rows, plan.seed)
        found = labels.of(self._rows) if labels else None
        self._labels = found if found and len(found.rows) >= LEAST_LABELLED else None
        self._plain, self._pairs = independent(plain(base), 1), independent(base.contrastive(), 2)
        self._projector = trainer.method.parts().get("projector")
        self._space = _space(trainer, len(self._rows), self._projector)
        self.note = ""

    def look(self, reading: Reading) -> None:
        """Embed the rows as the weights are now, after the step of `reading`; write and judge what is seen."""
        values = self._figures() | {name: value for name, value in reading.losses.items() if name != "loss"}
        self._run.log(reading.step, values, "diagnosis")
        self.note = f"rank {values['effective_rank']:.0f}/{self._space.most}"
        for collapse in self._collapses():
            if collapse.at == reading.step:
                self._run.event("collapse", step=collapse.at, since=collapse.since, cause=collapse.cause)
                self._say(collapse.sentence)

    def sentences(self) -> list[str]:
        """What was said of the run so far, before an interruption too."""
        return [collapse.sentence for collapse in self._collapses()]

    def _collapses(self) -> list[Collapse]:
        return collapses(self._run.curves("diagnosis"), self._space)

    def _figures(self) -> dict[str, float]:
        (seen,) = embeddings(self._trainer, self._rows, self._plain)
        first, second = embeddings(self._trainer, self._rows[: self.looks.pairs], self._pairs)
        figures = {
            "deviation": _measured(deviation, seen),
            "effective_rank": _measured(effective_rank, seen),
            "alignment": _measured(alignment, first, second),
            "uniformity": _measured(uniformity, seen),
        }
        if self._projector is not None:
            projected = projections(self._trainer, self._projector, seen)
            figures["projected_deviation"] = _measured(deviation, projected)
            figures["projected_rank"] = _measured(effective_rank, projected)
        return figures | self._probed(_array(seen))

    def _probed(self, seen: Array) -> dict[str, float]:
        if self._labels is None:
            return {}
        known = self._labels
        rows = np.nan_to_num(seen[np.isin(self._rows, known.rows)])
        auroc, accuracy = neighbour_scores(rows, known.targets, known.patients, known.kind, known.classes)
        return {"probe_auroc": auroc, "probe_accuracy": accuracy}


def _space(trainer: Trainer, images: int, projector: nn.Module | None) -> Space:
    method = trainer.method
    name, width = type(method).__module__.rpartition(".")[2], method.encoder.embed_dim
    projected = None
    if projector is not None:
        projected = projections(trainer, projector, torch.zeros(1, width, device=trainer.device)).shape[1]
    return Space(width, images, name, projected, getattr(method.config, "outputs", None))


def views_of(plan: ViewPlan, base: ViewRecipe) -> float:
    """How many views of the base's size those of a plan make up."""
    return sum(math.prod(spec.recipe.shape) for spec in plan.specs) / math.prod(base.shape)


def plain(base: ViewRecipe) -> ViewRecipe:
    """The scan as it is; of volumes, which no view holds whole, one crop of the middle pitch."""
    if base.pitch is None:
        return base.plain()
    middle = float(np.sqrt(base.pitch[0] * base.pitch[1]))
    return replace(base.plain(), pitch=(middle, middle)).shaped(base.shape)


@torch.no_grad()
def embeddings(trainer: Trainer, rows: Rows, views: ViewPlan) -> list[Tensor]:
    """(N, D) of the rows for each of the views, drawn the same every time; the encoder is left as it was.

    Raises:
        StoreError: the store was deleted or cut short meanwhile.
    """
    seed, size = trainer.plan.seed, trainer.plan.batch_size
    found: list[list[Tensor]] = [[] for _ in views.specs]
    with evaluating(trainer.method):
        for start in range(0, len(rows), size):
            scans = gather(trainer.store, rows[start : start + size], views, seed=seed, step=0)
            seen, _ = mend(render(scans, views, seed=seed, step=0))
            for parts, view in zip(found, seen, strict=True):
                pixels = pixels_last(view.pixels) if trainer.convolves else view.pixels
                with precision(trainer.device, trainer.plan.precision):
                    parts.append(trainer.method.embed(pixels).float())
    return [torch.cat(parts) for parts in found]


@torch.no_grad()
def projections(trainer: Trainer, projector: nn.Module, embedded: Tensor) -> Tensor:
    """(N, P) what the projector makes of embeddings (N, D); the projector is left as it was."""
    with evaluating(projector), precision(trainer.device, trainer.plan.precision):
        projected: Tensor = projector(embedded)
        return projected.float()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Every part of `module` as in evaluation inside, and as it was afterwards."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def _measured(measure: Callable[..., float], *rows: Tensor) -> float:
    """The figure of those of the rows (N, D) that are finite; NaN for fewer than two."""
    arrays = [_array(each) for each in rows]
    sound = np.logical_and.reduce([np.isfinite(each).all(axis=1) for each in arrays])
    return measure(*(each[sound] for each in arrays)) if sound.sum() > 1 else float("nan")


def _array(rows: Tensor) -> Array:
    return rows.cpu().double().numpy()
