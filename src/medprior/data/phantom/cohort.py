"""A whole cohort on disk: scans, labels, masks and annotations."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medprior.data.phantom.chest import Anatomy, anatomy
from medprior.data.phantom.ct import CT, render_ct
from medprior.data.phantom.organs import ORGANS
from medprior.data.phantom.sentences import report
from medprior.data.phantom.sites import Sites
from medprior.data.phantom.xray import XRay, render_xray
from medprior.errors import SettingsError, unknown
from medprior.files import make_folder, said_plainly, write_json, write_text
from medprior.progress import Progress, silent

COLUMNS = ("path", "label", "patient", "site", "sex", "age", "visit", "effusion", "nodule", "cardiomegaly")
Kind = Literal["xray", "ct"]
MASKS = ("organs", "lesions")


def make_cohort(
    folder: str | Path,
    *,
    patients: int,
    seed: int = 0,
    size: int = 64,
    scans_per_patient: int = 1,
    kind: Kind = "xray",
    masks: Collection[str] = MASKS,
    labelled: int | Collection[int] | None = None,
    sites: Sites = Sites(),  # noqa: B008 - it never changes
    progress: Progress = silent,
) -> Path:
    """Write a generated cohort and return the path of its `labels.csv`.

    Scans go to `folder/images` (PNG, or NIfTI in HU when `kind` is "ct"), masks of organs and lesions to `folder/masks`
    (CT only), and boxes, landmarks and report sentences of every scan to `folder/annotations.json`.

    Args:
        masks: what is outlined in CT; where it is one thing, masks are named as their scans.
        size: pixels or voxels per side.
        scans_per_patient: visits of each patient: the same anatomy, another breath and stance.
        labelled: the patients that `labels.csv` names: their numbers, or how many of the first; all when None.
        sites: whom the two hospitals see, and whether one marks its X-rays.

    Raises:
        SettingsError: no patients, an unknown kind, labelled patients that do not exist.
        OutputError: the folder cannot be written to.
    """
    chosen = _chosen(patients, labelled)
    for name in masks:
        if name not in MASKS:
            raise unknown("mask of a cohort", name, MASKS)
    _check(patients=patients, size=size, scans_per_patient=scans_per_patient, kind=kind)
    root = make_folder(Path(folder))
    for name in ("images", "masks") if kind == "ct" else ("images",):
        make_folder(root / name)
    rows: list[dict[str, Any]] = []
    scans: dict[str, Any] = {}
    with (
        progress.task("Making the cohort", total=patients * scans_per_patient, unit="scans") as bar,
        said_plainly(root),
    ):
        for person in map(sites.sent, _visits(seed, patients, scans_per_patient)):
            path, facts = _write_scan(root, person, size, kind, masks, sites)
            scans[path] = facts
            if person.patient in chosen:
                rows.append(_row(path, person))
            bar.advance()
    write_json(
        root / "annotations.json", {"schema": 1, "kind": kind, "organs": ORGANS if kind == "ct" else [], "scans": scans}
    )
    write_text(root / "labels.csv", _table(rows))
    return root / "labels.csv"


def _check(*, kind: str, **counts: int) -> None:
    if kind not in ("xray", "ct"):
        raise unknown("kind of cohort", kind, ["xray", "ct"])
    for name, count in counts.items():
        if count < 1:
            raise SettingsError(f"{name} is {count}", do=f"{name} must be at least 1")


def _chosen(patients: int, labelled: int | Collection[int] | None) -> set[int]:
    chosen = (
        set(range(patients if labelled is None else labelled)) if isinstance(labelled, int | None) else set(labelled)
    )
    strangers = sorted(chosen - set(range(patients)))
    if strangers:
        raise SettingsError(
            f"labelled names patient {strangers[0]}, which is not in the cohort",
            do=f"Patients are numbered 0 to {patients - 1}",
        )
    return chosen


def _visits(seed: int, patients: int, visits: int) -> Iterator[Anatomy]:
    for patient in range(patients):
        for visit in range(visits):
            yield anatomy(seed, patient, visit)


def _write_scan(
    root: Path, person: Anatomy, size: int, kind: Kind, masks: Collection[str], sites: Sites
) -> tuple[str, dict[str, Any]]:
    name = f"P{person.patient:05d}_{person.visit}"
    facts = {
        "patient": f"P{person.patient:05d}",
        "visit": person.visit,
        "site": person.site,
        "findings": person.findings,
        "report": report(person),
    }
    if kind == "xray":
        path, xray = f"images/{name}.png", render_xray(person, size, sites.detector(person))
        Image.fromarray(sites.mark(xray.image, person)).save(root / path)
        return path, facts | _xray_facts(xray)
    path, ct = f"images/{name}.nii.gz", render_ct(person, size)
    _save_volume(root / path, ct.volume, ct)
    for what in masks:
        outlined = {"organs": ct.organs, "lesions": ct.lesions}[what]
        called = name if len(masks) == 1 else f"{name}_{what}"
        _save_volume(root / f"masks/{called}.nii.gz", outlined, ct)
    if "organs" in masks:
        write_json(root / "masks/dataset.json", {"labels": {name: number for number, name in enumerate(ORGANS)}})
    return path, facts | _ct_facts(ct, person)


def _xray_facts(xray: XRay) -> dict[str, Any]:
    boxes = [{"name": name, "box": _rounded(box)} for name, box in xray.boxes]
    return {
        "pixel_mm": xray.pixel,
        "boxes": boxes,
        "landmarks": {name: _rounded(point) for name, point in xray.landmarks.items()},
    }


def _ct_facts(ct: CT, person: Anatomy) -> dict[str, Any]:
    """Voxel coordinates (D, H, W) as stored, and mm in the world of the file (x to the right, y to the front, z up)."""
    world = {name: _rounded(-person.pose.to_scan(point)[::-1]) for name, point in person.landmarks.items()}
    boxes = [{"name": name, "box": _rounded(box.ravel())} for name, box in ct.boxes]
    return {
        "spacing_mm": ct.spacing,
        "boxes": boxes,
        "landmarks": {name: _rounded(point) for name, point in ct.landmarks.items()},
        "landmarks_mm": world,
    }


def _save_volume(path: Path, volume: NDArray[Any], ct: CT) -> None:
    """NIfTI stores (x, y, z) with a world of right, front, up: the axes reversed, each pointing the other way."""
    affine = np.diag([*(-np.asarray(ct.grid.spacing[::-1])), 1.0])
    affine[:3, 3] = -np.asarray(ct.grid.origin[::-1])
    image: Any = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _row(path: str, person: Anatomy) -> dict[str, Any]:
    label = "lesion" if person.lesions else "normal"
    about = {
        "patient": f"P{person.patient:05d}",
        "site": person.site,
        "sex": person.build.sex,
        "age": person.build.age,
        "visit": person.visit,
    }
    return {"path": path, "label": label, **about, **person.findings}


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rounded(values: Any) -> list[float]:
    return [round(float(v), 3) for v in values]
