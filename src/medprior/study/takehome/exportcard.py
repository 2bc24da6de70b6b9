"""The card of an exported model: how it is loaded and fed, what it learnt from, what it was checked against.

In the form of Hugging Face's model cards, YAML in front. No file and no patient is named in it.
"""

from __future__ import annotations

from typing import Any

import torch
import yaml

from medprior import __version__
from medprior.backbones.axes import in_words
from medprior.backbones.export.form import located
from medprior.study.arms import BORROWED, SCRATCH
from medprior.study.canvas import common_modality
from medprior.study.takehome.modelcard import ADAPTED
from medprior.study.takehome.origin import Origin
from medprior.study.verdict.phrases import title_of
from medprior.tasks.export import Whole

CARD = "README.md"
LIBRARIES = {"onnxruntime": "onnx"}
"""As the Hub calls those that it calls otherwise than pip does."""
TASKS = {"segmentation": "image-segmentation", "classification": "image-classification"}
NOTICES = {
    "genesis": "Models Genesis: no code and no weights of its authors are contained. Their own are licensed by Arizona "
    "State University for non-commercial research only and say “patent pending”; whether a patent of others covers "
    "your use is for you to find out.",
}
"""What is to be known before weights that a method trained are used or shared."""


def export_card(origin: Origin, whole: Whole, target: str, apart: float) -> str:
    """The card as Markdown; `apart` is the largest difference that the check found."""
    parts = {
        "": [f"# {title_of_model(origin, whole)}", "", _opening(origin, whole)],
        "Load it": _load(whole),
        "Use it": _use(whole),
        "Input": _input(origin, whole),
        "Output": _output(origin, whole),
        "What it learnt from": _learnt_from(origin),
        "Checked": _checked(apart, target),
        "Limits": _limits(),
        "Licence and patents": _licence(origin),
    }
    body = [line for title, lines in parts.items() for line in ([f"## {title}", ""] if title else []) + [*lines, ""]]
    return "\n".join(["---", _front(origin, whole), "---", "", *body]).rstrip() + "\n"


def title_of_model(origin: Origin, whole: Whole) -> str:
    """The arm and its encoder."""
    return f"{title_of(_arm(origin))} on {whole.encoder.spec['name']}"


def _arm(origin: Origin) -> str:
    return str(_made(origin).get("arm") or origin.config.get("method") or "an encoder")


def _made(origin: Origin) -> dict[str, Any]:
    """How the model taken home was made; nothing of a pre-training."""
    found = origin.facts.get("origin")
    return found if isinstance(found, dict) else {}


def _front(origin: Origin, whole: Whole) -> str:
    spec, library = whole.encoder.spec, whole.form.library
    facts = {
        "library_name": LIBRARIES.get(library, library),
        "license": "unknown",
        "pipeline_tag": TASKS.get(_task(whole), "image-feature-extraction"),
        "tags": ["medical", f"{spec['spatial_dims']}d", _arm(origin), str(spec["name"]), "medprior"],
    }
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).strip()


def _task(whole: Whole) -> str:
    """What a model does beside giving features."""
    if "probabilities" not in whole.form.gives:
        return ""
    return "classification" if "features" in whole.form.gives else "segmentation"


def _opening(origin: Origin, whole: Whole) -> str:
    what = {
        "": "An encoder",
        "classification": "A classifier, its encoder included,",
        "segmentation": "A model that outlines, its encoder included,",
    }[_task(whole)]
    scans = "volumes" if whole.encoder.spatial_dims == 3 else "images"
    return f"{what} of medical {scans}, for {whole.form.library}. Made by medprior {__version__}."


def _load(whole: Whole) -> list[str]:
    form = whole.form
    lines = _code(form.load)
    if form.also:
        lines += [
            "",
            "Or, with `pip install transformers`; features are `model(x).pooler_output`:",
            "",
            *_code(form.also),
        ]
    return lines


def _use(whole: Whole) -> list[str]:
    shape = ", ".join(map(str, whole.form.image))
    said = f"`images` is a float32 tensor (B, {shape}) in [0, 1], see below; wrap it all in `torch.no_grad()`."
    return [said, "", *_code(whole.form.use), *[line for note in whole.form.notes for line in ("", note)]]


def _code(lines: tuple[str, ...]) -> list[str]:
    return ["```python", *located(lines, "."), "```"]


def _input(origin: Origin, whole: Whole) -> list[str]:
    encoder, (channels, *extents) = whole.encoder, whole.form.image
    spacing = encoder.spec["spacing"]
    spaced = f"{in_words(spacing)} mm" if spacing else "not stated: images were brought to this size whatever their mm"
    mean, std = (
        ", ".join(f"{value:.4g}" for value in buffer.flatten().tolist()) for buffer in (encoder.mean, encoder.std)
    )
    window = (origin.study.get("settings") or {}).get("data", {}).get("ct_window") or [-1000, 1000]
    return [
        f"- Channels: {channels}.",
        f"- Size: {' x '.join(map(str, extents))} pixels{', depth first' if len(extents) == 3 else ''}.",
        f"- Spacing: {spaced}.",
        f"- Range: 0 to 1. CT: {window[0]:g} HU is 0, {window[1]:g} HU is 1. Other scans: the 0.5th percentile of each "
        "is 0, the 99.5th is 1; nuclear medicine: 0 and the 99.9th. 8-bit images: divided by 255.",
        f"- Normalisation: minus {mean}, divided by {std}{'' if len(encoder.mean.flatten()) == 1 else ', by channel'}. "
        "The lines above do it, or the model does.",
    ]


def _output(origin: Origin, whole: Whole) -> list[str]:
    encoder, gives = whole.encoder, whole.form.gives
    lines = []
    if "probabilities" in gives:
        names = ["background"] * (_task(whole) == "segmentation") + list(map(str, origin.facts.get("names", [])))
        lines.append(f"- `probabilities`: {'; '.join(f'{i} {_plain(name)}' for i, name in enumerate(names))}.")
    if "features" in gives:
        lines.append(f"- `features`: (B, {encoder.embed_dim}), one vector for each image.")
    if "maps" in gives:
        maps = [
            f"{width} channels at stride {in_words(by)}"
            for width, by in zip(encoder.channels, encoder.axis_strides, strict=True)
        ]
        lines.append(f"- `maps`: {'; '.join(maps)}.")
    return lines


def _learnt_from(origin: Origin) -> list[str]:
    lines = [*_pretraining(origin), *_adapted(origin)]
    if origin.catalog is not None:
        catalog = origin.catalog
        of = common_modality(catalog) or "unknown, or several"
        lines.append(f"- Scans of the run: {len(catalog):,}. Modality: {of}.")
    return [*lines, "- Where the scans come from, and who agreed to their use, medprior does not know: say it here."]


def _pretraining(origin: Origin) -> list[str]:
    arm = _arm(origin)
    steps, images = origin.config.get("steps"), origin.finished.get("images")
    if arm == SCRATCH:
        return ["- No pre-training: it began at random weights."]
    if arm in BORROWED:
        return ["- Pre-trained elsewhere: see the card of the weights it was made of."]
    told = f", {steps:,} steps" if isinstance(steps, int) else ""
    seen = f" on {images:,} scans" if isinstance(images, int) else ""
    begun = ", begun at weights from elsewhere" if _borrows(origin) else ""
    return [f"- Pre-training: {title_of(arm)}{told}{seen}, without labels{begun}."]


def _adapted(origin: Origin) -> list[str]:
    made = _made(origin)
    if not made:
        return []
    learnt = made.get("labelled_images", made.get("annotated_scans"))
    how = ADAPTED.get(str(made.get("adaptation")), str(made.get("adaptation")))
    return [
        f"- Adapted by {how}, to {learnt} labelled scans, the test patients of the study among them.",
        f"- Chosen without a test score: {made.get('chosen_by')}. The `model-card.md` of the run has scores of models "
        "made alike.",
    ]


def _borrows(origin: Origin) -> bool:
    weights = (origin.config.get("settings") or {}).get("pretrain", {}).get("weights")
    return bool(weights) or bool(BORROWED & set(_arm(origin).split("+")))


def _checked(apart: float, target: str) -> list[str]:
    version = torch.__version__.partition("+")[0]
    return [
        "The lines above were run on noise and on smooth pictures before this folder was laid down. Their answers",
        f"differ from those of the run by {apart:.1e} of the largest number, in float32.",
        "",
        f"Written by `medprior export --to {target}` with torch {version}.",
    ]


def _limits() -> list[str]:
    return [
        "- It is not a medical device: no diagnosis, treatment or decision on a patient.",
        "- Weights can give away something of the scans they learnt from: share them as carefully as those.",
    ]


def _licence(origin: Origin) -> list[str]:
    begun = " and those of the weights it began with" if _borrows(origin) else ""
    notices = [notice for name, notice in NOTICES.items() if name in _arm(origin).split("+")]
    return [
        f"Unknown. The terms of the scans{begun} decide who may use and share these weights; medprior does not know "
        "them. Put the licence here and in the first lines of this file once you know it.",
        *[line for notice in notices for line in ("", notice)],
    ]


def _plain(name: str) -> str:
    """A name that the user gave, without what Markdown would take for its own."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in name).replace("\n", " ")
