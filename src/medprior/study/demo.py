"""The generated cohort that `medprior demo` runs on."""

from __future__ import annotations

from pathlib import Path

from medprior.data.phantom import make_cohort
from medprior.progress import Progress, silent

SIZE = 64


def make_demo(folder: Path, patients: int, progress: Progress = silent) -> Path:
    """Generate `patients` chest X-rays with one label each, unless they are there already; returns labels.csv."""
    labels = folder / "labels.csv"
    if labels.exists() and labels.read_text(encoding="utf-8").count("\n") == patients + 1:
        return labels
    return make_cohort(folder, patients=patients, seed=0, size=SIZE, progress=progress)


def demo_settings() -> list[str]:
    """What the demo asks for; every option of the command goes over it.

    A small convolutional encoder, and a rate at which it learns from scratch in a hundred steps: minutes are short.
    """
    return [
        "data.label=[label]",
        "data.patient=patient",
        "study.budgets=[20, 100, all]",
        "study.seeds=2",
        "pretrain.methods=[simclr]",
        "pretrain.backbone=test_resnet",
        "adapt.learning_rates=[3e-3]",
    ]
