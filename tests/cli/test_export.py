"""`medprior export` in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medprior.backbones.weights import save_encoder
from shaken import shaken


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(shaken("test_resnet"), folder)
    return folder


def test_it_says_where_the_model_lies_and_how_far_it_is(
    encoder: Path, medprior: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medprior("export", encoder, "--to", "huggingface") == 0
    said = capsys.readouterr().out
    assert f"for huggingface: {encoder / 'export' / 'huggingface'}" in said and "1e-5 is allowed" in said
    assert (encoder / "export" / "huggingface" / "README.md").is_file()


def test_what_is_wrong_is_said_in_words(
    encoder: Path, medprior: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medprior("export", encoder, "--to", "monai") == 2
    said = capsys.readouterr().err
    assert "monai cannot hold test_resnet" in said and "timm, huggingface, onnx, safetensors" in said
    assert medprior("export", tmp_path, "--to", "timm") == 6
    assert "not the folder of a run" in capsys.readouterr().err
    assert medprior("export", encoder, "--to", "keras") == 2
    assert "huggingface" in capsys.readouterr().err
    assert medprior("export", encoder) == 2
    assert "export needs --to" in capsys.readouterr().err
