"""SimCLR through medprior against a bare PyTorch loop: same images, same views, same model, same batch, alternating.

    python benchmarks/step/simclr_step.py --out benchmarks/step/simclr_step.json

Both train a ResNet-18 on 64 px views of generated X-rays that are resident as tensors. The bare loop is what one would
write by hand: index, cut the views, forward, loss, backward, step. medprior's side is `pretrain`, with its sampler,
schedule, logging and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.phantom import make_cohort
from medprior.data.store.pixels import PixelStore
from medprior.methods.factory import create_method
from medprior.methods.method import DataFacts
from medprior.objectives.contrastive import nt_xent
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan
from medprior.training.run import Run
from medprior.views.engine import render
from medprior.views.plan import independent
from medprior.views.recipe import base_recipe


def build(folder: Path, images: int):
    labels = make_cohort(folder / "cohort", patients=images, seed=0, size=64)
    catalog = build_catalog(labels.parent)
    store = PixelStore.build(catalog, folder / "store", size=64)
    return catalog, store


def make_method(store: PixelStore, count: int):
    encoder = create_encoder("resnet18", in_channels=store.channels, size=64, mean=store.mean, std=store.std, seed=0)
    facts = DataFacts(
        count=count,
        channels=store.channels,
        spatial_dims=2,
        size=64,
        mean=tuple(store.mean),
        std=tuple(store.std),
        labels=(),
    )
    return create_method("simclr", encoder, preset="small", overrides=None, facts=facts)


def medprior_rate(catalog, store, batch: int, steps: int, folder: Path) -> float:
    """Pairs per second of `pretrain`, first steps left out."""
    method = make_method(store, len(catalog))
    plan = PretrainPlan(steps, batch, OptimizerPlan("adamw", 1e-3), seed=0, checkpoint_seconds=60)
    rows = torch.arange(len(catalog)).numpy()
    trainer = Trainer(method, store.resident(torch.device("cpu")), rows, plan, base_recipe(None, 64))
    for _ in range(2):
        trainer.step()
    trainer.step_number = 0
    seconds = pretrain(trainer, Run.open(folder, {}), title="medprior")
    return batch * steps / seconds


def bare_rate(catalog, store, batch: int, steps: int) -> float:
    """Pairs per second of a loop written by hand."""
    method = make_method(store, len(catalog))
    resident = store.resident(torch.device("cpu"))
    views = independent(base_recipe(None, 64).contrastive(), count=2)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    method.train()

    def step(number: int) -> None:
        stored = resident.batch(torch.randint(len(catalog), (batch,)))
        first, second = render(stored, views, seed=0, step=number)
        z1, z2 = (method.projector(method.encoder.pool(method.encoder(v.pixels))) for v in (first, second))
        loss = nt_xent(z1, z2, method.config.temperature)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for number in range(2):
        step(number)
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return batch * steps / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        catalog, store = build(folder, options.images)
        pairs = []
        for number in range(options.rounds):
            ours = medprior_rate(catalog, store, options.batch, options.steps, folder / f"run-{number}")
            bare = bare_rate(catalog, store, options.batch, options.steps)
            pairs.append({"medprior": ours, "bare": bare, "ratio": ours / bare})
            print(
                f"round {number + 1}: medprior {ours:.1f} pairs/s, bare {bare:.1f}, ratio {ours / bare:.3f}", flush=True
            )
    ratio = statistics.median(p["ratio"] for p in pairs)
    print(f"median ratio {ratio:.3f}")
    if options.out:
        facts = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
        asked = {k: v for k, v in vars(options).items() if k != "out"}
        options.out.write_text(
            json.dumps({**asked, **facts, "rounds_measured": pairs, "median_ratio": ratio}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
