"""Is a planted shortcut found, and is the audit quiet without one? Counts over generated cohorts of X-rays.

    python benchmarks/shortcuts/run.py --seeds 20 --patients 200 --workers 2

Of every seed the X-rays are rendered once; the four situations differ in whom the hospitals see and in the mark. What
stands for a frozen encoder are the maxima of blocks of pixels: they hold the mark, and lesions dimly. A linear probe of
them, trained on half of the patients with each of three seeds' draw of them, is the model; it is tested on the others.
The audit is the one of every study.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from medprior.data.annotations.groups import Grouping
from medprior.data.phantom import Anatomy, Sites, anatomy, render_xray
from medprior.evaluation.probes import linear_probe
from medprior.study.results import CellResult, StudyResults
from medprior.study.verdict.audit import Known, Suspect, audit_study, shortcut_warnings
from medprior.study.verdict.findings import examine

SITUATIONS = {
    "marked, and the ill go there": Sites(ill_in_south=0.8, marked=True, alike=True),
    "nothing planted": Sites(alike=True),
    "the ill go there, no mark": Sites(ill_in_south=0.8, alike=True),
    "marked, all go there alike": Sites(marked=True, alike=True),
}
PLANTED = "marked, and the ill go there"
SIZE, BLOCK, SEEDS = 64, 4, 3
HERE = Path(__file__).parent


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--patients", type=int, default=200)
    words.add_argument("--workers", type=int, default=1)
    asked = words.parse_args()
    began = time.perf_counter()
    jobs = [(seed, asked.patients) for seed in range(asked.seeds)]
    with get_context("spawn").Pool(asked.workers) as pool:
        found = [one for some in pool.imap(audits_of, jobs) for one in some]
    facts = {"seeds": asked.seeds, "patients": asked.patients, "seconds": round(time.perf_counter() - began)}
    (HERE / "results.json").write_text(json.dumps({**facts, "counts": counts(found), "audits": found}, indent=1) + "\n")
    print(json.dumps(counts(found), indent=1))


def audits_of(job: tuple[int, int]) -> list[dict[str, Any]]:
    """The audits of all situations of one cohort."""
    seed, patients = job
    people = [anatomy(seed, number) for number in range(patients)]
    images = [render_xray(person, SIZE, "north").image for person in people]
    return [{"seed": seed, "situation": name, **audit(people, images, sites)} for name, sites in SITUATIONS.items()]


def audit(people: list[Anatomy], images: list[np.ndarray], sites: Sites) -> dict[str, Any]:
    sent = [sites.sent(person) for person in people]
    features = np.stack([blocks(sites.mark(image, one)) for image, one in zip(images, sent, strict=True)])
    targets = np.array([float(bool(person.lesions)) for person in people])
    rows = np.arange(len(people))
    groupings = [
        grouping("site", [one.site for one in sent]),
        grouping("sex", [one.build.sex for one in sent]),
        grouping("age", ["75+" if one.build.age >= 75 else "<75" for one in sent]),
    ]
    results = StudyResults(list(cells(features, targets)), "binary", ("normal", "lesion"))
    suspects = audit_study(results, groupings, Known(rows, targets, rows, {("blocks", "blocks"): features}))
    said = shortcut_warnings(examine(results, "auroc"), suspects)
    named = [one.column for one in suspects if one.shortcut]
    return {"shortcuts": named, "warnings": len(said), "columns": [numbers(one) for one in suspects]}


def blocks(image: np.ndarray) -> np.ndarray:
    """Maxima of blocks of `BLOCK` x `BLOCK` pixels, in one row."""
    side = len(image) // BLOCK
    found: np.ndarray = image.reshape(side, BLOCK, side, BLOCK).max((1, 3)).ravel() / 255
    return found.astype(np.float32)


def cells(features: np.ndarray, targets: np.ndarray) -> Iterator[CellResult]:
    """Probes trained on four fifths of one half of the patients, drawn anew with each seed."""
    half = len(targets) // 2
    test = np.arange(half, len(targets))
    for seed in range(SEEDS):
        learnt = np.sort(np.random.default_rng(seed).permutation(half)[: half * 4 // 5])
        probe = linear_probe(features[learnt], targets[learnt], learnt, "binary", 2, seed=seed)
        yield CellResult(
            arm="blocks", encoder="blocks", method="blocks", adaptation="probe", budget=len(learnt),
            budget_images=len(learnt), seed=seed, pretrain_seed=0, fold=0, rows=test,
            scores=probe.predict_proba(features[test]), targets=targets[test], patients=test, n_train=len(learnt),
            n_test=len(test),
        )  # fmt: skip


def grouping(name: str, values: list[str]) -> Grouping:
    groups = tuple(sorted(set(values)))
    return Grouping(name, groups, np.array([groups.index(value) for value in values]))


def numbers(one: Suspect) -> dict[str, Any]:
    assert one.reading is not None
    lost = one.within.lost
    found = {
        "read_low": one.reading.auroc.low,
        "association_p_holm": one.association_p,
        "pooled": one.within.pooled,
        "within": one.within.within,
        "lost_low": lost.low,
        "lost_p_holm": one.lost_p,
    }
    rounded = {key: None if value is None else float(f"{value:.3g}") for key, value in found.items()}
    return {"column": one.column, **rounded}


def counts(found: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Of every situation: cohorts, those in which the site was named, and those in which anything was."""
    return {
        name: {
            "cohorts": sum(one["situation"] == name for one in found),
            "site named": sum(one["situation"] == name and "site" in one["shortcuts"] for one in found),
            "anything said": sum(one["situation"] == name and one["warnings"] > 0 for one in found),
        }
        for name in SITUATIONS
    }


if __name__ == "__main__":
    main()
