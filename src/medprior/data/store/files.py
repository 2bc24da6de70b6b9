"""The files of a pixel store: how they are named, believed, replaced and cleared away."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from medprior.data.intensity import IntensityPlan
from medprior.data.store.fill import Rows
from medprior.data.store.plan import VERSION, StorePlan
from medprior.errors import StoreError
from medprior.files import replace_file, write_json

ABOUT = "store.json"


def pixels_file(folder: Path, plan: StorePlan) -> Path:
    """Where the pixels lie."""
    return folder / f"pixels-{plan.key[:16]}.npy"


def rows_file(folder: Path, plan: StorePlan) -> Path:
    """Where boxes and mappings lie."""
    return folder / f"rows-{plan.key[:16]}.npz"


def useless(folder: Path, why: str) -> StoreError:
    """The error for a store that cannot be used."""
    do = "Delete this folder and repeat the command: the pixels are then read again from the scans"
    return StoreError(f"the pixel store cannot be used: {why}", where=str(folder), do=do)


def read_about(folder: Path) -> tuple[StorePlan, Rows, dict[int, str]]:
    """What a store holds, what is known of its rows, and which failed.

    Raises:
        StoreError: no store here, or what describes it is damaged.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["version"] != VERSION:
            raise useless(folder, f"it has version {about['version']}, this medprior reads {VERSION}")
        plan = _plan(**about["plan"])
        with np.load(rows_file(folder, plan), allow_pickle=False) as arrays:
            rows = Rows(**{field.name: arrays[field.name] for field in fields(Rows)})
        return plan, rows, {int(row): reason for row, reason in about["failures"].items()}
    except FileNotFoundError as error:
        raise useless(folder, f"{Path(error.filename).name} is not there") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise useless(folder, f"what describes it is damaged ({type(error).__name__}: {error})") from None


def write_about(folder: Path, plan: StorePlan, rows: Rows, failures: dict[int, str]) -> None:
    """Describe pixels that are whole, so that they are believed from now on; then drop what they replace.

    Raises:
        OutputError: no space.
    """
    kept = rows_file(folder, plan)
    with replace_file(kept) as aside, aside.open("wb") as stream:
        np.savez(stream, **{field.name: getattr(rows, field.name) for field in fields(Rows)})
    reasons = {str(row): reason for row, reason in failures.items()}
    write_json(folder / ABOUT, {"version": VERSION, "plan": asdict(plan), "failures": reasons})
    for old in folder.glob("*-*.np[yz]"):
        if old.name not in (kept.name, pixels_file(folder, plan).name):
            old.unlink(missing_ok=True)


def check_length(folder: Path, plan: StorePlan) -> None:
    """Look at the pixels before they are read.

    Raises:
        StoreError: they are gone, or not as long as they were.
    """
    file = pixels_file(folder, plan)
    try:
        there = file.stat().st_size
    except OSError:
        raise useless(folder, f"{file.name} is not there") from None
    if there != plan.file_bytes:
        raise useless(folder, f"{file.name} has {there:,} bytes instead of {plan.file_bytes:,}")


def clear_killed(folder: Path) -> None:
    """Remove what builds that were killed left behind; `replace_file` names each part after its process."""
    for part in folder.glob(".*.part"):
        if not _alive(int(part.name.split(".")[-2])):
            part.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _plan(intensity: dict[str, Any], **plain: Any) -> StorePlan:
    return StorePlan(intensity=IntensityPlan.from_json(intensity), **plain)
