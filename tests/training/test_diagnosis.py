"""The diagnosis: a few looks that change nothing, one sentence where a method collapses, none where it does not."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore
from medprior.data.store.resident import ResidentStore
from medprior.errors import Interrupted
from medprior.evaluation.representation import deviation
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, DataFacts, Losses, Method
from medprior.methods.simsiam import SimSiam
from medprior.objectives.agreement import negative_cosine
from medprior.progress import silent
from medprior.training.collapse import Space, collapses
from medprior.training.diagnosis import SHARE, Diagnosis, Labels, embeddings, fixed_rows, plan_looks
from medprior.training.guard import Reading
from medprior.training.loop import PretrainPlan, Trainer, pretrain
from medprior.training.optim import OptimizerPlan
from medprior.training.run import Run
from medprior.views.plan import independent
from medprior.views.recipe import base_recipe
from medprior.views.view import View

HEADS = {
    "simclr": {"projection": [64, 32]},
    "byol": {"projection": [64, 32], "prediction": 64, "momentum": 0.99},
    "simsiam": {"projection": [64, 64], "prediction": 32},
    "dino": {"outputs": 64, "hidden": 48, "bottleneck": 16, "local_count": 1},
}
SPACE = Space(width=64, images=64, method="byol")


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ResidentStore:
    catalog = build_catalog(cohort.parent)
    return PixelStore.build(catalog, tmp_path_factory.mktemp("store"), size=16).resident(torch.device("cpu"))


def make_trainer(store: ResidentStore, name: str, steps: int = 6, lr: float = 1e-3, **settings: float) -> Trainer:
    encoder = create_encoder("test_vit", in_channels=1, size=16, mean=[0.4], std=[0.2], seed=0)
    facts = DataFacts(count=60, channels=1, spatial_dims=2, size=16, mean=(0.4,), std=(0.2,))
    method = create_method(name, encoder, overrides=HEADS[name] | settings, facts=facts, seed=0)
    plan = PretrainPlan(steps, 16, OptimizerPlan("adamw", lr), seed=5, checkpoint_seconds=0)
    return Trainer(method, store, np.arange(60), plan, base_recipe(None, 16))


def labels_of(rows: np.ndarray) -> Labels:
    return Labels(rows, (rows % 2).astype(float), rows, "binary", 2)


class Spoken:
    """A Progress that keeps what is said, and the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, amount: float = 1) -> None:
        """Nobody counts."""

    def task(self, title: str, total: float | None, unit: str = "", done: float = 0) -> Spoken:
        return self

    def __enter__(self) -> Spoken:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Stopping:
    """Asks to stop after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def embedded(method: Method) -> list[int]:
    """Images of every embedding that is made in evaluation."""
    counts: list[int] = []

    def count(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if not method.encoder.training:
            counts.append(len(inputs[0]))

    method.encoder.register_forward_pre_hook(count)
    return counts


def events(folder: Path, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event for event in found if event["event"] == kind]


@pytest.mark.parametrize(
    ("steps", "batch", "views", "available"),
    [(1000, 64, 1, 900), (1000, 64, 2, 900), (100_000, 256, 2, 20_000), (7000, 64, 4.5, 20_000), (300, 64, 2, 40)],
)
def test_looks_cost_their_share_at_most(steps: int, batch: int, views: float, available: int) -> None:
    looks = plan_looks(steps, batch, views, available)
    assert len(looks.moments) * (looks.rows + 2 * looks.pairs) <= SHARE * steps * batch * views + 1
    assert looks.moments[0] == 0
    assert looks.moments[-1] == steps - 1
    assert 2 <= len(looks.moments) <= 40
    assert min(64, available) <= looks.rows <= min(256, available)


def test_a_long_run_has_forty_looks_at_256_and_a_short_one_two() -> None:
    long, short = plan_looks(100_000, 256, 2, 20_000), plan_looks(6, 8, 1, 900)
    assert (len(long.moments), long.rows, long.pairs) == (40, 256, 64)
    assert (short.moments, short.rows) == ((0, 5), 64)
    assert np.ptp(np.diff(long.moments)) <= 1
    assert plan_looks(1, 8, 1, 900).moments == (0,)


def test_half_of_the_rows_are_labelled_where_there_are_as_many() -> None:
    rows, labelled = np.arange(0, 2000, 2), np.arange(0, 300, 3)
    chosen = fixed_rows(rows, labelled, 64, seed=1)
    assert len(set(chosen.tolist())) == 64
    assert set(chosen) <= set(rows)
    assert 32 <= np.isin(chosen, labelled).sum() < 48
    assert np.array_equal(chosen, fixed_rows(rows, labelled, 64, seed=1))
    assert not np.array_equal(chosen, fixed_rows(rows, labelled, 64, seed=2))
    assert len(fixed_rows(rows, labelled[:2], 64, seed=1)) == 64


def test_a_run_embeds_what_was_planned(store: ResidentStore, tmp_path: Path) -> None:
    trainer, spoken = make_trainer(store, "simclr", steps=6), Spoken()
    counts = embedded(trainer.method)
    run = Run.open(tmp_path, {})
    pretrain(trainer, run, title="simclr", labels=labels_of(np.arange(60)), progress=spoken)
    looks = plan_looks(6, 16, 2, 60)
    assert sum(counts) == len(looks.moments) * (looks.rows + 2 * looks.pairs)
    assert max(counts) <= 16
    curves = run.curves("diagnosis")
    projected = ["projected_deviation", "projected_rank"]
    probed = ["probe_auroc", "probe_accuracy"]
    assert list(curves) == ["deviation", "effective_rank", "alignment", "uniformity", *projected, *probed]
    assert all(steps == list(looks.moments) and np.isfinite(values).all() for steps, values in curves.values())
    assert spoken.notes[-1].endswith(f"rank {curves['effective_rank'][1][-1]:.0f}/60")
    assert trainer.method.training


def test_looking_changes_nothing_of_the_method(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "byol")
    trainer.method.train()
    trainer.method.predictor.eval()
    before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    state, modes = torch.get_rng_state(), [part.training for part in trainer.method.modules()]
    diagnosis = Diagnosis(trainer, Run.open(tmp_path, {}), silent.say)
    diagnosis.look(Reading(0, {"loss": 1.0}, (), (), 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in trainer.method.modules()] == modes
    for name, value in trainer.method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_embeddings_are_those_of_the_encoder_in_evaluation(store: ResidentStore) -> None:
    trainer = make_trainer(store, "simclr")
    trainer.method.train()
    rows, views = np.array([7, 3, 59]), independent(trainer.base.plain(), 1)
    (first,), (again,) = embeddings(trainer, rows, views), embeddings(trainer, rows[::-1].copy(), views)
    assert first.shape == (3, trainer.method.encoder.embed_dim)
    np.testing.assert_allclose(again, first.flip(0), rtol=1e-4, atol=1e-6)


def test_a_stopped_run_is_diagnosed_as_one_that_was_not(store: ResidentStore, tmp_path: Path) -> None:
    known = labels_of(np.arange(0, 60, 2))
    pretrain(make_trainer(store, "dino"), Run.open(tmp_path / "whole", {}), title="dino", labels=known)
    for patience in (0, 2, 3):
        with pytest.raises(Interrupted):
            run, trainer = Run.open(tmp_path / "parts", {}), make_trainer(store, "dino")
            pretrain(trainer, run, title="dino", labels=known, stop=Stopping(patience))
    pretrain(make_trainer(store, "dino"), Run.open(tmp_path / "parts", {}), title="dino", labels=known)
    whole, parts = [(tmp_path / place / "diagnosis.csv").read_bytes() for place in ("whole", "parts")]
    assert whole == parts
    assert b"teacher_entropy" in whole


def test_a_look_after_the_last_checkpoint_is_made_again(store: ResidentStore, tmp_path: Path) -> None:
    run = Run.open(tmp_path, {})
    for step in range(4):
        run.log(step, {"loss": 1.0})
        run.log(step, {"deviation": 0.1 * step}, "diagnosis")
    run.forget_after(2)
    assert run.curves("diagnosis") == {"deviation": ([0, 1], [0, 0.1])}
    assert run.curves() == {"loss": ([0, 1], [1, 1])}


def test_only_labels_of_rows_that_are_learned_from_are_asked(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "simclr")
    looks = {}
    for name, known in {"some": labels_of(np.arange(40, 90)), "none": labels_of(np.arange(60, 120))}.items():
        run = Run.open(tmp_path / name, {})
        Diagnosis(trainer, run, silent.say, known).look(Reading(0, {"loss": 1.0}, (), (), 16))
        looks[name] = run.curves("diagnosis")
    assert "probe_auroc" in looks["some"]
    assert "probe_auroc" not in looks["none"]
    assert labels_of(np.arange(40, 90)).of(np.array([61, 3, 45])).rows.tolist() == [61, 45]


def without_stop_gradient(method: SimSiam) -> None:
    """Let the target learn too: the published way to a collapse (Chen and He, figure 2)."""

    def forward(self: SimSiam, views: Sequence[View], batch: Batch) -> Losses:
        z = self.projector(self.embed(torch.cat([view.pixels for view in views])))
        (p1, p2), (z1, z2) = self.predictor(z).chunk(2), z.chunk(2)
        return {"loss": negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2}

    method.forward = types.MethodType(forward, method)  # type: ignore[method-assign]


def watched(trainer: Trainer, run: Run, every: int) -> list[str]:
    """Train to the end with looks more often than a run so short may have; returns what was said."""
    spoken = Spoken()
    diagnosis = Diagnosis(trainer, run, spoken.say)
    trainer.method.train()
    with closing(trainer):
        for step in range(trainer.plan.steps):
            outcome = trainer.step()
            if step % every == 0:
                diagnosis.look(outcome.read())
    return spoken.lines


def test_simsiam_without_stop_gradient_is_called(store: ResidentStore, tmp_path: Path) -> None:
    trainer, run = make_trainer(store, "simsiam", steps=57, lr=3e-3), Run.open(tmp_path, {})
    without_stop_gradient(trainer.method)  # type: ignore[arg-type]
    lines = watched(trainer, run, every=8)
    called = events(tmp_path, "collapse")
    assert {event["cause"] for event in called} >= {"embeddings at one point", "projections at one point"}
    assert len(lines) == len(set(lines)) == len(called)
    for line, event in zip(lines, called, strict=True):
        assert f"since step {event['since']:,}" in line
        assert "For simsiam: lower the rate (pretrain.lr)" in line
    assert Diagnosis(trainer, run, silent.say).sentences() == lines
    (seen,) = embeddings(trainer, np.arange(60), independent(trainer.base.plain(), 1))
    assert deviation(seen) < 0.1 * seen.shape[1] ** -0.5


def test_a_teacher_that_copies_its_pupil_collapses_and_is_called(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "byol", steps=57, lr=3e-3, momentum=0.0)
    trainer.method.predictor = torch.nn.Identity()
    lines = watched(trainer, Run.open(tmp_path, {}), every=8)
    assert any(line.startswith("The standard deviation of projections") for line in lines)


def test_a_teacher_without_centring_is_called(store: ResidentStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, "dino", steps=57, lr=3e-3, momentum=0.8, centre_momentum=0.999999)
    (line,) = watched(trainer, Run.open(tmp_path, {}), every=8)
    assert line.startswith("The entropy of the teacher is ")
    assert "one output takes every image" in line


@pytest.mark.parametrize("name", sorted(HEADS))
def test_healthy_runs_are_left_in_peace(store: ResidentStore, name: str, tmp_path: Path) -> None:
    assert watched(make_trainer(store, name, steps=57), Run.open(tmp_path, {}), every=8) == []


def said(space: Space = SPACE, **figures: list[float]) -> list[tuple[str, int, int]]:
    steps = [10.0 * i for i in range(len(next(iter(figures.values()))))]
    found = collapses({name: (steps, values) for name, values in figures.items()}, space)
    return [(each.cause, each.since, each.at) for each in found]


def test_one_point_needs_two_looks_and_a_fall() -> None:
    assert said(deviation=[0.08, 0.06, 0.001, 0.001, 0.0001]) == [("embeddings at one point", 20, 30)]
    assert said(deviation=[0.08, 0.001, 0.06, 0.001, 0.06]) == []
    assert said(deviation=[0.002, 0.002, 0.003, 0.01]) == []
    assert said(deviation=[0.08, 0.013, 0.013]) == []


def test_few_directions_are_few_against_what_there_were() -> None:
    assert said(effective_rank=[30.0, 28.0, 2.5, 2.4]) == [("embeddings along few directions", 20, 30)]
    assert said(effective_rank=[8.0, 1.5, 1.4]) == [("embeddings along few directions", 10, 20)]
    assert said(effective_rank=[1.5, 1.4, 1.6, 6.0]) == []
    assert said(effective_rank=[40.0, 20.0, 15.0, 14.0]) == []


def test_a_teacher_at_either_end_is_called_when_it_stays() -> None:
    space = Space(64, 64, "dino", outputs=1000)
    assert said(space, teacher_entropy=[4.0, *[0.01] * 5]) == [("one output", 10, 50)]
    assert said(space, teacher_entropy=[6.9] * 6) == [("even outputs", 0, 40)]
    assert said(space, teacher_entropy=[6.9, 6.9, 6.9, 6.8, 5.0, 4.0, 3.0, 2.0]) == []


def test_what_is_said_of_a_step_depends_on_nothing_later() -> None:
    values = [0.08, 0.06, 0.001, 0.001, 0.0001, 0.09, 0.2]
    told = [said(deviation=values[:count]) for count in range(1, 8)]
    assert told == [[]] * 3 + [[("embeddings at one point", 20, 30)]] * 4


def test_a_sentence_says_what_was_seen_since_when_and_what_to_do() -> None:
    found = collapses({"deviation": ([0.0, 40.0, 80.0], [0.05, 0.002, 0.0021])}, Space(512, 64, "byol"))
    assert [each.sentence for each in found] == [
        "The standard deviation of embeddings is 0.0021 where 0.044 fills the space, since step 40: all images are "
        "mapped to about one point. For byol: raise the momentum of the teacher (byol.momentum), lower the rate "
        "(pretrain.lr)."
    ]
    (other,) = collapses({"effective_rank": ([0.0, 1.0, 2.0], [30.0, 1.0, 1.0])}, Space(512, 64, "new"))
    assert other.sentence.endswith("For new: lower the rate (pretrain.lr), enlarge the batch (pretrain.batch_size).")
