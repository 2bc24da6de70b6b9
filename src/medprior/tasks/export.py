"""Whole models, head or decoder included, as one graph of ONNX or as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.export.form import HERE, Form, image_of
from medprior.backbones.export.targets import Expected
from medprior.backbones.export.to_onnx import graph_form
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.files import replace_file
from medprior.tasks.outliner import Outliner
from medprior.tasks.predictor import Predictor

WHOLE = ("onnx", "safetensors")
HEAD = "head.safetensors"
_PROBABILITIES = {"multilabel": ".sigmoid()"}


@dataclass(frozen=True)
class Whole:
    """A model in some form, and what it is expected to answer."""

    encoder: Encoder
    form: Form
    expected: Expected


def whole_classifier(folder: Path, target: str) -> Whole:
    """The predictor in a folder, as `onnx` or `safetensors`; its answers are calibrated probabilities.

    Raises:
        RunError: there is none.
    """
    encoder, predictor = load_encoder(folder).eval(), Predictor.load(folder)

    def expected(images: Tensor) -> Mapping[str, object]:
        features = encoder.pool(encoder(images))
        return {"features": features, "probabilities": torch.from_numpy(predictor.probabilities(features.numpy()))}

    if target == "onnx":
        names, use = (
            ("probabilities", "features"),
            'probabilities, features = model.run(None, {"images": images.numpy()})',
        )
        graph = _Classifier(encoder, predictor)
        return Whole(encoder, graph_form(graph, names, use, image_of(encoder), gives=names), expected)
    form = Form(
        library="medprior",
        load=(
            "from safetensors.torch import load_file",
            "from medprior.backbones.weights import load_encoder",
            f'model, head = load_encoder("{HERE}").eval(), load_file("{HERE}/{HEAD}")',
        ),
        use=(
            "features = model.pool(model(images))",
            'logits = (features @ head["weight"].T + head["bias"]) / head["temperature"]',
            f"probabilities = logits{_PROBABILITIES.get(predictor.kind, '.softmax(1)')}",
        ),
        write=lambda place: _write_classifier(encoder, predictor, place),
        image=image_of(encoder),
        gives=("probabilities", "features"),
    )
    return Whole(encoder, form, expected)


def whole_outliner(folder: Path, target: str) -> Whole:
    """The outliner in a folder, as `onnx` or `safetensors`; its answers are probabilities of every voxel of a window.

    Raises:
        RunError: there is none.
    """
    facts, model = Outliner.load(folder)

    def expected(images: Tensor) -> Mapping[str, object]:
        return {"probabilities": model(images).softmax(1)}

    note = (
        f"It outlines windows of {' x '.join(map(str, facts.shape))} pixels, the background first; "
        "`medprior predict` lays them over a whole scan."
    )
    names, image = ("probabilities",), (facts.channels, *facts.shape)
    if target == "onnx":
        use = 'probabilities = model.run(None, {"images": images.numpy()})[0]'
        graph = nn.Sequential(model, nn.Softmax(1))
        form = graph_form(graph, names, use, image, gives=names, notes=(note,))
        return Whole(model.encoder, form, expected)
    form = Form(
        library="medprior",
        load=(
            "from pathlib import Path",
            "from medprior.tasks.outliner import Outliner",
            f'facts, model = Outliner.load(Path("{HERE}"))',
        ),
        use=("probabilities = model(images).softmax(1)",),
        write=lambda place: facts.save(place, model),
        image=image,
        gives=names,
        notes=(note,),
    )
    return Whole(model.encoder, form, expected)


class _Classifier(nn.Module):
    """Encoder, head and temperature."""

    def __init__(self, encoder: Encoder, predictor: Predictor) -> None:
        super().__init__()
        self.encoder, self.several = encoder, predictor.kind == "multilabel"
        self.head = nn.Linear(encoder.embed_dim, len(predictor.names))
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(predictor.weight / predictor.temperature))
            self.head.bias.copy_(torch.from_numpy(predictor.bias / predictor.temperature))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder.pool(self.encoder(images))
        logits = self.head(features)
        return logits.sigmoid() if self.several else logits.softmax(1), features


def _write_classifier(encoder: Encoder, predictor: Predictor, folder: Path) -> None:
    from safetensors.numpy import save_file

    save_encoder(encoder, folder)
    tensors = {"weight": predictor.weight, "bias": predictor.bias, "temperature": np.array([predictor.temperature])}
    with replace_file(folder / HEAD) as aside:
        save_file({name: value.astype(np.float32) for name, value in tensors.items()}, str(aside))
