"""A verdict on outlines says when its models are not shown to do better than marking everything."""

from __future__ import annotations

import numpy as np

from medprior.report.content import trivial_of
from medprior.report.figures import efficiency
from medprior.report.gravity import by_gravity
from medprior.study.results import CellResult, StudyResults
from medprior.study.verdict.verdict import make_verdict

PATIENTS = 30
COVERED = np.linspace(0.6, 0.95, PATIENTS)
SIZES = {row: np.array([1000 - round(1000 * share), round(1000 * share)]) for row, share in enumerate(COVERED)}
EVERYTHING = 2 * COVERED.round(3) / (1 + COVERED.round(3))


def cell(arm: str, budget: int, dice: np.ndarray, fold: int = 0) -> CellResult:
    scratch = arm == "scratch"
    rows = np.arange(PATIENTS) if len(dice) == PATIENTS else np.arange(fold, PATIENTS, 2)
    return CellResult(
        arm, "unet_8", None if scratch else arm, "scratch" if scratch else "fine-tune", budget, budget, 0,
        None if scratch else 0, fold, rows, np.stack([dice] * 3, -1)[:, None], np.ones((len(rows), 1)), rows,
        n_train=budget, n_test=len(rows),
    )  # fmt: skip


def verdict(*cells: CellResult) -> dict:
    return make_verdict(StudyResults(cells, "segmentation", ("membrane",)), facts={"sizes": SIZES})


def test_no_model_above_marking_everything_is_said_and_grave() -> None:
    """Intervals of scores overlap in each case: what counts is the paired difference."""
    made = verdict(cell("scratch", 4, EVERYTHING - 0.01), cell("genesis", 4, EVERYTHING - 0.001))
    assert [one["answer"] for one in made["trivial"]] == ["everything", "nothing"]
    np.testing.assert_allclose([one["mean"] for one in made["trivial"]], [EVERYTHING.mean(), 0], atol=1e-6)
    first = made["warnings"][0]
    assert first.startswith(f"Marking everything would score Dice {EVERYTHING.mean():.2f} on these test patients")
    assert first.endswith("no model of this study is shown to do better.") and by_gravity([first])[0]


def test_those_above_are_not_named() -> None:
    noise = 0.002 * np.random.default_rng(0).standard_normal(PATIENTS)
    better, same = EVERYTHING + 0.01 + noise, EVERYTHING + noise
    made = verdict(
        *(cell("scratch", budget, same) for budget in (4, 8)), cell("genesis", 4, same), cell("genesis", 8, better)
    )
    assert made["warnings"][0].endswith(
        "with 4 annotated patients no model is shown to do better; "
        "with 8 annotated patients unet_8 from scratch is not shown to do better."
    )
    assert not any(
        "Marking" in one for one in verdict(cell("scratch", 4, better), cell("genesis", 4, better))["warnings"]
    )


def test_it_is_averaged_over_folds_as_models_are() -> None:
    folds = [cell("scratch", 4, EVERYTHING[fold::2] + 0.02, fold) for fold in (0, 1)]
    means = [EVERYTHING[fold::2].mean() for fold in (0, 1)]
    assert abs(verdict(*folds)["trivial"][0]["mean"] - np.mean(means)) < 1e-6


def test_it_is_a_line_in_the_figure_though_no_arm_reaches_it() -> None:
    made = verdict(cell("scratch", 4, EVERYTHING - 0.3), cell("genesis", 4, EVERYTHING - 0.4))
    assert trivial_of(made) == ("Marking everything", made["trivial"][0]["mean"])
    assert "Marking everything" in efficiency(made, {}) and 'class="chance"' in efficiency(made, {})
    assert trivial_of({"trivial": []}) is None
