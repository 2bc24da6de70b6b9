"""`model-card.md`: the model taken home in the form of Hugging Face's model cards.

The form is that of Mitchell et al. (FAccT 2019, arXiv 1810.03993) with YAML in front, as the Hub reads it. No file, no
patient and no row is named in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medprior import __version__
from medprior.evaluation.yardstick import TITLES
from medprior.files import write_text
from medprior.study.arms import BORROWED, SCRATCH, begun_at
from medprior.study.canvas import common_modality
from medprior.study.study import Outcome
from medprior.study.verdict.phrases import listed, title_of

NAME = "model-card.md"
ADAPTED = {
    "probe": "a linear head on frozen features",
    "fine-tune": "fine-tuning all of it",
    "scratch": "training all of it from scratch",
}
HUB_METRICS = {"auroc": "roc_auc", "average_precision": "average_precision", "dice": "dice"}


def write_model_card(outcome: Outcome) -> Path:
    """Write the card beside `best/` and return its path.

    Raises:
        OutputError: it cannot be written.
    """
    path = outcome.out / NAME
    write_text(path, model_card(outcome))
    return path


def model_card(outcome: Outcome) -> str:
    """The card as Markdown."""
    parts = {
        "": _opening(outcome),
        "What it is for": _purpose(outcome),
        "What it is not for": _limits_of_use(outcome),
        "What it learnt from": _learnt_from(outcome),
        "How it was made": _making(outcome),
        "How good models like it are": _scores(outcome),
        "What the study found": [f"- {sentence}" for sentence in outcome.verdict["sentences"]],
        "Limits": [f"- {warning}" for warning in outcome.verdict["warnings"]] or ["- None that the study knows of."],
        "Licence": _licence(outcome),
        "How to use it": ["```", "medprior predict best/ NEW_SCANS", "```"],
    }
    body = [line for title, lines in parts.items() for line in ([f"## {title}", ""] if title else []) + [*lines, ""]]
    return "\n".join(["---", _front(outcome), "---", "", *body]).rstrip() + "\n"


def _front(outcome: Outcome) -> str:
    ground, best = outcome.ground, outcome.best
    task = "image-segmentation" if ground.outlined else "image-classification"
    metric = str(outcome.verdict["metric"])
    facts = {
        "library_name": "medprior",
        "license": "unknown",
        "pipeline_tag": task,
        "tags": [
            "medical",
            *(["self-supervised"] * _taught(outcome)),
            f"{ground.spatial_dims}d",
            str(best["arm"]),
            str(best["encoder"]),
        ],
        "metrics": [HUB_METRICS.get(metric, metric)],
    }
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).strip()


def _taught(outcome: Outcome) -> bool:
    """Whether the encoder learnt from the scans before any label."""
    return str(outcome.best["arm"]) not in {*BORROWED, SCRATCH}


def _opening(outcome: Outcome) -> list[str]:
    best, ground = outcome.best, outcome.ground
    names = listed([_plain(name) for name in ground.task.names])
    finds = f"{'outlines' if ground.outlined else 'finds'} {names}"
    does = finds if ground.outlined or ground.task.kind == "multilabel" else f"tells {names} apart"
    scans = common_modality(ground.catalog) or "medical"
    return [
        f"# {title_of(str(best['arm']))} on {best['encoder']}",
        "",
        f"A model that {does} in {scans} {'volumes' if ground.spatial_dims == 3 else 'images'}. Made by "
        f"medprior {__version__}; `report.html` beside this card holds the study that it comes from.",
    ]


def _purpose(outcome: Outcome) -> list[str]:
    return [
        "Research on scans like those it learnt from: the same modality, scanners and kind of patients. "
        f"{'It draws label maps.' if outcome.ground.outlined else 'It gives a probability for each class or label.'}"
    ]


def _limits_of_use(outcome: Outcome) -> list[str]:
    checks = outcome.best.get("unfamiliar_scans", "refused") == "refused"
    refuses = " It refuses scans that look unlike those of its training, not all." if checks else ""
    return [
        "- Diagnosis, treatment, triage, or any decision on a patient: it is not a medical device, and nobody has "
        "tested it as one.",
        f"- Other modalities, scanners, hospitals or patients than those it learnt from.{refuses}",
        "- Finding out who a patient is. Weights can give away something of the scans they learnt from: share them as "
        "carefully as those.",
    ]


def _learnt_from(outcome: Outcome) -> list[str]:
    ground = outcome.ground
    catalog, task = ground.catalog, ground.task
    labelled = int(catalog.table["labelled"].sum())
    patients = f"{ground.known_patients:,}" if catalog.patients_known else "unknown: each image counts as one"
    lines = [
        f"- Scans: {len(catalog):,}, of which {labelled:,} {'with outlines' if ground.outlined else 'with labels'}.",
        f"- Patients: {patients}.",
        f"- Modality: {common_modality(catalog) or 'unknown, or several'}.",
        f"- Seen at: {' x '.join(map(str, ground.base.shape))} pixels.",
    ]
    if not ground.outlined:
        counts = (f"{_plain(name)} {_count(ground.targets, k):,}" for k, name in enumerate(task.names))
        lines.append(f"- {'Labels' if task.kind == 'multilabel' else 'Classes'}: {', '.join(counts)}.")
    return [*lines, "- Where the scans come from, and who agreed to their use, medprior does not know: say it here."]


def _count(targets: Any, k: int) -> int:
    return int((targets == k).sum()) if targets.ndim == 1 else int(np.nansum(targets[:, k] == 1))


def _making(outcome: Outcome) -> list[str]:
    best = outcome.best
    steps = outcome.schedule.pretrain_steps.get((str(best["arm"]), str(best["encoder"])))
    first = {
        "scratch": "The encoder began at random weights.",
        "imagenet": "The encoder began at weights published for ImageNet.",
        "given": "The encoder was given, pre-trained elsewhere.",
    }.get(str(best["arm"]), f"The encoder was pre-trained on the scans without labels ({title_of(str(best['arm']))}).")
    taught = first if steps is None or not _taught(outcome) else f"{first[:-1]}, {steps:,} steps."
    learnt = best.get("labelled_images", best.get("annotated_scans"))
    return [
        f"- {taught}",
        f"- It was adapted by {ADAPTED.get(str(best['adaptation']), best['adaptation'])}.",
        f"- It was chosen without a test score: {best['chosen_by']}.",
        f"- Then it learnt from all {learnt:,} labelled scans, test patients included.",
    ]


def _scores(outcome: Outcome) -> list[str]:
    unit = outcome.verdict["unit"]
    said = (
        f"No score of this very model exists, for it learnt from the test {unit} too. These are models made in the "
        f"same way from fewer labels, on {outcome.verdict['test_patients']:,} test {unit}, with 95% intervals:"
    )
    rows = list(_rows(outcome))
    if not rows:
        return ["No score of this very model exists, and none of models made in the same way. See `results.csv`."]
    head = f"| Metric | {str(unit).capitalize()} learnt from | Score | 95% interval |"
    return [said, "", head, "|---|---|---|---|", *rows]


def _rows(outcome: Outcome) -> Iterable[str]:
    """Scores of the arm that was taken home at every budget, and beside it of scratch of the same encoder."""
    import pandas

    table = pandas.read_csv(outcome.out / "scores.csv")
    kind = {"arm": outcome.best["arm"], "encoder": outcome.best["encoder"], "adaptation": outcome.best["adaptation"]}
    ours = table[np.logical_and.reduce([table[name] == value for name, value in kind.items()])]
    main = outcome.verdict["metric"]
    ordered = ours.sort_values(["metric", "budget"], key=lambda one: one.where(one != main, "")).to_dict("records")
    for row in ordered:
        yield _row({str(name): value for name, value in row.items()})


def _row(row: Mapping[str, Any]) -> str:
    metric = TITLES.get(row["metric"], row["metric"])
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if np.isfinite(row["low"]) else "not given"
    return f"| {metric} | {row['budget']:,} | {row['mean']:.3f} | {interval} |"


def _licence(outcome: Outcome) -> list[str]:
    begun = " and those of the weights it began with" if begun_at(str(outcome.best["arm"])) else ""
    return [
        f"Unknown. The terms of the scans{begun} decide who may use and share these weights; medprior does not know "
        "them. Put the licence here and in the first lines of this file once you know it."
    ]


def _plain(name: str) -> str:
    """A name that the user gave, without what Markdown would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", name).replace("\n", " ")
