"""What is measured: the same task for every side, written out in full for each process."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

PEERS = ("ours", "lightly", "lightly on our store")


@dataclass(frozen=True)
class Task:
    """One comparison.

    Attributes:
        name: what `--only` names it by.
        size: side of a view; `stored` that of medprior's store, `side` that of the files.
        images: how many files (or volumes).
        epochs: passes over them; the first counts in "whole" alone.
        sides: who is measured.
    """

    name: str
    method: str
    backbone: str
    size: int
    batch: int
    images: int
    side: int = 512
    dims: int = 2
    preset: str = "small"
    epochs: int = 3
    sides: tuple[str, ...] = PEERS

    @property
    def stored(self) -> int:
        """Twice the view, as medprior chooses."""
        return min(2 * self.size, self.side) if self.dims == 2 else self.side

    def toy(self) -> Task:
        """The same task so small that it only shows that everything runs."""
        backbone = "test_vit" if "vit" in self.backbone else "test_resnet"
        size, side = (32, 64) if self.dims == 2 else (32, 48)
        return replace(self, backbone=backbone, size=size, side=side, batch=4, images=12, epochs=2, preset="small")


CPU = (
    Task("simclr-64", "simclr", "resnet18", size=64, batch=64, images=640, epochs=4),
    Task("simclr-128", "simclr", "resnet18", size=128, batch=32, images=320),
    Task("mae-64", "mae", "vit_tiny", size=64, batch=64, images=640, epochs=8),
)
_LARGE = {"size": 224, "batch": 256, "images": 2560, "preset": "paper", "epochs": 5}
_VOLUMES = {"size": 96, "batch": 128, "images": 128, "side": 144, "dims": 3, "preset": "paper", "epochs": 30}
GPU = (
    Task("simclr-224", "simclr", "resnet50", **_LARGE),
    Task("mae-224", "mae", "vit_base", **_LARGE),
    Task("twoview-224", "simclr", "vit_small", **_LARGE, sides=("ours", "stable-pretraining")),
    Task("mae-96-3d", "mae", "vit_base", **_VOLUMES, sides=("ours",)),
    Task("scaling", "scaling", "vit_small", size=224, batch=128, images=2, side=64, sides=("scaling",)),
)
"""The most important first: time may be short."""


def job(task: Task, side: str, device: str, folders: dict[str, str]) -> dict[str, Any]:
    """Everything a process has to know; peers know medprior from nothing else."""
    who = {"who": side, "device": device, "workers": os.cpu_count(), "folders": folders, "stored": task.stored}
    how = {"views": views(task), "settings": settings(task), "lr": 1e-3, "weight_decay": 0.05}
    return {**asdict(task), **who, **how}


def views(task: Task) -> dict[str, Any]:
    """medprior's own recipe of the method, as numbers: the peers are given the same list."""
    from medprior.views.recipe import base_recipe

    base = base_recipe(None, task.size, task.dims)
    return (base.contrastive() if task.method == "simclr" else base.restorative()).to_dict()


def settings(task: Task) -> dict[str, Any]:
    """medprior's own settings of the method."""
    from medprior.methods.factory import presets

    return {} if task.method == "scaling" else presets(task.method)[task.preset]["config"]
