"""What is compared: pre-training runs, and the cells (arm x budget x seed x fold) that rest on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

AdaptationName = Literal["scratch", "scratch-2x", "probe", "fine-tune"]
SCRATCH = "scratch"
GIVEN = "given"
"""The arm of an encoder that was pre-trained elsewhere."""
IMAGENET = "imagenet"
"""The arm of the weights that were published for an encoder."""
BORROWED = frozenset({GIVEN, IMAGENET})
"""Arms whose encoders are taken as they are."""


def begun_at(arm: str) -> str | None:
    """Where the arm of that name begins, if not at random weights: `given+mae` pre-trains the given encoder further."""
    start = arm.partition("+")[0]
    return start if start in BORROWED else None


def method_of(arm: str) -> str:
    """The method that an arm of that name is pre-trained with."""
    return arm.partition("+")[2] if begun_at(arm) else arm


@dataclass(frozen=True)
class Pretraining:
    """One method on one encoder, for one fold and one pre-training seed; `method` is as `begun_at` reads it."""

    method: str
    backbone: str
    fold: int
    seed: int

    @property
    def folder(self) -> str:
        """Its place below the study's folder."""
        return f"pretrain/{self.method}-{self.backbone}/fold-{self.fold}-seed-{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One training and one test: the smallest piece of a study that is resumed or repeated."""

    arm: str
    backbone: str
    adaptation: AdaptationName
    budget: int
    seed: int
    fold: int
    pretraining: Pretraining | None

    @property
    def key(self) -> str:
        """Its file name below `cells/`."""
        return f"{self.arm}-{self.backbone}-{self.adaptation}-{self.budget}-seed-{self.seed}-fold-{self.fold}"


@dataclass(frozen=True)
class Grid:
    """The whole study: `methods` are (method, backbone) pairs; every backbone brings its own scratch arms."""

    methods: tuple[tuple[str, str], ...]
    adaptations: tuple[AdaptationName, ...]
    budgets: tuple[int, ...]
    seeds: int
    pretrain_seeds: int
    folds: int

    @property
    def backbones(self) -> list[str]:
        """Every encoder once, in the order of the methods."""
        return list(dict.fromkeys(backbone for _, backbone in self.methods))

    def pretrainings(self) -> Iterator[Pretraining]:
        """Every pre-training the study needs, one seed and fold after the other."""
        for seed in range(self.pretrain_seeds):
            for fold in range(self.folds):
                for method, backbone in self.methods:
                    yield Pretraining(method, backbone, fold, seed)

    def cells(self) -> Iterator[Cell]:
        """Every cell, seed by seed, so that a stopped study has whole seeds rather than whole arms."""
        for seed in range(self.seeds):
            for fold in range(self.folds):
                for budget in self.budgets:
                    yield from self._arms(budget, seed, fold)

    def _arms(self, budget: int, seed: int, fold: int) -> Iterator[Cell]:
        lengths: tuple[AdaptationName, ...] = ("scratch", "scratch-2x")
        for backbone in self.backbones:
            for length in lengths:
                yield Cell(SCRATCH, backbone, length, budget, seed, fold, None)
        for method, backbone in self.methods:
            pretraining = Pretraining(method, backbone, fold, seed % self.pretrain_seeds)
            for adaptation in self.adaptations:
                yield Cell(method, backbone, adaptation, budget, seed, fold, pretraining)
