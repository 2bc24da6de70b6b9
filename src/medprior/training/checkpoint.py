"""Checkpoints that are whole or absent: written aside, summed, synced, renamed; the newest good one is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medprior.errors import OutputError
from medprior.files import digest, replace_file, write_text

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
            raise OutputError(
                "a checkpoint cannot be written", where=str(path), do=f"Free some space ({error})"
            ) from None
        write_text(_sum_of(path), digest(aside))
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        old.unlink()
        _sum_of(old).unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None. A damaged one is passed over for the one before it."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            if digest(path) != _sum_of(path).read_text(encoding="utf-8"):
                continue
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # any damage at all: no sum, truncated zip, bad pickle
            continue
        return state
    return None


def drop_checkpoints(folder: Path) -> None:
    """Remove all checkpoints and their folder, and what a process left that was killed while it wrote one."""
    if folder.exists():
        for path in (*folder.glob("step-*"), *folder.glob(".step-*.part")):
            path.unlink()
        folder.rmdir()


def _sum_of(path: Path) -> Path:
    return path.with_suffix(".blake2b")
