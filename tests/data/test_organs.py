"""Masks of one structure each, joined into one label map per image."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from medprior.data.annotations.beside import FURTHER
from medprior.data.annotations.organs import part_name
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.catalog import build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import DataError

SHAPE = (8, 7, 6)


def write_nifti(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def image(path):
    write_nifti(path, np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))


def box(start, stop, white=1):
    """A structure from one plane to another."""
    found = np.zeros(SHAPE, np.uint8)
    found[start:stop, 1:5] = white
    return found


def reasons(catalog):
    return dict(zip(catalog.problems["path"], catalog.problems["reason"], strict=True))


LAYOUTS = {
    "a folder of masks in each case": ("case_{i}/ct.nii.gz", "case_{i}/segmentations/{part}.nii.gz"),
    "beside the one image of a folder": ("case_{i}/ct.nii.gz", "case_{i}/{part}.nii.gz"),
    "folders of images and labels": ("imagesTr/case_{i}_0000.nii.gz", "labelsTr/case_{i}_{part}.nii.gz"),
    "names that say mask": ("case_{i}.nii.gz", "case_{i}_{part}_mask.nii.gz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_are_classes_by_their_names(tmp_path, layout):
    scan, mask = LAYOUTS[layout]
    for i in range(3):
        image(tmp_path / scan.format(i=i))
        write_nifti(tmp_path / mask.format(i=i, part="spleen"), box(5, 7, white=255 if i == 1 else 1))
        if i != 2:
            write_nifti(tmp_path / mask.format(i=i, part="left_lung"), box(0, 3 if i else 0))
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    assert catalog.labels.names == ("left_lung", "spleen") and len(catalog) == 3
    np.testing.assert_array_equal(catalog.targets(), [[0, 1], [1, 1], [0, 1]])
    labels = catalog.read_mask(1)
    assert [int((labels == k).sum()) for k in range(3)] == [8 * 7 * 6 - 5 * 4 * 6, 3 * 4 * 6, 2 * 4 * 6]
    assert int((catalog.read_mask(2) == 2).sum()) == 2 * 4 * 6
    save_catalog(catalog, tmp_path / "kept.parquet")
    np.testing.assert_array_equal(load_catalog(tmp_path / "kept.parquet").read_mask(1), labels)
    store = VolumeStore.build(catalog, tmp_path / "store", masks=True, workers=1)
    assert all(store.has_mask(row) for row in range(3))


def test_the_smaller_of_two_that_overlap_counts_and_it_is_said(tmp_path):
    image(tmp_path / "case/ct.nii.gz")
    write_nifti(tmp_path / "case/masks/liver.nii.gz", box(0, 6))
    write_nifti(tmp_path / "case/masks/tumour.nii.gz", box(2, 3))
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    assert catalog.labels.names == ("liver", "tumour")
    assert [int((catalog.read_mask(0) == k).sum()) for k in (1, 2)] == [5 * 24, 24]
    assert "liver and tumour share 24 voxels" in reasons(catalog)["case/masks/liver.nii.gz"]


def test_two_readers_of_one_structure_are_not_joined(tmp_path):
    for i in range(2):
        image(tmp_path / f"imagesTr/case_{i}.nii.gz")
        write_nifti(tmp_path / f"labelsTr/case_{i}_jones.nii.gz", box(0, 6))
        write_nifti(tmp_path / f"labelsTr/case_{i}_smith.nii.gz", box(1, 6))
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    assert catalog.labels.names == ("foreground",)
    assert [mask["paths"][0] for mask in catalog.table["mask"]] == [f"labelsTr/case_{i}_jones.nii.gz" for i in (0, 1)]
    said = list(catalog.problems["reason"])
    assert said.count(FURTHER) == 2 and sum("jones and smith mark nearly the same" in one for one in said) == 1


def test_a_mask_that_does_not_say_what_it_shows_is_left_out_beside_parts(tmp_path):
    for i in range(2):
        image(tmp_path / f"case_{i}/ct.nii.gz")
        write_nifti(tmp_path / f"case_{i}/masks/{'liver' if i else 'mask'}.nii.gz", box(0, 2))
    write_nifti(tmp_path / "case_1/masks/spleen.nii.gz", box(4, 6))
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    assert catalog.table["labelled"].tolist() == [False, True]
    assert "its name does not say which it shows" in reasons(catalog)["case_0/masks/mask.nii.gz"]


def test_a_part_that_changed_is_said(tmp_path):
    image(tmp_path / "case/ct.nii.gz")
    for part in ("liver", "spleen"):
        write_nifti(tmp_path / f"case/masks/{part}.nii.gz", box(0, 2) if part == "liver" else box(4, 6))
    catalog = label_by_masks(build_catalog(tmp_path, workers=1))
    write_nifti(tmp_path / "case/masks/liver.nii.gz", np.ones((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match="have changed in shape"):
        catalog.read_mask(0)


@pytest.mark.parametrize(
    ("mask", "image", "name"),
    [
        ("m/case_7_left_lung_mask.nii.gz", "i/case_7.nii.gz", "left_lung"),
        ("m/case_7_vertebrae_L1.nii.gz", "i/case_7_0000.nii.gz", "vertebrae_l1"),
        ("case/mask_liver.nii.gz", "case/ct.nii.gz", "liver"),
        ("case/mask_2.nii.gz", "case/ct.nii.gz", ""),
        ("1_1stHO.png", "1.png", ""),
        ("a_manual1.png", "a.png", ""),
        ("labelsTr/case_7.nii.gz", "imagesTr/case_7.nii.gz", ""),
    ],
)
def test_names_say_what_a_mask_shows(mask, image, name):
    assert part_name(mask, image) == name
