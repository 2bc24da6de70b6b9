"""Groups and shortcuts of constructed studies: the tables, the sentences, and when nothing is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medprior.data.annotations.groups import Grouping
from medprior.study.results import Arm, CellResult, StudyResults
from medprior.study.verdict.audit import Known, audit_study, shortcut_warnings, suspect_table
from medprior.study.verdict.findings import Findings, examine
from medprior.study.verdict.groups import COLUMNS, examine_groups, group_table
from medprior.study.verdict.whofails import judged_arm, who_fails, worst_groups

PATIENTS, BUDGETS = 400, (20, 80)
PEOPLE = np.arange(PATIENTS)
SEX = Grouping("sex", ("F", "M"), PEOPLE // 2 % 2)
AGE = Grouping("age", ("<40", "40-59", "60-74", "75+"), PEOPLE // 4 % 4, banded=True)
MAE = Arm("mae", "resnet18", "fine-tune")


def study(shift, *, truth=None, arms=("scratch", "mae"), patients=PATIENTS, seeds=2) -> StudyResults:
    """Cells in which the classes lie `shift` (N,) deviations apart, of patients who are hard for all models alike."""
    rng = np.random.default_rng(0)
    truth = PEOPLE % 2.0 if truth is None else truth
    hard = rng.standard_normal(PATIENTS)
    cells = []
    for arm in arms:
        for budget in BUDGETS:
            for seed in range(seeds):
                logit = shift * truth + hard + 0.2 * rng.standard_normal(PATIENTS) + 0.3 * truth * (arm == "mae")
                chance = 1 / (1 + np.exp(-logit))
                whole = CellResult(
                    arm=arm, encoder="resnet18", method=None if arm == "scratch" else arm,
                    adaptation="scratch" if arm == "scratch" else "fine-tune", budget=budget, budget_images=budget,
                    seed=seed, pretrain_seed=None if arm == "scratch" else 0, fold=0, rows=PEOPLE[:patients],
                    scores=np.stack([1 - chance, chance], 1)[:patients], targets=truth[:patients],
                    patients=PEOPLE[:patients], n_train=budget, n_test=patients,
                )  # fmt: skip
                cells.append(whole)
    return StudyResults(cells, "binary", ("normal", "ill"))


def findings(results: StudyResults) -> Findings:
    return examine(results, "auroc")


def test_the_table_has_every_group_of_every_arm_and_budget():
    table = group_table(examine_groups(study(1.2), [SEX, AGE]))
    assert list(table) == list(COLUMNS)
    assert len(table) == 2 * 2 * (2 + 4)
    assert set(table["metric"]) == {"auroc"}
    of_sex = table[table["column"] == "sex"]
    assert (of_sex["patients"] == 200).all()
    assert (of_sex["low"] < of_sex["mean"]).all()
    assert of_sex.groupby(["arm", "budget"])["difference"].sum().abs().max() < 1e-9
    assert (table["p_holm"] >= table["p"] - 1e-12).all()


def test_the_best_arm_at_the_largest_budget_is_spoken_of():
    assert judged_arm(findings(study(1.2))) == (MAE, 80)
    assert judged_arm(findings(study(1.2, arms=("scratch",))))[0].scratch


def test_a_group_that_fails_is_named_with_scratch_beside_it():
    results = study(np.where(AGE.member == 3, 0.1, 2.2))
    (said,) = who_fails(findings(results), examine_groups(results, [SEX, AGE]))
    assert "fares worse in the group age 75+: AUROC" in said
    assert "100 test patients" in said
    assert "from scratch 0." in said
    assert "6 groups looked at" in said


def test_of_equal_groups_nothing_is_told():
    results = study(1.2)
    (said,) = who_fails(findings(results), examine_groups(results, [SEX, AGE]))
    assert "cannot be told" in said
    assert "fares worse" not in said


def test_the_picking_is_paid_for():
    results = study(np.where(AGE.member == 3, 0.1, 2.2))
    groups = examine_groups(results, [SEX, AGE])
    found = next(one for one in worst_groups(groups, MAE, 80) if one.column.name == "age")
    assert found.p == pytest.approx(min(1, 5 * found.group.difference().p))  # 4 groups of age, 1 comparison of sex
    assert found.difference.low < found.group.difference().low


def test_too_few_patients_are_called_so():
    results = study(1.2, patients=30)
    (said,) = who_fails(findings(results), examine_groups(results, [SEX, AGE]))
    assert "too few test patients" in said
    table = group_table(examine_groups(results, [AGE]))
    assert table["low"].isna().all()
    assert table["reason"].str.contains("too few").all()


def test_groups_without_test_images_are_left_out():
    nobody = replace(SEX, member=np.where(SEX.member == 0, 0, -1))
    assert examine_groups(study(1.2), [nobody]).columns == ()
    assert who_fails(findings(study(1.2)), examine_groups(study(1.2), [])) == []


def shortcut_study(leans: float, association: float, marked: bool) -> tuple[StudyResults, Grouping, Known]:
    """Scores lean on the site by `leans`; of the ill the share `association` comes from the south, of others the rest;
    embeddings hold the site where it is `marked`."""
    rng = np.random.default_rng(1)
    truth = PEOPLE % 2.0
    south = rng.random(PATIENTS) < np.where(truth == 1, association, 1 - association)
    site = Grouping("site", ("north", "south"), south.astype(int))
    results = study((1.0 * truth + leans * south) / np.maximum(truth, 1e-9) * truth, truth=truth)
    cells = [_leaning(cell, leans * south) for cell in results.cells]
    features = rng.standard_normal((PATIENTS, 12)) + 3.0 * marked * south[:, None] * (np.arange(12) == 3)
    known = Known(PEOPLE, truth, PEOPLE, {("mae", "resnet18"): features})
    return StudyResults(cells, "binary", ("normal", "ill")), site, known


def _leaning(cell: CellResult, lean: np.ndarray) -> CellResult:
    healthy = cell.targets == 0
    logit = np.log(cell.scores[:, 1] / cell.scores[:, 0]) + np.where(healthy, lean, 0)
    chance = 1 / (1 + np.exp(-logit))
    return replace(cell, scores=np.stack([1 - chance, chance], 1))


def test_a_shortcut_is_said_with_what_speaks_for_it():
    results, site, known = shortcut_study(2.0, 0.85, marked=True)
    suspects = audit_study(results, [site, SEX], known)
    table = suspect_table(suspects, "auroc")
    ours = table[(table["arm"] == "mae") & (table["column"] == "site")].iloc[0]
    assert ours["shortcut"]
    assert ours["within"] < ours["pooled"]
    assert ours["read_low"] > 0.8
    assert not table[table["column"] == "sex"]["shortcut"].any()
    assert table[table["arm"] == "scratch"]["read_auroc"].isna().all()
    (said,) = shortcut_warnings(findings(results), suspects)
    assert 'The column "site" may be a shortcut for MAE' in said


@pytest.mark.parametrize(
    ("leans", "association", "marked"), [(2.0, 0.85, False), (2.0, 0.5, True), (0.0, 0.85, True), (0.0, 0.5, False)]
)
def test_nothing_is_said_where_one_of_the_three_is_missing(leans, association, marked):
    results, site, known = shortcut_study(leans, association, marked=marked)
    suspects = audit_study(results, [site], known)
    assert not any(one.shortcut for one in suspects)
    assert shortcut_warnings(findings(results), suspects) == []


def test_where_every_site_has_one_class_that_is_said():
    results, site, known = shortcut_study(2.0, 1.0, marked=True)
    (said,) = shortcut_warnings(findings(results), audit_study(results, [site], known))
    assert "cannot be told apart here" in said
