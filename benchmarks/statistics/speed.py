"""How long the statistics of a large study take: python benchmarks/statistics/speed.py.

10,000 test patients, 14 labels, 5 arms x 5 budgets x 5 seeds: the verdict, with all its intervals, in one process.
Beside it what a plain loop would take: scikit-learn's AUROC of every label in 1,000 bootstrap samples of each model,
by one label of one model in 5 samples.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from medprior.study.results import CellResult, StudyResults
from medprior.study.verdict.verdict import make_verdict

PATIENTS, LABELS, ARMS, BUDGETS, SEEDS, SAMPLES = 10_000, 14, 5, (20, 80, 320, 1280, 5120), 5, 1000


def cells() -> list[CellResult]:
    rng = np.random.default_rng(0)
    truth = (rng.random((PATIENTS, LABELS)) < rng.uniform(0.01, 0.2, LABELS)).astype(float)
    hard = rng.standard_normal((PATIENTS, LABELS))
    found = []
    for arm in range(ARMS):
        for place, budget in enumerate(BUDGETS):
            for seed in range(SEEDS):
                signal = (0.5 + 0.2 * place + 0.1 * arm) * truth
                chances = expit(signal + 0.7 * hard + 0.7 * rng.standard_normal(hard.shape))
                found.append(cell(arm, budget, seed, chances, truth))
    return found


def cell(arm: int, budget: int, seed: int, chances: np.ndarray, truth: np.ndarray) -> CellResult:
    scratch = arm == 0
    name, rows = "scratch" if scratch else f"arm{arm}", np.arange(PATIENTS)
    return CellResult(
        arm=name, encoder="encoder", method=None if scratch else name, adaptation="scratch" if scratch else "fine-tune",
        budget=budget, budget_images=budget, seed=seed, pretrain_seed=None if scratch else 0, fold=0, rows=rows,
        scores=chances, targets=truth, patients=rows, n_train=budget, n_test=PATIENTS,
    )  # fmt: skip


def plain_loop(one: CellResult, samples: int = 5) -> float:
    """Seconds for all models and labels, from a few bootstrap samples of one."""
    rng = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(samples):
        drawn = rng.integers(0, PATIENTS, PATIENTS)
        roc_auc_score(one.targets[drawn, 0], one.scores[drawn, 0])
    each = (time.process_time() - began) / samples
    return each * SAMPLES * LABELS * ARMS * len(BUDGETS) * SEEDS


if __name__ == "__main__":
    study = StudyResults(cells(), "multilabel", tuple(f"label{k}" for k in range(LABELS)))
    began, used = time.perf_counter(), time.process_time()
    verdict = make_verdict(study, facts={})
    seconds, worked = time.perf_counter() - began, time.process_time() - used
    told = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(worked, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "plain_loop_seconds": round(plain_loop(study.cells[0])),
    }
    told["times_faster"] = round(told["plain_loop_seconds"] / worked)
    (Path(__file__).parent / "speed.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1), *verdict["sentences"], sep="\n")
