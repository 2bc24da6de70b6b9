"""From a folder and a label file to a catalog, by the settings; no torch is needed to read."""

from __future__ import annotations

from pathlib import Path

from medprior.config import Settings
from medprior.data.annotations.join import join_labels
from medprior.data.annotations.label_table import read_label_table
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.privacy import patient_keys
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import OutputError, SettingsError
from medprior.progress import Progress, silent


def read_catalog(
    scans: Path, labels: Path | None, settings: Settings, out: Path, progress: Progress = silent
) -> Catalog:
    """Index `scans` and join `labels`; without a label file the labels must lie in the data (MedMNIST)."""
    if labels is not None:
        read_label_table(labels.expanduser())  # a wrong file is said before hours of reading
    catalog = index_scans(scans, settings, out, progress)
    if labels is not None:
        return join_labels(
            catalog, labels, patient=settings.data.patient, label=settings.data.label or None, split=settings.data.split
        )
    return catalog


def index_scans(scans: Path, settings: Settings, out: Path, progress: Progress = silent) -> Catalog:
    """Index `scans`, reusing what `out` remembers of them."""
    if out.resolve() == scans.resolve():
        do = "Choose another --out: results in it would be read as scans the next time"
        raise OutputError("the results cannot lie in the folder of scans itself", where=str(out), do=do)
    data = settings.data
    if data.salt is not None and data.salt.expanduser().resolve().is_relative_to(out.resolve()):
        do = "Name a file elsewhere: whoever gets the results must not get the salt"
        raise SettingsError("the salt lies in the folder of results", where=f"setting data.salt: {data.salt}", do=do)
    keys = patient_keys(data.salt, hashed=data.patients == "hashed")
    return build_catalog(scans, cache=out / "index.parquet", workers=data.workers, keys=keys, progress=progress)


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
        ct_window=data.ct_window,
        workers=data.workers,
        progress=progress,
    )
