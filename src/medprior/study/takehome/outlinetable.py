"""The table of outlines: where each lies, how much of every class it holds, and what to beware of."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from medprior.data.catalog import Catalog
from medprior.study.takehome.predicted import as_csv
from medprior.tasks.outliner import Outliner

UNLIKE = "unlike the scans this model was trained on"


@dataclass(frozen=True)
class Outline:
    """What became of a scan.

    Attributes:
        file: its label map, relative to the folder of results, or "".
        voxels: of each class beside the background.
        reason: why there is none.
        kept: whether it was there before.
        far: how far the scan lies from those of the training, as a share of what is familiar; NaN where unknown.
    """

    file: str = ""
    voxels: tuple[int, ...] = ()
    reason: str = ""
    kept: bool = False
    far: float = math.nan


def table_of(catalog: Catalog, outliner: Outliner, drawn: list[Outline]) -> str:
    """CSV of a line for each scan, then one for each file that gave none.

    The columns: path, member, frame, outline, of each class its voxels and ml (of images pixels and mm2, empty where
    the spacing is unknown), familiar and distance (whether the scan is like those of the training, and how far it lies
    from them as a share of the limit; empty where that is unknown), reason (why there is no outline) and remark (what
    to beware of in the one there is).
    """
    both = ("voxels", "ml") if outliner.spatial_dims == 3 else ("pixels", "mm2")
    header = ["path", "member", "frame", "outline"]
    header += [f"{unit}_{name}" for name in outliner.names for unit in both]
    header += ["familiar", "distance", "reason", "remark"]
    doubts = defaultdict[str, list[str]](list)
    rest: list[list[object]] = []
    for problem in catalog.problems.itertuples():
        doubts[str(problem.path)].append(str(problem.reason))
        if problem.kind != "doubt":
            rest.append([problem.path, *[""] * (len(header) - 3), problem.reason, ""])
    lines: list[list[object]] = []
    for scan, outline in zip(catalog.table.to_dict("records"), drawn, strict=True):
        unlike = [UNLIKE] if outline.far > 1 else []
        remarks = [*unlike, *_remarks(outliner, scan), *doubts[scan["path"]]] if outline.file else []
        measured = _measured(outline.voxels, scan) if outline.file else [""] * 2 * len(outliner.names)
        place = [scan["path"], scan["member"], scan["frame"]]
        familiar = ["", ""] if math.isnan(outline.far) else ["no" if outline.far > 1 else "yes", f"{outline.far:.2f}"]
        lines.append([*place, outline.file, *measured, *familiar, outline.reason, "; ".join(remarks)])
    return as_csv(header, [*lines, *rest])


def _measured(voxels: tuple[int, ...], scan: dict[Any, Any]) -> list[object]:
    """Voxels and ml of each class, or pixels and mm2; "" where the size of a voxel is unknown."""
    size = _voxel_size(scan)
    values: list[object] = []
    for count in voxels:
        values += [count, "" if size is None else f"{count * size:.3f}"]
    return values


def _voxel_size(scan: dict[Any, Any]) -> float | None:
    """ml of a voxel, which a leaning gantry makes smaller than its edges say, or mm2 of a pixel."""
    if scan["spacing"] is None:
        return None
    if len(scan["shape"]) == 2:
        return math.prod(map(float, scan["spacing"]))
    if scan["affine"] is None:
        return math.prod(map(float, scan["spacing"])) / 1000
    affine = np.array([float(number) for number in scan["affine"]]).reshape(3, 4)
    return float(abs(np.linalg.det(affine[:, :3]))) / 1000


def _remarks(outliner: Outliner, scan: dict[Any, Any]) -> list[str]:
    """What makes an outline doubtful and is known without looking at pixels."""
    said, own = [], scan["modality"]
    if outliner.modality and isinstance(own, str) and own not in ("", outliner.modality):
        said.append(f"it is {own}, and the model learnt from {outliner.modality}")
    if outliner.spacing is not None and scan["spacing"] is None:
        said.append("it does not say its spacing, to which the model would bring it: it was outlined as it is")
    return said
