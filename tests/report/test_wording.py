"""Numbers on the page: open bounds are said, unknown ones are a dash, intervals never break."""

from __future__ import annotations

import pytest

from medprior.report.wording import digits_for, fixed, interval, metric_name, number, prose, ratio_text


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (3.8, 2.1, 6.0, "3.8× [2.1–6.0]"),
        (0.6, 0.04, 0.9, "0.6× [0.04–0.9]"),
        (5.2, 2.9, None, "5.2× [at least 2.9]"),
        (1.6, None, 4.0, "1.6× [at most 4.0]"),
        (1.6, None, None, "1.6× [open]"),
        (None, 2.6, None, "at least 2.6×"),
        (None, None, 0.8, "at most 0.8×"),
        (None, 0.5, 12.3, "0.5× to 12×"),
        (None, None, None, "cannot tell"),
    ],
)
def test_a_ratio_says_its_open_bounds(ratio: float | None, low: float | None, high: float | None, said: str) -> None:
    assert ratio_text(ratio, low, high) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(12000, "12,000"), (2997.5, "2,998"), (0.4123, "0.412"), (1.5e-5, "1.5e−05"), (-0.5, "−0.5"), (float("nan"), "–")],
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert number(value) == said


def test_scores_have_fixed_decimals_and_unknown_ones_a_dash() -> None:
    assert fixed(0.7) == "0.70"
    assert fixed(None) == fixed(float("nan")) == "–"
    assert interval(0.7, 0.85) == "[0.70–0.85]"
    assert interval(None, 0.85) == ""
    assert interval(-0.41, 0.2) == "[−0.41 to 0.20]"


def test_three_decimals_only_where_the_intervals_warrant_them() -> None:
    assert digits_for([0.1, 0.2, 0.01]) == 2
    assert digits_for([0.01, 0.012]) == 3
    assert digits_for([]) == 2


def test_prose_keeps_intervals_and_options_whole_and_escapes_the_rest() -> None:
    assert prose("0.78 [0.70–0.85], see --size <b>") == (
        '0.78 <span class="whole">[0.70–0.85]</span>, see <span class="whole">--size</span> &lt;b&gt;'
    )


def test_metrics_have_readable_names() -> None:
    assert metric_name("auroc") == metric_name("AUROC") == "AUROC"
    assert metric_name("sensitivity_at_90") == "sensitivity at 90"
