"""When embeddings are about to say nothing, in a plain sentence: what was seen, since when, and what to do.

Judged are the embeddings and, where a method has a projector, their projections. The loss acts on these, so that what
does not hold them apart (a loss without its stop-gradient) shows there first, or there alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.training.run import Curves

Array = NDArray[Any]
LEAST_DEVIATION = 0.1
"""Share of 1 / sqrt(D), the deviation of points all around the sphere, under which images are about one point. Trained
networks lie between a third and all of it; untrained ones, whose images look alike to them, may start below."""
LEAST_RANK = 2.0
"""An effective rank below two is less than one direction beside the mean."""
RANK_LEFT = 0.1
"""Share of the largest rank so far. It sinks by half in healthy runs too, as what is alike is drawn together."""
FALLEN = 0.5
"""Share of the largest value so far: what starts low and rises is no collapse."""
IN_A_ROW = 2
"""Looks that must agree: a single one may meet the weights in the midst of a leap."""
AT_THE_END = 0.01
"""Share of log K: how near to 0 or to log K the entropy of a teacher with K outputs is as good as there. A teacher that
is sharpened and centred as published stays tens of per cent away from both."""
STANDS_STILL = 5
"""Looks in a row for the teacher, an eighth of a run: at its start an untrained teacher tells nothing apart either."""

LOWER_RATE = "lower the rate (pretrain.lr)"
ADVICE = {
    "simclr": f"{LOWER_RATE}, enlarge the batch (pretrain.batch_size)",
    "moco": f"{LOWER_RATE}, raise moco.momentum; on one process use an encoder without batch norm",
    "byol": f"raise the momentum of the teacher (byol.momentum), {LOWER_RATE}",
    "simsiam": f"{LOWER_RATE}, enlarge the batch (pretrain.batch_size)",
    "swav": f"lower swav.epsilon, {LOWER_RATE}, hold the prototypes for longer (swav.frozen_steps)",
    "dino": f"raise the momentum of the teacher (dino.momentum), {LOWER_RATE}",
    "barlow": f"{LOWER_RATE}, raise barlow.redundancy",
    "vicreg": f"raise vicreg.variance, {LOWER_RATE}",
    "mae": f"{LOWER_RATE}, make the decoder smaller (mae.decoder_depth) so that it needs the encoder",
    "spark": f"{LOWER_RATE}, make the decoder smaller (spark.decoder_width) so that it needs the encoder",
}
"""What to do about embeddings that collapse, by method."""


@dataclass(frozen=True)
class Space:
    """What figures are measured against.

    Attributes:
        width: D, length of an embedding.
        images: N that are looked at.
        method: its name.
        projected: P, length of a projection, where the method has a projector.
        outputs: K of the method's teacher, where it has one with a distribution over outputs.
    """

    width: int
    images: int
    method: str
    projected: int | None = None
    outputs: int | None = None

    @property
    def most(self) -> int:
        """The largest rank of embeddings there can be."""
        return min(self.width, self.images)


@dataclass(frozen=True)
class Collapse:
    """`cause` was seen at every look since step `since` and said at step `at`."""

    cause: str
    since: int
    at: int
    sentence: str


@dataclass(frozen=True)
class _Cause:
    """When a look (n,) at `figure` is suspect, for how many in a row, and how that is said and mended."""

    name: str
    figure: str
    suspect: Callable[[Array], Array]
    looks: int
    seen: Callable[[float], str]
    advice: str


def collapses(curves: Curves, space: Space) -> list[Collapse]:
    """Every collapse in the looks of a run so far, each cause once, where it was first certain.

    What is said of a step depends on the looks up to it alone.

    Args:
        curves: columns of the diagnosis as name -> (steps, values).
    """
    found = [_first(cause, *curves[cause.figure], space) for cause in _causes(space) if cause.figure in curves]
    return sorted((each for each in found if each is not None), key=lambda each: each.at)


def _first(cause: _Cause, steps: list[float], values: list[float], space: Space) -> Collapse | None:
    suspect = cause.suspect(np.asarray(values))
    for end in range(cause.looks, len(steps) + 1):
        if suspect[end - cause.looks : end].all():
            since, at = int(steps[end - cause.looks]), int(steps[end - 1])
            said = f"{cause.seen(values[end - 1])} For {space.method}: {cause.advice}."
            return Collapse(cause.name, since, at, said.replace("SINCE", f"since step {since:,}"))
    return None


def _causes(space: Space) -> Iterator[_Cause]:
    advice = ADVICE.get(space.method, f"{LOWER_RATE}, enlarge the batch (pretrain.batch_size)")
    yield _one_point("embeddings", "deviation", space.width, advice)
    yield _few_directions("embeddings", "effective_rank", space.most, advice)
    if space.projected is not None:
        yield _one_point("projections", "projected_deviation", space.projected, advice)
        yield _few_directions("projections", "projected_rank", min(space.projected, space.images), advice)
    if space.outputs is not None:
        yield _one_output(space.method, math.log(space.outputs))
        yield _even_outputs(space.method, math.log(space.outputs))


def _one_point(points: str, figure: str, width: int, advice: str) -> _Cause:
    healthy = 1 / math.sqrt(width)

    def suspect(deviations: Array) -> Array:
        low: Array = (deviations < LEAST_DEVIATION * healthy) & (deviations < FALLEN * _peak(deviations))
        return low

    def seen(deviation: float) -> str:
        return (
            f"The standard deviation of {points} is {deviation:.2g} where {healthy:.2g} fills the space, SINCE: "
            "all images are mapped to about one point."
        )

    return _Cause(f"{points} at one point", figure, suspect, IN_A_ROW, seen, advice)


def _few_directions(points: str, figure: str, most: int, advice: str) -> _Cause:
    def suspect(ranks: Array) -> Array:
        peak = _peak(ranks)
        low: Array = ((ranks < LEAST_RANK) | (ranks < RANK_LEFT * peak)) & (ranks < FALLEN * peak)
        return low

    def seen(rank: float) -> str:
        return (
            f"The effective rank of {points} is {rank:.1f} of {most}, a small part of what it was, SINCE: "
            "images differ along hardly any direction."
        )

    return _Cause(f"{points} along few directions", figure, suspect, IN_A_ROW, seen, advice)


def _one_output(method: str, most: float) -> _Cause:
    def suspect(entropies: Array) -> Array:
        low: Array = entropies < AT_THE_END * most
        return low

    def seen(entropy: float) -> str:
        return f"The entropy of the teacher is {entropy:.2g} of at most {most:.2g} SINCE: one output takes every image."

    advice = f"raise {method}.teacher_start and teacher_end, lower {method}.centre_momentum"
    return _Cause("one output", "teacher_entropy", suspect, STANDS_STILL, seen, advice)


def _even_outputs(method: str, most: float) -> _Cause:
    def suspect(entropies: Array) -> Array:
        high: Array = entropies > (1 - AT_THE_END) * most
        return high

    def seen(entropy: float) -> str:
        return f"The entropy of the teacher is {entropy:.3g} of at most {most:.3g} SINCE: all outputs are alike."

    advice = f"lower {method}.teacher_start and teacher_end, {LOWER_RATE}"
    return _Cause("even outputs", "teacher_entropy", suspect, STANDS_STILL, seen, advice)


def _peak(values: Array) -> Array:
    """The largest so far; what is no number counts as none."""
    peak: Array = np.fmax.accumulate(values)
    return peak
