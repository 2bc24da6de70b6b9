"""The generated cohorts that `medprior demo` runs on: chest X-rays to classify, chest CT to outline."""

from __future__ import annotations

from pathlib import Path

from medprior.data.phantom import make_cohort
from medprior.data.phantom.cohort import Kind
from medprior.errors import unknown
from medprior.progress import Progress, silent

SIZE = {"classify": 64, "segment": 48}
PATIENTS = {"classify": 600, "segment": 24}
"""Of a cohort: as many as a study of some minutes can use."""


def make_demo(folder: Path, task: str, patients: int | None, progress: Progress = silent) -> Path:
    """Generate `patients` chest X-rays with one label each, or chest CTs with their organs outlined, unless they are
    there already; returns labels.csv.

    Raises:
        SettingsError: another task.
    """
    if task not in SIZE:
        raise unknown("task of the demo", task, list(SIZE))
    count = patients or PATIENTS[task]
    labels = folder / "labels.csv"
    if labels.exists() and labels.read_text(encoding="utf-8").count("\n") == count + 1:
        return labels
    kind: Kind = "ct" if task == "segment" else "xray"
    return make_cohort(folder, patients=count, seed=0, size=SIZE[task], kind=kind, masks=("organs",), progress=progress)


def demo_settings(task: str) -> list[str]:
    """What the demo asks for; every option of the command goes over it.

    Small encoders, and a rate at which they learn from scratch in a hundred steps: minutes are short. Of the few CTs
    one half is learnt from and the other tested, then the other way round.
    """
    if task == "segment":
        return [
            "data.label=[label]",
            "data.patient=patient",
            "study.task=segment",
            "study.budgets=[3, all]",
            "study.seeds=2",
            "study.folds=2",
            "study.repeats=1",
            "adapt.overlap=0.25",
            "pretrain.backbone=unet_4",
            "pretrain.batch_size=8",
            "adapt.crops=2",
        ]
    return [
        "data.label=[label]",
        "data.patient=patient",
        "study.budgets=[20, 100, all]",
        "study.seeds=2",
        "pretrain.methods=[simclr]",
        "pretrain.backbone=test_resnet",
        "adapt.learning_rates=[3e-3]",
    ]
