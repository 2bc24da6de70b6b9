"""Suggested against random labels at equal budgets, as PLAN.md says.

    python benchmarks/suggest/compare.py                          # all of it; what is done is not done again
    python benchmarks/suggest/compare.py --steps 20 --seeds 2 --work /tmp/try --out /tmp/try    # does it run?

Encoders, features and the probabilities of every probe lie below --work; `results.csv` (every probe), `differences.csv`
and the table of README.md (where there is one) below --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from medprior.cli.display import Terminal
from medprior.config import load_settings
from medprior.data.catalog import Catalog
from medprior.evaluation.intervals import difference, holm
from medprior.evaluation.luck import Sample
from medprior.evaluation.metrics import Kind, estimate
from medprior.evaluation.probes import linear_probe
from medprior.evaluation.strata import smallest_class, strata_of
from medprior.evaluation.suggestion import Images, typical, uncertain, uncertainty
from medprior.methods import METHODS
from medprior.study.arms import Pretraining
from medprior.study.ground import prepare
from medprior.study.planning.reading import read_catalog
from medprior.study.pretraining import features_of, run_pretraining
from medprior.training.device import computing, pick_device

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"
MARK = "<!-- drawn by compare.py from results.csv and differences.csv -->"
SETS = {
    "brain-tumor-mri": (DATA / "brain-tumor-mri", DATA / "brain-tumor-mri" / "labels.csv", 64),
    "pneumoniamnist": (DATA / "pneumoniamnist" / "pneumoniamnist.npz", None, 32),
}
"""Scans, labels and pixels of a view."""
EMBEDDED, BUDGETS, PRIMARY = 2000, (20, 40, 80), 40
ARMS = ("random", "suggested", "typical")


@dataclass(frozen=True)
class Embedded:
    """Features (N, D) of the images of one set, with their classes, copies and whether they are tested."""

    features: np.ndarray
    targets: np.ndarray
    copies: np.ndarray
    tested: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.targets.max()) + 1

    @property
    def kind(self) -> Kind:
        return "binary" if self.classes == 2 else "multiclass"

    def images(self, rows: np.ndarray) -> Images:
        """Some rows as candidates; every image is a patient of its own."""
        return Images(self.features[rows], rows, self.copies[rows])

    def chances(self, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
        """(len(rows), K) what a probe of the labels of `train` says."""
        features, targets = self.features[train], self.targets[train]
        probe = linear_probe(features, targets, train, self.kind, self.classes, seed=seed)
        return probe.predict_proba(self.features[rows])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--work", type=Path, default=Path("out/suggest"))
    words.add_argument("--out", type=Path, default=HERE)
    words.add_argument("--steps", type=int, default=1500)
    words.add_argument("--seeds", type=int, default=10)
    asked = words.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with computing(None):
        found = {name: compare(name, asked.work / name, asked.steps, asked.seeds) for name in SETS}
    results = pd.concat([table for table, _ in found.values()])
    differences = corrected(pd.concat([table for _, table in found.values()], ignore_index=True))
    results.to_csv(asked.out / "results.csv", index=False, float_format="%.6f")
    differences.to_csv(asked.out / "differences.csv", index=False, float_format="%.6g")
    readme = asked.out / "README.md"
    if readme.exists():
        readme.write_text(readme.read_text().split(MARK)[0] + MARK + "\n\n" + drawn(results, differences))
    print(drawn(results, differences))


def compare(name: str, work: Path, steps: int, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The score of every probe on one set, and the differences from random labels."""
    data = embedded(name, work, steps)
    test = np.flatnonzero(data.tested)
    strata = strata_of(test, data.targets[test], data.kind, data.classes)
    fewest = int(smallest_class(test, data.targets[test], data.kind, data.classes).min())
    rows, moves = [], {}
    for seed in range(seeds):
        for arm, budget, train, chances in trained(data, work, seed):
            found = estimate("auroc", chances, data.targets[test], data.kind)
            moves[arm, budget, seed] = strata.spread(test, found.pulls)
            present = len(np.unique(data.targets[train]))
            rows.append((name, seed, arm, budget, found.value, present, data.classes))
    results = pd.DataFrame(rows, columns=["set", "seed", "arm", "labels", "auroc", "present", "classes"])

    def sample(arm: str, budget: int) -> Sample:
        of = results[(results["arm"] == arm) & (results["labels"] == budget)].sort_values("seed")
        moved = np.stack([moves[arm, budget, seed] for seed in of["seed"]])
        return Sample(of["auroc"].to_numpy(), moved, of["seed"].to_numpy(), np.zeros(len(of)))

    pairs = []
    for arm in ARMS[1:]:
        for budget in BUDGETS:
            apart = difference(sample(arm, budget), sample("random", budget), fewest)
            pairs.append((name, arm, budget, apart.value, apart.low, apart.high, apart.p))
    columns = ["set", "arm", "labels", "difference", "low", "high", "p"]
    return results, pd.DataFrame(pairs, columns=columns)


def trained(data: Embedded, work: Path, seed: int) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Of one seed every arm at every budget: the rows labelled, and what the probe says of the test images."""
    path = work / f"seed-{seed}.npz"
    if not path.exists():
        found = {}
        for arm, train in chosen(data, seed).items():
            for budget, rows in train.items():
                found[f"{arm}-{budget}-rows"] = rows
                found[f"{arm}-{budget}-chances"] = data.chances(rows, np.flatnonzero(data.tested), seed)
        aside = path.with_suffix(".part.npz")
        np.savez_compressed(aside, **found)
        aside.replace(path)
    with np.load(path) as kept:
        for arm in ARMS:
            for budget in BUDGETS:
                yield arm, budget, kept[f"{arm}-{budget}-rows"], kept[f"{arm}-{budget}-chances"]


def chosen(data: Embedded, seed: int) -> dict[str, dict[int, np.ndarray]]:
    """The rows that every arm labels, by budget, out of this seed's half of those that may be labelled."""
    rng = np.random.default_rng([7, seed])
    free = rng.permutation(np.flatnonzero(~data.tested))
    pool = np.sort(free[: len(free) // 2])
    order = rng.permutation(pool)
    return {
        "random": {budget: order[:budget] for budget in BUDGETS},
        "suggested": suggested(data, pool, seed),
        "typical": {
            budget: pool[[one.image for one in typical(data.images(pool), budget, seed=seed)]] for budget in BUDGETS
        },
    }


def suggested(data: Embedded, pool: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """As the command goes: the typical, then what the probe of these is uncertain of."""
    found = typical(data.images(pool), BUDGETS[0], seed=seed)
    rows = {BUDGETS[0]: pool[[one.image for one in found]]}
    for before, budget in pairwise(BUDGETS):
        known = rows[before]
        copied = np.isin(data.copies[pool], data.copies[known][data.copies[known] >= 0])
        left = pool[~np.isin(pool, known) & ~copied]
        doubt = uncertainty(data.chances(known, left, seed), data.kind)
        more = uncertain(data.images(left), doubt, budget - before, seed=seed)
        rows[budget] = np.concatenate([known, left[[one.image for one in more]]])
    return rows


def embedded(name: str, work: Path, steps: int) -> Embedded:
    """The features of an encoder that saw no test image; kept, and taken up where they were left."""
    scans, labels, size = SETS[name]
    words = ["study.workers=1", f"data.size={size}", f"pretrain.steps={steps}", "pretrain.backbone=vit_micro_patch8"]
    settings = load_settings(assignments=[*words, "pretrain.methods=[mae]"], methods=METHODS.names())
    device = pick_device()
    work.mkdir(parents=True, exist_ok=True)
    catalog = read_catalog(scans, labels, settings, work)
    kept_labels(catalog)
    ground = prepare(catalog, settings, work, device.type == "cuda")
    store = ground.store.resident(device, settings.data.placement)
    which = Pretraining("mae", "vit_micro_patch8", 0, 0)
    folder = run_pretraining(ground, store, settings, which, steps, work, progress=Terminal())
    (split,) = ground.splits
    rows = ground.usable(np.sort(np.concatenate([split.test, split.pool])))
    copies = catalog.duplicates.cluster[rows]
    return Embedded(features_of(folder)[rows], ground.targets[rows], copies, np.isin(rows, split.test))


def kept_labels(catalog: Catalog) -> None:
    """Forget the labels of all but the test images and as many training images as are embedded beside them."""
    table = catalog.table
    assert catalog.labels is not None
    split, labelled = table["split"].to_numpy(str), table["labelled"].to_numpy(bool)
    test, train = np.flatnonzero(labelled & (split == "test")), np.flatnonzero(labelled & (split == "train"))
    some = np.random.default_rng(0).permutation(train)[: EMBEDDED - len(test)]
    gone = np.setdiff1d(np.arange(len(table)), np.concatenate([test, some]))
    table.loc[gone, "labelled"] = False
    table.loc[gone, list(catalog.labels.columns)] = np.nan


def corrected(differences: pd.DataFrame) -> pd.DataFrame:
    """With Holm's correction of the primary comparisons."""
    primary = ((differences["arm"] == "suggested") & (differences["labels"] == PRIMARY)).to_numpy()
    adjusted = np.full(len(differences), np.nan)
    adjusted[primary] = holm(differences["p"].to_numpy()[primary])
    return differences.assign(primary=primary, p_holm=adjusted)


def drawn(results: pd.DataFrame, differences: pd.DataFrame) -> str:
    """The table of the README."""
    lines = [
        "| set | labels | random | suggested | minus random | typical | minus random | seeds with all classes: random, "
        "suggested |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, budget), part in results.groupby(["set", "labels"]):
        score = part.groupby("arm")["auroc"].mean()
        full = (part["present"] == part["classes"]).groupby(part["arm"]).mean()
        cells = [name, str(budget), f"{score['random']:.3f}"]
        for arm in ARMS[1:]:
            of = (differences["set"] == name) & (differences["labels"] == budget) & (differences["arm"] == arm)
            cells += [f"{score[arm]:.3f}", said(differences[of].iloc[0])]
        cells.append(f"{full['random']:.0%}, {full['suggested']:.0%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def said(row: pd.Series) -> str:
    """A difference with its interval; the primary one in bold, with its corrected p."""
    if not np.isfinite(row["p"]):
        return f"{row['difference']:+.3f}"
    text = f"{row['difference']:+.3f} [{row['low']:+.3f} to {row['high']:+.3f}]"
    return f"**{text}**, p {row['p_holm']:.3f}" if row["primary"] else text


if __name__ == "__main__":
    main()
