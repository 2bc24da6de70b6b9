"""Does pre-training in bf16 follow the same loss curve as in fp32?

    python benchmarks/precision/run.py --out benchmarks/precision/results.json --figure benchmarks/precision/curves.svg

SimCLR and MAE on generated X-rays, 200 steps, three seeds, each in three ways from the same seed: fp32; fp32 whose
initial weights are nudged by one part in a million, which is what rounding alone does to a curve; and bf16 by autocast.

The criterion, written before the first run: averaged over the seeds, the mean loss of the last 50 steps in bf16
differs from that in fp32 by less than the standard deviation of that mean between seeds in fp32.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from curves import draw
from scipy import stats

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.phantom import make_cohort
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts, Method
from medprior.training.device import precision
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.recipe import base_recipe

SIZE, IMAGES, BATCH = 32, 256, 32
METHODS = {"simclr": "test_resnet", "mae": "vit_micro_patch8"}
WAYS = ("fp32", "fp32 nudged", "bf16")
LAST = 50
RATE, DECAY, WARMUP = 1e-3, 0.05, 0.1


@dataclass(frozen=True)
class Setting:
    store: ResidentStore
    steps: int

    @property
    def device(self) -> torch.device:
        return self.store.device


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_flush_denormal(True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        setting = Setting(make_store(Path(place)).resident(torch.device(asked.device)), asked.steps)
        curves, seconds = train_all(setting, range(asked.seeds))
    found = {name: judge(curves[name]) for name in METHODS}
    for name, facts in found.items():
        print(name, json.dumps(facts))
    minutes = (time.perf_counter() - began) / 60
    print(f"{minutes:.1f} minutes")
    if asked.out:
        asked.out.write_text(json.dumps(record(asked, found, seconds, curves), indent=1) + "\n")
    if asked.figure:
        asked.figure.write_text(draw(curves, LAST))


def make_store(folder: Path) -> PixelStore:
    labels = make_cohort(folder / "cohort", patients=IMAGES, seed=0, size=2 * SIZE)
    return PixelStore.build(build_catalog(labels.parent), folder / "store", size=2 * SIZE)


def train_all(setting: Setting, seeds: range) -> tuple[dict, dict]:
    """Loss curves and median seconds of a step by method, way and seed; the ways alternate."""
    curves = {name: {way: [] for way in WAYS} for name in METHODS}
    seconds = {name: {way: [] for way in WAYS} for name in METHODS}
    for seed in seeds:
        for name in METHODS:
            for way in WAYS:
                losses, each = train(setting, name, way, seed)
                curves[name][way].append(losses)
                seconds[name][way].append(round(float(np.median(each)), 4))
                print(f"{name} seed {seed} {way}: {np.mean(losses[-LAST:]):.4f}", flush=True)
    return curves, seconds


def train(setting: Setting, name: str, way: str, seed: int) -> tuple[list[float], list[float]]:
    """The loss of every step, and its seconds."""
    method = make_method(setting, name, seed)
    if way == "fp32 nudged":
        nudge(method, seed)
    optimizer = torch.optim.AdamW(method.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, setting.steps))
    sampler = Sampler(np.arange(IMAGES), BATCH, seed)
    plan = method.views(base_recipe(None, SIZE))
    losses, seconds = [], []
    for step in range(setting.steps):
        began = time.perf_counter()
        torch.manual_seed(seed * 1_000_003 + step)
        stored = setting.store.batch(torch.from_numpy(sampler.batch(step)))
        views = render(stored, plan, seed=seed, step=step)
        batch = Batch(index=stored.index, seed=seed, clock=Clock(step, setting.steps, sampler.epoch(step)))
        with precision(setting.device, "bf16" if way == "bf16" else "fp32"):
            loss = method(views, batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - began)
    return losses, seconds


def make_method(setting: Setting, name: str, seed: int) -> Method:
    store = setting.store.store
    mean, std = tuple(store.mean), tuple(store.std)
    encoder = create_encoder(METHODS[name], in_channels=1, size=SIZE, mean=mean, std=std, seed=seed)
    facts = DataFacts(count=IMAGES, channels=1, spatial_dims=2, size=SIZE, mean=mean, std=std)
    return create_method(name, encoder, preset="small", facts=facts, seed=seed).to(setting.device).train()


@torch.no_grad()
def nudge(method: Method, seed: int) -> None:
    """Every weight by a factor within one part in a million of 1."""
    generator = torch.Generator().manual_seed(seed)
    for weight in method.parameters():
        noise = torch.rand(weight.shape, generator=generator).to(weight.device)
        weight.mul_(1 + 1e-6 * (2 * noise - 1))


def rate(step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine."""
    rise = round(steps * WARMUP)
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def judge(curves: dict[str, list[list[float]]]) -> dict:
    """The criterion, and paired differences to fp32 with their 95 % intervals over the seeds."""
    last = {way: np.mean(np.array(seeds)[:, -LAST:], axis=1) for way, seeds in curves.items()}
    between = float(last["fp32"].std(ddof=1))
    facts = {"last": {way: [round(float(v), 5) for v in means] for way, means in last.items()}}
    facts["between_seeds"] = round(between, 5)
    facts["fell_in_fp32"] = round(float(np.mean(np.array(curves["fp32"])[:, :5]) - last["fp32"].mean()), 5)
    for way in WAYS[1:]:
        apart = last[way] - last["fp32"]
        half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart))
        facts[way] = {"difference": round(float(apart.mean()), 5), "interval_95": round(float(half), 5)}
    facts["agrees"] = bool(abs(facts["bf16"]["difference"]) < between)
    return facts


def record(asked: argparse.Namespace, found: dict, seconds: dict, curves: dict) -> dict:
    where = torch.cuda.get_device_name() if asked.device.startswith("cuda") else platform.machine()
    about = {"device": where, "threads": asked.threads, "cores": os.cpu_count(), "torch": torch.__version__}
    asked_for = {"steps": asked.steps, "seeds": asked.seeds, "batch": BATCH, "encoders": METHODS}
    rounded = {
        name: {way: [[round(loss, 4) for loss in losses] for losses in seeds] for way, seeds in ways.items()}
        for name, ways in curves.items()
    }
    return {**about, **asked_for, "found": found, "seconds_per_step": seconds, "curves": rounded}


if __name__ == "__main__":
    main()
