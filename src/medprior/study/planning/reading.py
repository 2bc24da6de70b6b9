"""From a folder and a label file to a catalog, by the settings; no torch is needed to read."""

from __future__ import annotations

from pathlib import Path

from medprior.config import Settings
from medprior.data.annotations.join import join_labels
from medprior.data.annotations.label_table import read_label_table
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.pool import check_apart, join_pool, renamed, without_labelled_copies
from medprior.data.privacy import patient_keys
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import OutputError, SettingsError
from medprior.progress import Progress, silent


def read_catalog(
    scans: Path, labels: Path | None, settings: Settings, out: Path, progress: Progress = silent
) -> Catalog:
    """Index `scans` and join `labels`; without a label file the labels must lie in the data (MedMNIST).

    The pool of `data.unlabelled` follows, without the images in it that copy labelled ones.
    """
    if labels is not None:
        read_label_table(labels.expanduser())  # a wrong file is said before hours of reading
    data = settings.data
    found, pool = _index_both(scans, settings, out, progress)
    catalog = found
    if labels is not None:
        catalog = join_labels(
            found,
            labels,
            patient=data.patient,
            label=data.label or None,
            split=data.split,
            outlines=asks_for_outlines(settings),
        )
    if pool is None:
        return catalog
    return without_labelled_copies(join_pool(catalog, renamed(pool, found, catalog)), progress)


def for_task(
    catalog: Catalog, settings: Settings, out: Path, progress: Progress = silent, *, labelled: bool
) -> Catalog:
    """The catalog with the labels of the task: those of a table or of the data, or outlines.

    Outlines are learnt where they are asked for, where a folder of masks is given, and where masks lie beside scans of
    which nothing else is known.

    Args:
        labelled: whether a table of labels was given.

    Raises:
        LabelError: no mask can be used.
    """
    masks, guessed = settings.data.masks, settings.study.task == "auto"
    beside = not labelled and catalog.labels is None and bool(catalog.table["mask"].notna().any())
    if asks_for_outlines(settings) or (guessed and beside):
        cache, workers = out / "index-masks.parquet", settings.data.workers
        return label_by_masks(catalog, masks, cache=cache, workers=workers, progress=progress)
    return catalog


def asks_for_outlines(settings: Settings) -> bool:
    """Whether the settings alone say that outlines are learnt, whatever lies in the folder."""
    task = settings.study.task
    return task == "segment" or (task == "auto" and settings.data.masks is not None)


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
