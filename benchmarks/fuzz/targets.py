"""What is done with each input, as the index does it, and what must hold of the outcome.

An outcome is "read" (at least one scan, box or report comes of it), "no image" (a DICOM object that holds none, or one
set apart) or "refused" (an error of medprior's, or nothing found).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medprior.data import readers
from medprior.data.facts import facts_of
from medprior.data.scan import Scan, ScanInfo
from medprior.errors import MedpriorError

MOST_SOURCES = 3
MOST_TEXT = 600
FAMILIES = ("raster", "arrays", "volume", "dicom", "boxes", "labels")


class Broken(Exception):  # noqa: N818 - a finding, not a failure of this program
    """Something that must hold of a reader does not."""


def target(family: str) -> Callable[[Path, str], str]:
    """What takes a folder and the name of the file in it, and says the outcome.

    Raises:
        Broken: what must hold does not.
        Exception: whatever the reader lets out that is none of medprior's errors.
    """
    return {"dicom": _dicom, "boxes": _boxes, "labels": _labels}.get(family, _ordinary)


def said(family: str, root: Path, name: str) -> str:
    """The reason why a file is refused; "read" or "no image" where it is not, "passed by" where nothing comes of it.

    Raises:
        MedpriorError: the reason, from readers that refuse so.
    """
    if family == "boxes":
        from medprior.data.annotations.boxes import find_boxes

        notes = find_boxes(root, [name], ["scan.png"]).problems
        return notes[0].reason if notes else "passed by"
    if family == "dicom":
        from medprior.data.readers import dicom

        dicom.examine(name, root)
    for source in readers.reader(family).group([name], root):
        readers.read(source, root)
    return "read"


def _ordinary(root: Path, name: str) -> str:
    family = readers.format_of(name)
    if family is None:
        raise Broken(f"no reader takes {name}")
    readers.format_inside(root / name)
    reader = readers.reader(family)
    try:
        sources = reader.group([name], root)
    except MedpriorError as error:
        return _refused(error, root, name)
    outcome = "refused"
    for source in sources[:MOST_SOURCES]:
        try:
            info = reader.describe(source, root)
        except MedpriorError as error:
            _refused(error, root, name)
            info = None
        try:
            scan = reader.read(source, root)
        except MedpriorError as error:
            _refused(error, root, name)
            continue
        outcome = "read"
        _require_agreement(info, scan)
    return outcome


def _refused(error: MedpriorError, root: Path, name: str) -> str:
    text = str(error)
    if str(root) in text:
        raise Broken(f"the message tells a path: {text[:200]}")
    if error.where is None or not error.where.startswith(name.split(".")[0]):
        raise Broken(f"the message does not say where: {text[:200]}")
    _require_plain(error.what)
    if "more pixels than memory" in text:
        raise Broken("a small file asks for more memory than there is")
    return "refused"


def _require_agreement(info: ScanInfo | None, scan: Scan) -> None:
    if info is None:
        raise Broken("it can be read, and is refused when it is described")
    said = (info.channels, *info.shape), info.dtype
    if said != (scan.pixels.shape, scan.pixels.dtype.name):
        raise Broken(f"described as {said}, read as {(scan.pixels.shape, scan.pixels.dtype.name)}")
    for what in ("spacing", "orientation", "modality", "window"):
        if getattr(info, what) != getattr(scan, what):
            raise Broken(f"{what}: described as {getattr(info, what)}, read as {getattr(scan, what)}")
    if scan.affine is not None and not np.isfinite(scan.affine).all():
        raise Broken("its affine is not finite")
    if scan.spacing is not None and not (np.isfinite(scan.spacing).all() and min(scan.spacing) > 0):
        raise Broken(f"its spacing is {scan.spacing}")
    facts = facts_of(scan.pixels)
    if not np.isfinite(facts.quantiles).all():
        raise Broken("its pixels are not finite")


def _dicom(root: Path, name: str) -> str:
    from medprior.data.readers import dicom

    try:
        found = dicom.examine(name, root)
    except MedpriorError as error:
        return _refused(error, root, name)
    plain = dicom.Examined.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    if plain.to_json() != found.to_json():
        raise Broken("what is kept of it is not what comes back")
    alone = dicom.assemble([plain])
    if not alone.scans + alone.notes + alone.segmentations:
        raise Broken("it ends in no scan, no segmentation and no note")
    for note in alone.notes:
        _require_plain(note.reason)
    fellows = _fellows()
    read = [_read_assembled(one, root) for one in alone.scans[:MOST_SOURCES]]
    for one in alone.scans[:1]:
        _require_agreement(dicom.describe(one.source, root), readers.read(one.source, root))
    together = dicom.assemble([plain, *fellows])
    read += [_read_assembled(one, root) for one in together.scans if name in one.source.paths[:MOST_SOURCES]]
    read += [_lay(one.source, root, name) for one in alone.segmentations]
    sources = dicom.group([name], root)
    if [one.paths for one in sources] != [one.source.paths for one in alone.scans]:
        raise Broken("its header alone gives other scans than its pixels")
    return "read" if any(read) else "no image"


def _read_assembled(assembled: Any, root: Path) -> bool:
    _require_agreement(assembled.info, readers.read(assembled.source, root))
    return True


def _lay(source: Any, root: Path, name: str) -> bool:
    from medprior.data.readers import dicom

    scan = dicom.assemble(_fellows()).scans[0].source
    try:
        dicom.read_segmentation(source, root, scan)
    except MedpriorError as error:
        _refused(error, root, name)
        return False
    return True


@cache
def _fellows() -> list[Any]:
    """Slices of the series that the seeds belong to, which lie beside each input."""
    import tempfile

    import seeds

    from medprior.data.readers import dicom

    with tempfile.TemporaryDirectory() as folder:
        for name, content in seeds.companions("dicom").items():
            (Path(folder) / name).write_bytes(content)
        return [dicom.examine(name, Path(folder)) for name in seeds.companions("dicom")]


def _require_plain(reason: str) -> None:
    if len(reason) > MOST_TEXT or not reason.isprintable():
        raise Broken(f"a reason is {len(reason)} characters long, or not printable: {reason[:200]!r}")


def _boxes(root: Path, name: str) -> str:
    from medprior.data.annotations.boxes import find_boxes
    from medprior.data.annotations.reports import find_reports

    found = find_boxes(root, [name], ["scan.png", "other.png"], {"scan.png": (10, 12)})
    for note in found.problems:
        _require_plain(note.reason)
    for box in found.by_image.get("scan.png", ()):
        top, left, bottom, right = box.box
        if not (0 <= top < bottom <= 10 and 0 <= left < right <= 12):
            raise Broken(f"a box outside its image is used: {box.box}")
    if found.by_image.keys() - {"scan.png", "other.png"}:
        raise Broken("boxes of no image are used")
    told = find_reports(root, [name], ["scan.png", "other.png"])
    return "read" if found.by_image or told else "refused"


def _labels(root: Path, name: str) -> str:
    from medprior.data.annotations.label_table import choose_columns, read_label_table

    try:
        table = read_label_table(root / name)
        choose_columns(table, None, None)
    except MedpriorError as error:
        for line in (error.what, *(error.do or "").split("\n")):
            _require_plain(line)
        return "refused"
    return "read"
