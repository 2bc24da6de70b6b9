"""From a folder and a label file to a catalog, by the settings; no torch is needed to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medprior.config import Settings
from medprior.data.annotations.join import join_labels
from medprior.data.annotations.label_table import LabelTable, read_label_table
from medprior.data.annotations.masks import MASKS
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.pool import check_apart, join_pool, renamed, without_labelled_copies
from medprior.data.privacy import patient_keys
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import LabelError, OutputError, SettingsError
from medprior.progress import Progress, silent


def read_catalog(
    scans: Path, labels: Path | None, settings: Settings, out: Path, progress: Progress = silent
) -> Catalog:
    """Index `scans` and join `labels`; without a label file the labels must lie in the data (MedMNIST).

    The pool of `data.unlabelled` follows, without the images in it that copy labelled ones.
    """
    table = read_label_table(labels.expanduser()) if labels is not None else None  # said before hours of reading
    data = settings.data
    found, pool = _index_both(scans, settings, out, progress)
    catalog = found
    if labels is not None and table is not None:
        catalog = join_labels(
            found,
            labels,
            patient=data.patient,
            label=data.label or None,
            split=data.split,
            outlines=asks_for_outlines(settings) or (_guessed(settings) and _masks_known(found, table)),
        )
    if pool is None:
        return catalog
    return without_labelled_copies(join_pool(catalog, renamed(pool, found, catalog)), progress)


def for_task(catalog: Catalog, settings: Settings, out: Path, progress: Progress = silent) -> Catalog:
    """The catalog with the labels of the task: those of a table or of the data, or outlines.

    Outlines are learnt where they are asked for, where a folder of masks is given, and where masks lie beside scans, or
    a table names them, of which no label is known.

    Raises:
        LabelError: no mask can be used.
    """
    beside = catalog.labels is None and bool(catalog.table["mask"].notna().any())
    if asks_for_outlines(settings) or (_guessed(settings) and beside):
        cache, workers = out / "index-masks.parquet", settings.data.workers
        return label_by_masks(catalog, settings.data.masks, cache=cache, workers=workers, progress=progress)
    return catalog


def with_outlines(catalog: Catalog, settings: Settings, out: Path, progress: Progress = silent) -> Catalog:
    """The same for an index, which goes on without them where nobody asked for outlines.

    Raises:
        LabelError: outlines were asked for, and no mask can be used.
    """
    try:
        return for_task(catalog, settings, out, progress)
    except LabelError as error:
        if asks_for_outlines(settings):
            raise
        return replace(catalog, warnings=[*catalog.warnings, f"Outlines cannot be learnt: {error.what}."])


def task_lines(catalog: Catalog, settings: Settings) -> list[str]:
    """What is learnt and why, where there are masks."""
    marked = int(catalog.table["mask"].notna().sum())
    if catalog.labels is None or not marked:
        return []
    outlined = catalog.labels.kind == "segmentation"
    what, other = ("outlines", "classify") if outlined else ("labels of whole scans", "segment")
    if not _guessed(settings):
        return [f"Task     {what}, as was asked for"]
    there = "masks were given" if settings.data.masks else f"{marked:,} scans have a mask and no label is known"
    why = there if outlined else f"labels are known; {marked:,} scans have masks, too"
    return [f"Task     {what}, because {why}   (change with --task {other}{' --label COLUMN' if outlined else ''})"]


def asks_for_outlines(settings: Settings) -> bool:
    """Whether the settings alone say that outlines are learnt, whatever lies in the folder."""
    task = settings.study.task
    return task == "segment" or (task == "auto" and settings.data.masks is not None)


def _guessed(settings: Settings) -> bool:
    """Whether nobody said what is to be learnt."""
    return settings.study.task == "auto"


def _masks_known(catalog: Catalog, table: LabelTable | None) -> bool:
    """Whether masks lie beside the scans, or a table names them."""
    return bool(catalog.table["mask"].notna().any()) or (table is not None and table.find(MASKS) is not None)


def index_all(scans: Path, settings: Settings, out: Path, progress: Progress = silent) -> Catalog:
    """Index `scans` and the pool of `data.unlabelled`, for a pre-training without labels."""
    catalog, pool = _index_both(scans, settings, out, progress)
    return catalog if pool is None else join_pool(catalog, pool)


def _index_both(scans: Path, settings: Settings, out: Path, progress: Progress) -> tuple[Catalog, Catalog | None]:
    """The scans, and the pool where there is one, each with an index of its own."""
    folder = settings.data.unlabelled
    if folder is None:
        return index_scans(scans, settings, out, progress), None
    check_apart(scans, folder)
    catalog = index_scans(scans, settings, out, progress)
    return catalog, index_scans(folder, settings, out, progress, name="index-unlabelled")


def index_scans(
    scans: Path, settings: Settings, out: Path, progress: Progress = silent, *, name: str = "index"
) -> Catalog:
    """Index `scans`, reusing what `out` remembers of them under `name`."""
    if out.resolve() == scans.resolve():
        do = "Choose another --out: results in it would be read as scans the next time"
        raise OutputError("the results cannot lie in the folder of scans itself", where=str(out), do=do)
    data = settings.data
    if data.salt is not None and data.salt.expanduser().resolve().is_relative_to(out.resolve()):
        do = "Name a file elsewhere: whoever gets the results must not get the salt"
        raise SettingsError("the salt lies in the folder of results", where=f"setting data.salt: {data.salt}", do=do)
    keys = patient_keys(data.salt, hashed=data.patients == "hashed")
    return build_catalog(scans, cache=out / f"{name}.parquet", workers=data.workers, keys=keys, progress=progress)


def store_all_volumes(catalog: Catalog, settings: Settings, out: Path, progress: Progress = silent) -> VolumeStore:
    """Store the volumes of a catalog with their masks, for crops.

    Raises:
        DataError: there are none.
    """
    data = settings.data
    return VolumeStore.build(
        catalog,
        out / "volumes",
        spacing=data.spacing,
        masks=True,
        spatial_dims=3,
        ct_window=data.ct_window,
        workers=data.workers,
        progress=progress,
    )
