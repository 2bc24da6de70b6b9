"""Whether fine-tuning wrecks what an encoder had learnt: the score of a linear probe while it is fine-tuned.

    python benchmarks/init/wreck.py ENCODER SCANS.npz OUT.csv

A pre-trained encoder is fine-tuned with few labels, from a fresh head and from that of a probe of the same labels, with
medprior's own rate and twenty times as much. At six moments a probe is fitted to what the encoder then makes of 400
other training images and scored on 400 images of the validation split; the fine-tuned model is scored on the same.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import medprior.training.adapt as room
from medprior.backbones.weights import load_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.evaluation.metrics import score
from medprior.evaluation.probes import linear_probe
from medprior.tasks.classification import Classification
from medprior.training.adapt import Labelled, embed, fit, predict, probabilities
from medprior.training.descent import Recipe
from medprior.views.recipe import base_recipe

STEPS, MOMENTS, OTHERS = 60, 6, 400
LABELS, RATES, SEEDS = (20, 100), (1e-3, 2e-2), range(2)


def main(place: str, scans: str, out: str) -> None:
    """Every budget, rate, head and seed, one line each."""
    torch.set_num_threads(1)
    encoder = load_encoder(place)
    catalog = build_catalog(Path(scans))
    targets, split = catalog.targets(), catalog.table["split"].to_numpy()
    train, held = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")[:OTHERS]
    with tempfile.TemporaryDirectory() as folder, Path(out).open("w", newline="") as file:
        size = int(encoder.spec["size"])
        store = PixelStore.build(catalog, Path(folder) / "store", size=size).resident(torch.device("cpu"))
        base, task = base_recipe("CR", size), Classification("binary", ("normal", "pneumonia"))
        others = train[-OTHERS:]

        def probed(one: object, rows: np.ndarray, tested: np.ndarray) -> float:
            features = embed(one, store, np.concatenate([rows, tested]), base)
            probe = linear_probe(features[: len(rows)], targets[rows], rows, "binary", 2)
            return score("auroc", probe.predict_proba(features[len(rows) :]), targets[tested], "binary")

        writer = csv.writer(file)
        writer.writerow(["labels", "rate", "head", "seed", "probe_before", "probe_least", "probe_after", "model_after"])
        before = probed(encoder, others, held)
        for labels, rate, head, seed in _cases():
            rows = np.random.default_rng(seed).permutation(train[:-OTHERS])[:labels]
            seen: list[float] = []

            class Watched(room._Fitting):
                def step(self, number: int, seen: list[float] = seen) -> None:
                    super().step(number)
                    if (number + 1) % (STEPS // MOMENTS) == 0:
                        seen.append(probed(self.model.encoder, others, held))
                        self.model.train()

            start = None
            if head == "probe":
                start = linear_probe(embed(encoder, store, rows, base), targets[rows], rows, "binary", 2)
            plain, room._Fitting = room._Fitting, Watched
            try:
                recipe = Recipe(STEPS, batch_size=min(32, labels), lr=rate)
                model = fit(encoder, task, store, Labelled(rows, targets[rows]), recipe, base, seed=seed, head=start)
            finally:
                room._Fitting = plain
            chances = probabilities(task, predict(model, task, store, held, base))
            after = score("auroc", chances, targets[held], "binary")
            writer.writerow([labels, rate, head, seed, *(f"{v:.4f}" for v in (before, min(seen), seen[-1], after))])
            file.flush()


def _cases() -> Iterator[tuple[int, float, str, int]]:
    for labels in LABELS:
        for rate in RATES:
            for head in ("fresh", "probe"):
                for seed in SEEDS:
                    yield labels, rate, head, seed


if __name__ == "__main__":
    main(*sys.argv[1:])
