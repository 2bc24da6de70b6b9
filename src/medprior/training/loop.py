"""Pre-training: sample, cut views, take the loss, step; look again only between steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medprior.data.store.resident import ResidentStore, Stored
from medprior.methods.method import Batch, Clock, Losses, Method
from medprior.progress import Bar, Progress, silent
from medprior.training.checkpoint import load_checkpoint, save_checkpoint
from medprior.training.compiling import Report, Wanted, compiled
from medprior.training.device import Precision, channels_last, pixels_last, precision
from medprior.training.diagnosis import Diagnosis, Labels
from medprior.training.feed import Feed
from medprior.training.guard import Guard, Outcome, gradient_norms, mend, prepare, update
from medprior.training.interrupt import Stop, check, never
from medprior.training.optim import OptimizerPlan, decay_groups, make_optimizer, rate_at, set_schedule
from medprior.training.run import Run
from medprior.training.sampler import Sampler
from medprior.views.engine import render
from medprior.views.plan import ViewPlan
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View
from medprior.views.window import Crops

if TYPE_CHECKING:
    from medprior.data.volumestore.resident import ResidentVolumes

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
    precision: Precision = "auto"
    compile: Wanted = "auto"


class Trainer:
    """One method on one store: what a step needs, and how it is saved and taken up again.

    Attributes:
        views: what the method wants to see.
        base: the recipe that suits the data.
        wait: seconds that steps waited for their scans.
        report: is told in one line why something was not compiled.
    """

    def __init__(
        self,
        method: Method,
        store: ResidentStore | ResidentVolumes,
        rows: NDArray[np.int64],
        plan: PretrainPlan,
        base: ViewRecipe,
    ):
        self.method, self.store, self.plan, self.base = method, store, plan, base
        self.device = next(method.parameters()).device
        self.sampler = Sampler(rows, plan.batch_size, plan.seed)
        self.views: ViewPlan = method.views(base)
        self.convolves = method.encoder.kind == "cnn"
        if self.convolves:
            channels_last(method, method.encoder.spatial_dims)
        self.weights = [(name, weight) for name, weight in method.named_parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(plan.optimizer, decay_groups(self.weights, plan.optimizer.weight_decay))
        prepare(self.optimizer)
        self.step_number, self.wait = 0, 0.0
        self.report: Report = _unheard
        self._see = compiled(self._cut_views, plan.compile, self.device, lambda why: self.report(f"views: {why}"))
        self._losses = compiled(method, plan.compile, self.device, lambda why: self.report(f"the method: {why}"))
        self._feed: Feed | None = None

    def step(self) -> Outcome:
        """One optimiser step; what came of it is read later, and nothing here waits for the device."""
        number, plan = self.step_number, self.plan
        clock = Clock(number, plan.steps, self.sampler.epoch(number))
        torch.manual_seed(plan.seed * 1_000_003 + number)  # dropout-like layers: the same on every resume
        scans = self.fetch(number)
        self.method.before_update(clock)
        batch = Batch(index=scans.index, seed=plan.seed, clock=clock)
        views, bad = self.see(scans, batch.step)
        set_schedule(self.optimizer, plan.optimizer, number, plan.steps)
        losses, norms, names = self.learn(views, batch)
        self.method.after_update(clock)
        self.step_number += 1
        return Outcome(number, self.sampler.batch(number), losses, norms, names, bad)

    def fetch(self, number: int) -> Stored | Crops:
        """The scans of a step, on the device; the steps follow each other."""
        if self._feed is None:
            self._feed = Feed(self.store, self.sampler, self.views, self.plan.seed, first=number, last=self.plan.steps)
        before = self._feed.waited
        scans = self._feed.take(number)
        self.wait += self._feed.waited - before
        return scans

    def see(self, scans: Stored | Crops, step: Tensor) -> tuple[list[View], Tensor]:
        """The views of a step, and which images (B,) were not finite and are black."""
        return self._see(scans, step)

    def learn(self, views: Sequence[View], batch: Batch) -> tuple[Losses, Tensor, list[str]]:
        """Take the loss and move the weights, unless it or a gradient is not finite.

        Returns:
            The losses, the lengths (P,) of the gradients, and the names of their weights.
        """
        with precision(self.device, self.plan.precision):
            losses = self._losses(views, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["loss"])
        names, moved = zip(*[(n, w) for n, w in self.weights if w.grad is not None], strict=True)
        norms = gradient_norms(moved)
        length = torch.linalg.vector_norm(norms)
        if self.plan.optimizer.clip:
            torch.nn.utils.clip_grads_with_norm_(moved, self.plan.optimizer.clip, length)
        update(self.optimizer, sound=losses["loss"].detach().isfinite() & norms.isfinite().all())
        return losses, norms, list(names)

    def save(self, folder: Path) -> None:
        """Write a checkpoint of this moment."""
        state: dict[str, Any] = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(folder, self.step_number, state)

    def resume(self, folder: Path) -> int:
        """Take up the newest good checkpoint; returns its step, 0 when there is none."""
        state = load_checkpoint(folder)
        if state:
            self.close()
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step_number = int(state["step"])
        return self.step_number

    def close(self) -> None:
        """End the threads that read ahead; another step starts them anew."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _cut_views(self, scans: Stored | Crops, step: Tensor) -> tuple[list[View], Tensor]:
        with torch.no_grad():
            views, bad = mend(render(scans, self.views, seed=self.plan.seed, step=step))
            if self.convolves:
                views = [replace(view, pixels=pixels_last(view.pixels)) for view in views]
            return views, bad


def pretrain(
    trainer: Trainer,
    run: Run,
    *,
    title: str,
    labels: Labels | None = None,
    progress: Progress = silent,
    stop: Stop = never,
) -> float:
    """Train to the end of the plan, saving and diagnosing as it goes; returns the seconds spent in this call.

    Args:
        labels: nothing is learnt from them; they tell, as far as they are there, what embeddings know.

    Raises:
        Interrupted: a stop was asked for; a checkpoint was written first.
        RunError: the loss is no longer a number; the last checkpoint is kept.
        StoreError: the store was deleted or cut short; the last checkpoint is kept.
    """
    steps = trainer.plan.steps
    started = trainer.resume(run.checkpoints)
    run.forget_after(started)
    run.event("start", step=started, steps=steps)
    trainer.method.train()
    began = saved = time.perf_counter()
    with closing(trainer), progress.task(title, steps, "steps", done=started) as bar:
        watch = _Watch(trainer, run, progress, bar, began, Diagnosis(trainer, run, progress.say, labels))
        trainer.report = watch.eager
        while trainer.step_number < steps:
            outcome = trainer.step()
            watch.look()
            watch.outcome = outcome
            if watch.due(outcome.step):
                watch.look()
            bar.advance(1)
            now = time.perf_counter()
            if stop() or now - saved > trainer.plan.checkpoint_seconds:
                watch.look()
                trainer.save(run.checkpoints)
                saved = now
                check(stop)
    seconds = time.perf_counter() - began
    run.event("end", step=steps, seconds=round(seconds, 1))
    return seconds


@dataclass
class _Watch:
    """Reads what came of a step one step late, so that no step waits for the device, but at once where one is due."""

    trainer: Trainer
    run: Run
    progress: Progress
    bar: Bar
    began: float
    diagnosis: Diagnosis
    outcome: Outcome | None = None
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(type(self.trainer.method).__name__, self.run, self.progress.say)

    def due(self, step: int) -> bool:
        """Whether the embeddings are to be looked at as they are after this step."""
        return step in self.diagnosis.looks.moments

    def look(self) -> None:
        """Judge the step that waits; report it when it is one of the some hundred that are kept."""
        outcome, self.outcome = self.outcome, None
        if outcome is None:
            return
        reading = outcome.read()
        self.guard.judge(reading)
        if self.due(reading.step):
            self.diagnosis.look(reading)
        plan, step = self.trainer.plan, reading.step
        if step % max(1, plan.steps // LOGGED) and step + 1 != plan.steps:
            return
        self.run.log(step, {**reading.losses, "lr": rate_at(plan.optimizer, step, plan.steps)})
        share = self.trainer.wait / max(1e-9, time.perf_counter() - self.began)
        self.bar.note(f"loss {reading.losses['loss']:.3f}  wait {share:.0%}  {self.diagnosis.note}")

    def eager(self, why: str) -> None:
        """Say that something is not compiled."""
        self.run.event("eager", why=why)
        self.progress.say(f"Not compiled, which is slower but the same: {why}")


def _unheard(_why: str) -> None:
    """Where no run is there to be told."""
