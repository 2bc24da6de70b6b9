"""A model of a run in the form of another library: found, written, checked, and laid down with its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medprior.backbones.export.targets import check_target, difference, encoder_form, expected_of
from medprior.backbones.export.to_onnx import check_installed
from medprior.backbones.weights import load_encoder
from medprior.files import replace_folder, write_text
from medprior.study.takehome.exportcard import CARD, export_card, title_of_model
from medprior.study.takehome.origin import origin_of
from medprior.tasks.export import WHOLE, Whole, whole_classifier, whole_outliner
from medprior.tasks.outliner import is_outliner

KNOWN = frozenset(
    {CARD, "model.safetensors", "model.onnx", "config.json", "encoder.safetensors", "encoder.json"}
    | {"head.safetensors", "decoder.safetensors", "outliner.json"}
)
"""What an export may hold, and the next one may replace."""


@dataclass(frozen=True)
class Exported:
    """What was written, where, and how far its answers are from the run's."""

    folder: Path
    title: str
    difference: float


def export(run: Path, target: str, arm: str | None = None, out: Path | None = None) -> Exported:
    """Write the model of a run in the form of `target`, with a card that says how to load it.

    Args:
        run: the folder of a study, of one of its pre-trainings, or of the model taken home.
        arm: of a study, `simclr` or `simclr/resnet18`; by default the model taken home, or the only pre-training.
        out: where; by default `export/TARGET` in the folder of the run.

    Raises:
        RunError: no such run or model, or the export does not answer as the run's encoder does; nothing is left of it.
        SettingsError: an unknown target or arm, or a target that cannot hold the model.
        OutputError: no space, no permission, or other files in the way.
    """
    check_target(target)
    if target == "onnx":
        check_installed()
    run = run.expanduser()
    origin = origin_of(run, arm)
    whole = _whole(origin.folder, target)
    name = f"{arm.replace('/', '-')}-{target}" if arm else target
    folder = out.expanduser() if out else run / "export" / name
    with replace_folder(folder, KNOWN) as aside:
        whole.form.write(aside)
        apart = difference(whole.form, aside, whole.expected)
        write_text(aside / CARD, export_card(origin, whole, target, apart))
    return Exported(folder, title_of_model(origin, whole), apart)


def _whole(folder: Path, target: str) -> Whole:
    """The model with its head or decoder where the target holds any graph or weights, else its encoder."""
    if target in WHOLE and is_outliner(folder):
        return whole_outliner(folder, target)
    if target in WHOLE and (folder / "predictor.json").is_file():
        return whole_classifier(folder, target)
    encoder = load_encoder(folder)
    return Whole(encoder, encoder_form(encoder, target), expected_of(encoder))
