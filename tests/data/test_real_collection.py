"""Public data sets in one folder, as a hospital's disk would hold them: read in one go, nothing lost or made up."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medprior.data.annotations.modalities import modality_hint
from medprior.data.catalog import Catalog, build_catalog

pytestmark = pytest.mark.data

SCANS = {
    "adrenalmnist3d_64": 1584,
    "bccd": 292,
    "brain-tumor-mri": 2861,
    "chase-db1": 28,
    "covid-chestxray": 173,
    "covid-ct": 746,
    "ct-slices-unlabelled": 3848,
    "isbi2012-em": 54,
    "monuseg": 6,
    "msd-task04-hippocampus": 201,
    "nih-chestxray14-64px": 798,
    "pneumoniamnist": 5856,
    "vqa-rad": 251,
}
MASKS = {"chase-db1": 28, "covid-chestxray": 43, "isbi2012-em": 24, "monuseg": 6, "msd-task04-hippocampus": 200}
BOXES = {"bccd": (292, 3941), "covid-chestxray": (20, 40)}


@pytest.fixture(scope="module")
def catalog(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return build_catalog(real_data, cache=tmp_path_factory.mktemp("cache") / "index.parquet")


@pytest.fixture(scope="module")
def sets(catalog: Catalog) -> np.ndarray:
    return np.array([path.split("/")[0] for path in catalog.table["path"]])


def test_every_set_gives_its_scans(catalog: Catalog, sets: np.ndarray):
    counts = Counter(sets.tolist())
    assert {name: counts[name] for name in SCANS} == SCANS
    assert set(counts) - set(SCANS) == {"dicom-ingest"}
    assert not (catalog.problems["kind"] == "unreadable").any()


def test_masks_and_boxes_find_their_images(catalog: Catalog, sets: np.ndarray):
    has_mask = catalog.table["mask"].notna().to_numpy()
    assert Counter(sets[has_mask].tolist()) == MASKS
    boxes = catalog.table["boxes"]
    for name, (images, count) in BOXES.items():
        there = [found for found, owner in zip(boxes, sets, strict=True) if found and owner == name]
        assert (len(there), sum(map(len, there))) == (images, count)
    row = int(np.flatnonzero(has_mask & (sets == "msd-task04-hippocampus"))[0])
    mask = catalog.read_mask(row)
    assert mask is not None and mask.shape == tuple(catalog.table["shape"][row]) and len(np.unique(mask)) == 3


def test_the_faults_that_their_readmes_name_are_found(catalog: Catalog):
    said = catalog.problems.groupby(catalog.problems["path"].str.split("/").str[0])["reason"].apply(list)
    assert sum("has no area" in reason for reason in said["bccd"]) == 2
    assert '6 patients stand in more than one split (column "split")' in said["covid-ct"]
    assert any('(column "kcr_split")' in reason for reason in said["nih-chestxray14-64px"])


def test_near_copies_that_no_readme_names_are_listed_with_their_distance(catalog: Catalog, sets: np.ndarray):
    pairs = catalog.duplicates.pairs
    near = pairs[pairs["kind"] == "near"]
    assert near["distance"].between(0, 1).all()
    across = {tuple(sorted((str(sets[a]), str(sets[b])))) for a, b in zip(near["row_a"], near["row_b"], strict=True)}
    assert {("covid-ct",) * 2, ("ct-slices-unlabelled",) * 2, ("brain-tumor-mri",) * 2} <= across


def test_modalities_come_from_headers_and_folders_only_suggest_them(catalog: Catalog, sets: np.ndarray):
    modalities = catalog.table["modality"]
    assert {m for m, owner in zip(modalities, sets, strict=True) if owner != "dicom-ingest"} == {None}
    assert {"CT", "MR", "US", "CR", "NM"} <= set(modalities.dropna())
    hints = {owner: modality_hint(path) for path, owner in zip(catalog.table["path"], sets, strict=True)}
    assert hints["ct-slices-unlabelled"] == "CT" and hints["brain-tumor-mri"] == "MR"
