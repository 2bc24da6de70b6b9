"""Checkpoints that are whole or absent: written aside, synced, renamed; the newest good one is found again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from medprior.errors import OutputError
from medprior.files import replace_file

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint of `step` and drop all but the newest two.

    Raises:
        OutputError: no space or no permission; what was saved before is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    with replace_file(path) as aside:
        try:
            torch.save({"step": step, **state}, aside)
        except RuntimeError as error:  # torch hides the system's error when a disk is full
            raise OutputError("a checkpoint cannot be written", where=str(path), do=f"Free some space ({error})") from None
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        os.unlink(old)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None. A damaged one is passed over for the one before it."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # any damage at all: truncated zip, bad pickle, wrong magic
            continue
        return state
    return None
