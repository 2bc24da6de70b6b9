"""How the verdict writes names, numbers and multiples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medprior.evaluation.intervals import Difference, Interval
from medprior.methods import METHODS
from medprior.methods.method import Method
from medprior.study.arms import GIVEN, IMAGENET, begun_at, method_of
from medprior.study.results import Arm
from medprior.study.verdict.findings import Saving

_BORROWED = {GIVEN: "the given encoder", IMAGENET: "ImageNet"}


@dataclass(frozen=True)
class Words:
    """How things are called: `unit` is what a budget counts, `titles` what an arm is called, `known` what a budget's
    units are."""

    unit: str = "patients"
    titles: Mapping[str, str] = field(default_factory=dict)
    known: str = "labelled"

    def arm(self, arm: Arm) -> str:
        """An arm in full: name, encoder, adaptation."""
        if arm.scratch:
            return f"{arm.encoder} from scratch{_twice(arm)}"
        adapted = {"probe": "with a linear probe", "fine-tune": "fine-tuned"}.get(arm.adaptation, arm.adaptation)
        return f"{self.title(arm)} ({arm.encoder}, {adapted})"

    def title(self, arm: Arm) -> str:
        """An arm that the sentence before named in full."""
        return self.titles.get(arm.name) or title_of(arm.name)

    def labels(self, count: float) -> str:
        """A number of labels."""
        rounded = round(count)
        return f"{rounded:,} {self.known} {self.unit if rounded != 1 else self.unit.removesuffix('s')}"


def title_of(name: str) -> str:
    """What people call an arm of this name."""
    if (start := begun_at(name)) and start != name:
        return f"{title_of(method_of(name))} from {_BORROWED[start]}"
    if name not in METHODS.names():
        return _BORROWED.get(name, name)
    kind: type[Method] = METHODS.get(name)
    return kind.title or kind.__name__


def shown(value: Interval) -> str:
    """A score with its interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    digits = 2 if value.high - value.low >= 0.02 else 3
    return f"{value.value:.{digits}f} [{value.low:.{digits}f} to {value.high:.{digits}f}]"


def gap(value: Difference) -> str:
    """A difference with its sign and interval; enough digits that a bound which is not zero does not read as zero."""
    if value.low is None or value.high is None:
        return _signed(value.value, 2)
    bounds = [bound for bound in (value.low, value.high) if bound != 0]
    digits = next((d for d in (2, 3) if all(abs(bound) >= 0.5 * 10**-d for bound in bounds)), 4)
    return f"{_signed(value.value, digits)} [{_signed(value.low, digits)} to {_signed(value.high, digits)}]"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def verdict_of(value: Difference) -> str:
    """What an interval allows to be said: better, worse, same (cannot be told apart) or unknown."""
    if value.low is None or value.high is None:
        return "unknown"
    return "better" if value.low > 0 else "worse" if value.high < 0 else "same"


def equivalent(value: Difference, margin: float) -> bool:
    """Whether the whole interval is closer to zero than what would matter."""
    return value.low is not None and value.high is not None and -margin < value.low and value.high < margin


def roughly(number: float) -> int:
    """A number that is known roughly, with two digits."""
    scale = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return max(1, math.ceil(number / scale)) * scale


def labels_saved(saving: Saving, budgets: list[int], words: Words) -> str:
    own, ratio = saving.budget, saving.ratio
    if np.isinf(saving.most):
        reach = f"From scratch no measured budget, up to {words.labels(budgets[-1])}, reaches that score"
        return f"{reach}: {short(saving)}"
    if saving.least == 0:
        start = f"From scratch the smallest measured budget, {words.labels(budgets[0])}, already does better"
        return f"{start}, so no labels are saved: {short(saving)}"
    if ratio is None:
        ends = f"between {round(saving.least * own):,} and {words.labels(saving.most * own)}"
        return f"From scratch that score takes {ends}, where the curve is flat: {short(saving)}"
    loss = ", so labels are lost, not saved" if ratio < 1 else ""
    return f"From scratch that score takes about {words.labels(ratio * own)}{loss}: {short(saving)}"


def short(saving: Saving) -> str:
    """The multiple of labels and its interval, with open ends said as such."""
    said = _times(saving.ratio) if saving.ratio is not None else _range(saving.least, saving.most)
    if saving.reason:
        return f"{said} as many (no interval can be given: {saving.reason})"
    if saving.low == 0 and np.isinf(saving.high):
        return f"{said} as many by the curves, but the interval leaves any number open"
    bounds = _range(saving.low, saving.high)
    return f"{said} as many" if bounds == said else f"{said} as many [{bounds}]"


def _range(low: float, high: float) -> str:
    if low == 0:
        return f"at most {_times(high)}"
    if np.isinf(high):
        return f"at least {_times(low)}"
    return f"{_number(low)} to {_times(high)}"


def _times(ratio: float) -> str:
    return f"{_number(ratio)} times"


def _number(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2f}"


def _twice(arm: Arm) -> str:
    return " at twice the steps" if arm.adaptation == "scratch-2x" else ""


def count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
