"""Pre-training: sample, cut views, take the loss, step; look again only between steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.data.store.pixels import ResidentStore
from medprior.errors import RunError
from medprior.methods.method import Batch, Clock, Method
from medprior.progress import Bar, Progress, silent
from medprior.training.checkpoint import load_checkpoint, save_checkpoint
from medprior.training.device import precision
from medprior.training.interrupt import Stop, check, never
from medprior.training.optim import OptimizerPlan, cosine, decay_groups, make_optimizer, set_rate
from medprior.training.run import Run
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.plan import ViewPlan
from medprior.views.recipe import ViewRecipe

LOGGED = 400
"""About how many steps of a run are written to its metrics."""


@dataclass(frozen=True)
class PretrainPlan:
    """How long, how many at once, and how the weights move. Fixed when the plan is made."""

    steps: int
    batch_size: int
    optimizer: OptimizerPlan
    seed: int
    checkpoint_seconds: float = 60.0


class Trainer:
    """One method on one store: what a step needs, and how it is saved and taken up again."""

    def __init__(
        self, method: Method, store: ResidentStore, rows: NDArray[np.int64], plan: PretrainPlan, base: ViewRecipe
    ):
        self.method, self.store, self.plan = method, store, plan
        self.device = next(method.parameters()).device
        self.sampler = Sampler(rows, plan.batch_size, plan.seed)
        self.views: ViewPlan = method.views(base)
        trained = ((n, p) for n, p in method.named_parameters())
        self.optimizer = make_optimizer(plan.optimizer, decay_groups(trained, plan.optimizer.weight_decay))
        self.step_number = 0
        self.wait = 0.0

    def step(self) -> dict[str, torch.Tensor]:
        """One optimiser step; the losses stay on the device."""
        number, plan = self.step_number, self.plan
        clock = Clock(number, plan.steps, self.sampler.epoch(number))
        torch.manual_seed(plan.seed * 1_000_003 + number)  # dropout-like layers: the same on every resume
        began = time.perf_counter()
        stored = self.store.batch(torch.from_numpy(self.sampler.batch(number)))
        self.wait += time.perf_counter() - began
        self.method.before_update(clock)
        with torch.no_grad():
            views = render(stored, self.views, seed=plan.seed, step=number)
        with precision(self.device):
            losses = self.method(views, Batch(index=stored.index, seed=plan.seed, clock=clock))
        set_rate(self.optimizer, plan.optimizer.lr * cosine(number, plan.steps, plan.optimizer.warmup))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["loss"])
        if plan.optimizer.clip:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), plan.optimizer.clip)
        self.optimizer.step()
        self.method.after_update(clock)
        self.step_number += 1
        return {name: value.detach() for name, value in losses.items()}

    def save(self, folder: Path) -> None:
        """Write a checkpoint of this moment."""
        state: dict[str, Any] = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(folder, self.step_number, state)

    def resume(self, folder: Path) -> int:
        """Take up the newest good checkpoint; returns its step, 0 when there is none."""
        state = load_checkpoint(folder)
        if state:
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step_number = int(state["step"])
        return self.step_number


def pretrain(trainer: Trainer, run: Run, *, title: str, progress: Progress = silent, stop: Stop = never) -> float:
    """Train to the end of the plan, saving as it goes; returns the seconds spent in this call.

    Raises:
        Interrupted: a stop was asked for; a checkpoint was written first.
        RunError: the loss is no longer a number; the last checkpoint is kept.
    """
    steps = trainer.plan.steps
    started = trainer.resume(run.checkpoints)
    run.forget_after(started)
    run.event("start", step=started, steps=steps)
    trainer.method.train()
    began = saved = time.perf_counter()
    with progress.task(title, steps, "steps", done=started) as bar:
        watch = _Watch(trainer, run, bar, began)
        while trainer.step_number < steps:
            losses = trainer.step()
            watch.look()
            watch.losses = losses
            bar.advance(1)
            now = time.perf_counter()
            if stop() or now - saved > trainer.plan.checkpoint_seconds:
                watch.look()
                trainer.save(run.checkpoints)
                saved = now
                check(stop)
        watch.look()
    seconds = time.perf_counter() - began
    run.event("end", step=steps, seconds=round(seconds, 1))
    return seconds


@dataclass
class _Watch:
    """Reads the losses one step late, so that no step waits for the device."""

    trainer: Trainer
    run: Run
    bar: Bar
    began: float
    losses: dict[str, torch.Tensor] | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        self.seen = self.trainer.step_number

    def look(self) -> None:
        """Report the losses that wait, when their step is one of the some hundred that are kept."""
        losses, self.losses = self.losses, None
        if losses is None:
            return
        step, self.seen = self.seen, self.seen + 1
        plan = self.trainer.plan
        if step % max(1, plan.steps // LOGGED) and step + 1 != plan.steps:
            return
        values = {name: float(value) for name, value in losses.items()}
        if not np.isfinite(values["loss"]):
            raise RunError(
                f"the loss of {type(self.trainer.method).__name__} is {values['loss']} at step {step}",
                where=str(self.run.folder),
                do="Lower the rate (--set pretrain.lr=...) and repeat in another --out",
            )
        self.run.log(step, {**values, "lr": plan.optimizer.lr * cosine(step, plan.steps, plan.optimizer.warmup)})
        share = self.trainer.wait / max(1e-9, time.perf_counter() - self.began)
        self.bar.note(f"loss {values['loss']:.3f}  wait {share:.0%}")
