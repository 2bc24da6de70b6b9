"""What PLAN.md leaves to a pilot, on training patients alone: python benchmarks/volumes/pilot.py SCANS OUT.

Writes pilot.csv beside this file. OUT holds the store. The hold-out is that of the study itself, and none of its test
patients is looked at.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medprior.backbones.encoder import Encoder
from medprior.config import Settings, load_settings
from medprior.study.ground import Ground, Resident, prepare
from medprior.study.outlining import annotated
from medprior.study.planning.reading import for_task, read_catalog
from medprior.study.pretraining import make_encoder, make_trainer
from medprior.training.descent import Recipe
from medprior.training.device import settle
from medprior.training.segment import fit_segmenter, predict_logits

HERE = Path(__file__).parent
DRAWS, LEARNT, LOOKED_AT, STEPS, PRETRAINED = 3, 4, 12, 200, 100
COLUMNS = ("draw", "arm", "rate", "decoder", "dice")


def main(scans: Path, out: Path) -> None:
    settle(1)
    out.mkdir(parents=True, exist_ok=True)
    settings = load_settings(assignments=["data.size=32", "adapt.crops=4"])
    catalog = for_task(read_catalog(scans, None, settings, out), settings, out)
    ground = prepare(catalog, settings, out, on_gpu=False)
    store = ground.store.resident("cpu")
    pool = annotated(ground, ground.splits[0].pool)
    rows = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(pool)
        learnt, held = np.sort(order[:LEARNT]), order[LEARNT : LEARNT + LOOKED_AT]
        scratch = make_encoder(ground, store, "unet_8", fold=0, seed=draw)
        by_rate = {rate: dice(ground, store, scratch, learnt, held, rate, 1.0) for rate in (1e-3, 3e-3)}
        rows += [(draw, "scratch", rate, "fresh", value) for rate, value in by_rate.items()]
        encoder, decoder = genesis(ground, store, settings, np.setdiff1d(pool, held), draw)
        for name, start in (("kept", decoder), ("fresh", None)):
            for rate in by_rate:
                value = dice(ground, store, encoder, learnt, held, rate, 0.75, start)
                rows.append((draw, "genesis", rate, name, value))
        write(rows)


def genesis(
    ground: Ground, store: Resident, settings: Settings, rows: np.ndarray, seed: int
) -> tuple[Encoder, Mapping[str, Tensor]]:
    """A brief Models Genesis on `rows` alone."""
    split = replace(ground.splits[0], val=rows[:0], pool=rows, unlabelled=rows[:0])
    seen = replace(ground, splits=(split,))
    trainer = make_trainer(seen, store, settings, "genesis", "unet_8", fold=0, seed=seed, steps=PRETRAINED)
    trainer.method.train()
    for _ in range(PRETRAINED):
        trainer.step()
    trainer.close()
    return trainer.method.encoder, trainer.method.parts()["decoder"].state_dict()


def dice(
    ground: Ground,
    store: Resident,
    encoder: Encoder,
    learnt: np.ndarray,
    held: np.ndarray,
    rate: float,
    decay: float,
    decoder: Mapping[str, Tensor] | None = None,
) -> float:
    """Mean over volumes, then classes, on the stored grid."""
    recipe = Recipe(STEPS, ground.crops, lr=rate, layer_decay=decay)
    model = fit_segmenter(
        encoder, ground.outlines, store, learnt, recipe, ground.base, foreground=ground.foreground, seed=0,
        decoder=decoder,
    )  # fmt: skip
    found = []
    for row in held.tolist():
        labels = predict_logits(model, store, row, ground.base.shape, overlap=0.25).argmax(0)
        truth = torch.from_numpy(ground.volumes.mask(row).astype(np.int64))
        classes = range(1, ground.task.outputs)
        both = [((labels == k).sum() + (truth == k).sum(), ((labels == k) & (truth == k)).sum()) for k in classes]
        found.append([float(2 * shared / sizes) if sizes else np.nan for sizes, shared in both])
    return float(np.nanmean(np.nanmean(found, axis=0)))


def write(rows: list[tuple[object, ...]]) -> None:
    with (HERE / "pilot.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    print(*rows[-1], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
