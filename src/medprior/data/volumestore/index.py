"""What a store of volumes or images says of itself, and which of its files are believed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medprior.data.intensity import IntensityPlan
from medprior.data.store.files import clear_killed
from medprior.data.volumestore.fill import volume_name
from medprior.data.volumestore.plan import VERSION, VolumePlan, VolumeRow, VolumeSettings
from medprior.data.volumestore.resample import Grid
from medprior.errors import SettingsError, StoreError
from medprior.files import write_json

ABOUT = "volumes.json"


@dataclass(frozen=True)
class VolumeIndex:
    """What a store holds.

    Attributes:
        settings: how scans are stored.
        intensity: the plan for their intensities.
        classes: the value in the masks of every class index; 0, the background, first. () without masks.
        rows: by catalog row; None where nothing could be planned.
        failures: why a row is not there.
        mask_failures: why its mask is not.
        warnings: sentences that name no file.
        lengths: bytes of every file, by its key.
    """

    settings: VolumeSettings
    intensity: IntensityPlan
    classes: tuple[int, ...]
    rows: tuple[VolumeRow | None, ...]
    failures: dict[int, str]
    mask_failures: dict[int, str]
    warnings: tuple[str, ...]
    lengths: dict[str, int]

    @classmethod
    def of(cls, plan: VolumePlan, folder: Path, failures: dict[int, str], mask_failures: dict[int, str]) -> VolumeIndex:
        """Of a plan whose files lie in `folder`."""
        kept = [row for number, row in enumerate(plan.rows) if row is not None and number not in failures]
        volumes = {row.key for row in kept}
        masks = {row.mask for i, row in enumerate(plan.rows) if row and row.mask and i not in failures | mask_failures}
        lengths = {key: (folder / volume_name(key)).stat().st_size for key in sorted(volumes | masks)}
        return cls(
            plan.settings, plan.intensity, plan.classes, plan.rows, failures, mask_failures, plan.warnings, lengths
        )


def write_index(folder: Path, index: VolumeIndex) -> None:
    """Say what the store holds, so that it is believed from now on.

    Raises:
        OutputError: no space.
    """
    write_json(folder / ABOUT, {"version": VERSION, **asdict(index)})


def read_index(folder: Path) -> VolumeIndex:
    """What the store in `folder` holds.

    Raises:
        StoreError: no store here, or what describes it is damaged.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about.pop("version") != VERSION:
            raise _useless(folder, f"this medprior reads version {VERSION} of it, not this one")
        index = _index(**about)
        for key, length in index.lengths.items():
            _check(folder / volume_name(key), length)
    except FileNotFoundError as error:
        raise _useless(folder, f"{Path(error.filename).name} is not there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
        raise _useless(folder, f"what describes it is damaged ({type(error).__name__}: {error})") from None
    return index


def _check(path: Path, length: int) -> None:
    there = path.stat().st_size
    if there != length:
        raise _useless(path.parent, f"{path.name} has {there:,} bytes instead of {length:,}")


def clear_volumes(folder: Path, index: VolumeIndex) -> None:
    """Remove files that the store does not name: those of other settings, and what killed builds left."""
    clear_killed(folder)
    kept = {volume_name(key) for key in index.lengths}
    for file in folder.glob("*.b2nd"):
        if file.name not in kept:
            file.unlink(missing_ok=True)


def _useless(folder: Path, why: str) -> StoreError:
    do = "Repeat the command: what is missing or damaged is then read again from the scans"
    return StoreError(f"the volume store cannot be used: {why}", where=str(folder), do=do)


def _index(
    settings: dict[str, Any],
    intensity: dict[str, Any],
    rows: list[dict[str, Any] | None],
    failures: dict[str, str],
    mask_failures: dict[str, str],
    classes: list[int],
    warnings: list[str],
    lengths: dict[str, int],
) -> VolumeIndex:
    spacing, window = settings.pop("spacing"), tuple(settings.pop("ct_window"))
    spacing = tuple(spacing) if isinstance(spacing, list) else spacing
    return VolumeIndex(
        VolumeSettings(spacing=spacing, ct_window=window, **settings),
        IntensityPlan.from_json(intensity),
        tuple(classes),
        tuple(None if row is None else _row(**row) for row in rows),
        {int(row): reason for row, reason in failures.items()},
        {int(row): reason for row, reason in mask_failures.items()},
        tuple(warnings),
        lengths,
    )


def _row(grid: dict[str, Any], **plain: Any) -> VolumeRow:
    return VolumeRow(grid=Grid(**_tuples(grid)), **_tuples(plain))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
