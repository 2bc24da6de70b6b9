"""Labels from masks: which classes each scan's mask holds.

Splits and budgets count patients by them, as by findings. The classes are the values in the files, as
`Catalog.mask_classes` lists them, and are called as a `dataset.json` beside the masks says. What is said of a file
stands among the problems of the catalog: a mask that does not fit its image, or that holds a value which is no class,
is not used, and its scan counts as unlabelled; a mask that marks nothing says that its scan is all background.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from medprior.data.annotations.beside import (
    ALONE,
    FURTHER,
    NOT_USED,
    SEVERAL,
    Mask,
    classes_of,
    drawing_files,
    fitting_masks,
    left_over,
    mask_source,
    without_masks,
)
from medprior.data.annotations.drawings import FOREGROUND, find_drawings, part_names
from medprior.data.annotations.geometry import oddities
from medprior.data.annotations.masklabels import MOST_GREY, class_values
from medprior.data.annotations.masks import pair_apart
from medprior.data.annotations.targets import DATASET, ClassNames, LabelSpec, read_class_names
from medprior.data.catalog import PATIENTS_UNKNOWN, Catalog, problems_table
from medprior.data.indexing.assembling import objects
from medprior.data.indexing.walk import find_files
from medprior.data.scan import Note
from medprior.errors import DataError, LabelError
from medprior.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

_NAMED = "Name each mask as its image: case_7.nii.gz, or in the manner of nnU-Net case_7.nii.gz for case_7_0000.nii.gz"
_FEW = 4  # masks; among fewer a value that one of them has alone may be a class


def label_by_masks(
    catalog: Catalog,
    masks: Path | None = None,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Catalog:
    """The catalog with labels of the kind "segmentation": for each class beside the background 1 where the mask of the
    scan holds it, 0 where the scan has a mask without it, and not-a-number where it has none.

    Labels that it had are replaced; patients and splits stay. Scans that share a mask (channels, sequences of one
    examination) and name no patient become one patient.

    Args:
        masks: a folder of masks, wherever it lies, instead of the masks that the index found beside the scans.
        cache: a Parquet file to reuse and renew for that folder, as of `build_catalog`.
        workers: processes that decode that folder.

    Raises:
        LabelError: no mask can be used, with the first reasons; or the folder, or its `dataset.json`, cannot.
    """
    if masks is not None:
        catalog = _with_folder(catalog, masks, cache, workers, progress)
    catalog = _with_segments(catalog)
    naming, said = _naming(catalog)
    catalog = _without_unknown(catalog, naming)
    _require_some(catalog, masks, naming)
    judged, unjudged = _judged(catalog, naming)
    names, more = _names(judged, naming, _coloured(catalog))
    catalog, grouped = _one_patient_each(catalog)
    notes, doubts = oddities(catalog)
    unknown = [] if catalog.patients_known or PATIENTS_UNKNOWN in catalog.warnings else [PATIENTS_UNKNOWN]
    return replace(
        _told(catalog, notes),
        table=_labelled(catalog, LabelSpec.of_outlines(names)),
        labels=LabelSpec.of_outlines(names),
        warnings=[*catalog.warnings, *said, *more, *unjudged, *_left_out(catalog), *grouped, *doubts, *unknown],
    )


def _with_folder(catalog: Catalog, masks: Path, cache: Path | None, workers: int | None, progress: Progress) -> Catalog:
    """The catalog with the masks of a folder alone, and without those scans that lie in it."""
    import pandas as pd

    folder = masks.expanduser().resolve()
    if catalog.root.is_relative_to(folder):
        do = "Leave it out: masks that lie beside scans are found. Or give the folder that holds masks alone"
        raise LabelError("the folder of masks holds the scans too", where=str(masks), do=do)
    way = _way(catalog.root, folder)
    xml = [way + path for path in drawing_files(find_files(folder).sidecars)] if folder.is_dir() else []
    try:
        found, notes = _indexed(catalog, folder, way, cache, workers, progress)
    except LabelError:
        if not xml:
            raise
        found, notes = catalog.table.iloc[:0], []
    images = catalog.table[~catalog.table["path"].str.startswith(way)].reset_index(drop=True)
    whole = images[(images["frame"] < 0) & (images["member"] == "")]
    pairing = pair_apart(whole["path"].tolist(), [path.removeprefix(way) for path in found["path"]], folder.name)
    pairing = pairing.below(way)
    fitting, said = fitting_masks(pd.concat([whole, found], ignore_index=True), catalog.root, pairing.masks)
    drawn, more = find_drawings(images, catalog.root, xml, fitting)
    if not pairing.masks and not drawn:
        raise _unpaired(masks, whole["path"].tolist(), [*found["path"]], [*notes, *more])
    fitting |= drawn
    said += more
    images["mask"] = objects(fitting.get(path) for path in images["path"])
    old = catalog.problems[~catalog.problems["path"].str.startswith(way)]
    known = catalog.patients_known or (len(images) > 0 and bool((images["patient"] != "").all()))
    laid = replace(catalog, table=images, problems=without_masks(old, images), patients_known=known)
    return _told(laid, [*notes, *left_over(pairing), *said])


def _indexed(
    catalog: Catalog, folder: Path, way: str, cache: Path | None, workers: int | None, progress: Progress
) -> tuple[pd.DataFrame, list[Note]]:
    """The masks in a folder, one file each, and what is to be said of its files; paths lead there from the scans."""
    from medprior.data.indexing.assembling import scans_of
    from medprior.data.indexing.cache import index_files
    from medprior.data.indexing.walk import find

    try:
        start, found = find(folder)
    except DataError as error:
        raise LabelError(f"no masks can be had: {error.what}", where=error.where, do=error.do) from error
    if start != folder:
        raise LabelError("this is a file, not a folder of masks", where=str(folder), do="Give the folder that holds it")
    rows, notes, _ = scans_of(index_files(folder, found.files, cache, workers, catalog.keys, progress)[0])
    apart = dict(_no_masks(rows, way))
    notes += [Note(path, "doubt", f"{NOT_USED}{reason}") for path, reason in apart.items()]
    rows = rows[~rows["path"].isin(apart)].reset_index(drop=True)
    rows["path"] = [way + path for path in rows["path"]]
    beside = [None if paths is None else [way + path for path in paths] for paths in rows["companions"]]
    rows["companions"] = objects(beside)
    return rows, [replace(note, path=way + note.path) for note in notes]


def _no_masks(rows: pd.DataFrame, way: str) -> Iterator[tuple[str, str]]:
    """Files that hold something and no mask that can be used, and why."""
    outside = way.startswith("..") or PurePosixPath(way).is_absolute()
    for path, reader, frame, member, paths in zip(
        rows["path"], rows["reader"], rows["frame"], rows["member"], rows["companions"], strict=True
    ):
        if reader == "dicom":
            yield path, "DICOM images are no masks; lay DICOM segmentations into the folder of their scans"
        elif frame >= 0 or member:
            yield path, "it holds several images; save each mask as a file of its own"
        elif paths and outside:
            yield path, "its pixels lie in a second file; save header and pixels in one (.nrrd, .mha)"


def _way(root: Path, folder: Path) -> str:
    """What leads from the scans to the masks, with a slash at its end; the whole path where they lie on two drives."""
    try:
        return f"{Path(os.path.relpath(folder, root)).as_posix()}/"
    except ValueError:
        return f"{folder.as_posix()}/"


def _unpaired(masks: Path, images: Sequence[str], found: Sequence[str], notes: Sequence[Note]) -> LabelError:
    if not found:
        return LabelError("no file in the folder of masks can be used", where=str(masks), do=_first(notes))
    examples = f"a mask is {PurePosixPath(found[0]).name}, a scan {PurePosixPath(images[0]).name}" if images else ""
    what = f"none of the {len(found):,} masks has the name of a scan" + (f" ({examples})" if examples else "")
    return LabelError(what, where=str(masks), do=_NAMED)


def _first(notes: Sequence[Note]) -> str:
    shown = [f"  {note.path}: {note.reason}" for note in notes[:5]]
    return "\n".join(["The first reasons are:", *shown])


def _with_segments(catalog: Catalog) -> Catalog:
    """With the values of DICOM segmentations, which the index does not read."""
    from medprior.data.readers.dicom.segmentation import read_segmentation

    masks: list[Mask | None] = list(catalog.table["mask"])
    notes = []
    for row, mask in enumerate(masks):
        if mask is None or mask["reader"] != "dicom" or len(mask["values"]):
            continue
        try:
            labels = read_segmentation(mask_source(mask), catalog.root, catalog.source(row)).values
            masks[row] = {**mask, "values": [float(value) for value in np.unique(labels)]}
        except DataError as error:
            masks[row] = None
            notes.append(Note(mask["paths"][0], "doubt", f"{NOT_USED}{error.what}"))
    return _told(replace(catalog, table=catalog.table.assign(mask=objects(masks))), notes)


def _naming(catalog: Catalog) -> tuple[ClassNames | None, list[str]]:
    """What the `dataset.json` of these masks says: it lies with them, in the folder above, or with the scans. Masks
    that have parts say themselves what each is."""
    called = {value: name for mask in catalog.table["mask"] if mask is not None for value, name in part_names(mask)}
    if called:
        return ClassNames(called, frozenset({0, *called})), []
    folders = {PurePosixPath(mask["paths"][0]).parent for mask in catalog.table["mask"] if mask is not None}
    places = {catalog.root} | {catalog.root / place for folder in folders for place in (folder, folder.parent)}
    files = sorted({(place / DATASET).resolve() for place in places if (place / DATASET).is_file()})
    found = [naming for file in files if (naming := read_class_names(file)) is not None]
    if not found or all(one == found[0] for one in found):
        return (found[0] if found else None), []
    return None, [
        f"{len(found)} files {DATASET} name the classes of masks differently: they are called by their values."
    ]


def _without_unknown(catalog: Catalog, naming: ClassNames | None) -> Catalog:
    """Without masks that hold a value which is no class: one that the `dataset.json` does not name, or, where there is
    none, that a single mask has beside classes that masks share."""
    masks: list[Mask | None] = list(catalog.table["mask"])
    each = {tuple(mask["paths"]): frozenset(map(int, mask["values"])) - {0} for mask in masks if mask is not None}
    if class_values(each.values()) == (0, 1):
        return catalog
    often = Counter(value for values in each.values() for value in values)
    shared = {value for value, count in often.items() if count > 1}
    known = {*naming.known, naming.ignored} if naming else shared if len(each) >= _FEW and shared else often.keys()
    why = f"which {DATASET} does not name as a class" if naming else "which no other mask has"
    do = "mend the mask, or name the value" + ("" if naming else f" in a file {DATASET} beside the masks")
    notes = []
    for paths, values in each.items():
        if strange := sorted(values - known):
            listed = ", ".join(map(str, strange[:5]))
            notes.append(Note(paths[0], "doubt", f"{NOT_USED}the mask holds the value {listed}, {why}; {do}"))
    gone = {note.path for note in notes}
    kept = objects(None if mask is None or mask["paths"][0] in gone else mask for mask in masks)
    return _told(replace(catalog, table=catalog.table.assign(mask=kept)), notes)


def _judged(catalog: Catalog, naming: ClassNames | None) -> tuple[tuple[int, ...], list[str]]:
    """The values of classes, and a word on voxels that were not judged: their value is the last one of the masks."""
    classes = catalog.mask_classes
    if naming is None or naming.ignored is None or naming.ignored not in classes:
        return classes, []
    count = sum(mask is not None and naming.ignored in mask["values"] for mask in catalog.table["mask"])
    masks = "1 mask holds" if count == 1 else f"{count:,} masks hold"
    said = f'{masks} voxels of the value {naming.ignored}, "ignore" in {DATASET}: they are neither learnt nor scored.'
    return classes[:-1], [said]


def _require_some(catalog: Catalog, masks: Path | None, naming: ClassNames | None) -> None:
    """Refuse what gives no label.

    Raises:
        LabelError: with the first reasons.
    """
    where = str(catalog.root if masks is None else masks)
    there = int(catalog.table["mask"].notna().sum())
    if not there:
        bad = catalog.problems[~catalog.problems["path"].isin(catalog.table["path"])]
        notes = [Note(*cells) for cells in bad.head(5).itertuples(index=False, name=None)]
        do = "Put masks beside the scans (labelsTr beside imagesTr, a_mask.png beside a.png), or name their folder"
        raise LabelError("no scan has a mask that can be used", where=where, do=_first(notes) if notes else do)
    if len(_judged(catalog, naming)[0]) == 1:
        what = "the only mask marks nothing" if there == 1 else f"all {there:,} masks mark nothing"
        do = "Give masks in which what is looked for has another value than the background, which is 0"
        raise LabelError(what, where=where, do=do)


def _names(classes: Sequence[int], naming: ClassNames | None, colours: bool) -> tuple[list[str], list[str]]:
    """What the classes beside the background are called, and a word about those that no mask holds."""
    said = dict(naming.names) if naming else {}
    if tuple(classes) == (0, 1):
        white = {value: name for value, name in said.items() if value in (1, 255)}
        name = white.get(1, white.get(255, FOREGROUND))
        said = {value: name for value, name in said.items() if value not in white} | {1: name}
    called = "#{:06x}".format if colours else str
    names = [said.get(value, called(value)) for value in classes[1:]]
    absent = [name for value, name in said.items() if value and value not in classes]
    return names, [f"No mask holds: {', '.join(absent)}."] if absent else []


def _coloured(catalog: Catalog) -> bool:
    """Whether the values of the masks are those of colours."""
    readers = {mask["reader"] for mask in catalog.table["mask"] if mask is not None}
    return readers == {"raster"} and max(catalog.mask_classes) > MOST_GREY


def _one_patient_each(catalog: Catalog) -> tuple[Catalog, list[str]]:
    """Scans without a patient that share a mask are of one examination: apart they would be learned and tested."""
    rows: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, mask in enumerate(catalog.table["mask"]):
        if mask is not None:
            rows[tuple(mask["paths"])].append(row)
    patients: list[str] = list(catalog.table["patient"])
    count = 0
    for paths, some in rows.items():
        nameless = [row for row in some if not patients[row]]
        if len(some) > 1 and nameless:
            name = next((patients[row] for row in some if patients[row]), catalog.keys(paths[0]))
            count += len(nameless)
            for row in nameless:
                patients[row] = name
    if not count:
        return catalog, []
    said = f"{count:,} scans share masks, as channels of one examination do: those of one mask are one patient."
    return replace(catalog, table=catalog.table.assign(patient=objects(patients))), [said]


def _left_out(catalog: Catalog) -> list[str]:
    """How many masks are not used, and where it says why."""
    paths, reasons = catalog.problems["path"], catalog.problems["reason"]
    further = paths[reasons == FURTHER].nunique()
    said = reasons.str.startswith(NOT_USED).astype(bool) & (reasons != FURTHER)
    count = paths[said | reasons.isin([ALONE, SEVERAL])].nunique()
    masks = "1 mask is" if count == 1 else f"{count:,} masks are"
    more = "1 further mask" if further == 1 else f"{further:,} further masks"
    return [
        *([f"{masks} not used; the list of what is said of files tells why."] if count else []),
        *([f"{more} of images that have one: of each image the first that fits is used, by name."] if further else []),
    ]


def _labelled(catalog: Catalog, spec: LabelSpec) -> pd.DataFrame:
    old = list(catalog.labels.columns) if catalog.labels else []
    classes, masks = catalog.mask_classes, list(catalog.table["mask"])
    values = np.full((len(masks), len(classes)), np.nan)
    for row, mask in enumerate(masks):
        if mask is not None:
            values[row] = 0
            values[row, classes_of(mask, classes)] = 1
    labelled = catalog.table.drop(columns=old).assign(labelled=[mask is not None for mask in masks])
    shown = values[:, 1 : 1 + len(spec.columns)]  # a last value may be of voxels that were not judged
    return labelled.assign(**dict(zip(spec.columns, shown.T, strict=True)))


def _told(catalog: Catalog, notes: Sequence[Note]) -> Catalog:
    import pandas as pd

    if not notes:
        return catalog
    problems = pd.concat([catalog.problems, problems_table(list(notes))], ignore_index=True)
    return replace(catalog, problems=problems.drop_duplicates(ignore_index=True))
