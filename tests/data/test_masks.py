"""Masks: which image they belong to by name, the published layouts, and the real folders."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medprior.data import readers
from medprior.data.annotations import masks
from medprior.data.annotations.masks import pair_apart, pair_masks

LAYOUTS = {
    "MSD": (
        ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii.gz"],
        {"imagesTr/a.nii.gz": ["labelsTr/a.nii.gz"]},
    ),
    "nnU-Net": (
        ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/c.nii.gz"],
        {"imagesTr/c_0000.nii.gz": ["labelsTr/c.nii.gz"], "imagesTr/c_0001.nii.gz": ["labelsTr/c.nii.gz"]},
    ),
    "BraTS": (
        ["B_1/B_1_t1.nii.gz", "B_1/B_1_flair.nii.gz", "B_1/B_1_seg.nii.gz"],
        {"B_1/B_1_t1.nii.gz": ["B_1/B_1_seg.nii.gz"], "B_1/B_1_flair.nii.gz": ["B_1/B_1_seg.nii.gz"]},
    ),
    "BraTS 2023": (["g-0/g-0-t1n.nii.gz", "g-0/g-0-seg.nii.gz"], {"g-0/g-0-t1n.nii.gz": ["g-0/g-0-seg.nii.gz"]}),
    "ACDC": (["p/p_frame01.nii.gz", "p/p_frame01_gt.nii.gz"], {"p/p_frame01.nii.gz": ["p/p_frame01_gt.nii.gz"]}),
    "LiTS": (["volume-0.nii", "volume-1.nii", "segmentation-0.nii"], {"volume-0.nii": ["segmentation-0.nii"]}),
    "KiTS": (
        ["case_0/imaging.nii.gz", "case_0/segmentation.nii.gz", "case_1/imaging.nii.gz"],
        {"case_0/imaging.nii.gz": ["case_0/segmentation.nii.gz"]},
    ),
    "organs": (
        ["s0/ct.nii.gz", "s0/segmentations/liver.nii.gz", "s0/segmentations/aorta.nii.gz", "s1/ct.nii.gz"],
        {"s0/ct.nii.gz": ["s0/segmentations/aorta.nii.gz", "s0/segmentations/liver.nii.gz"]},
    ),
    "nuclei": (
        ["9f/images/9f.png", "9f/masks/01.png", "9f/masks/02.png"],
        {"9f/images/9f.png": ["9f/masks/01.png", "9f/masks/02.png"]},
    ),
    "objects": (
        ["c5/images/x5.png", "c5/masks/0.png", "c5/masks/1.png", "c6/images/x6.png"],
        {"c5/images/x5.png": ["c5/masks/0.png", "c5/masks/1.png"]},
    ),
    "a folder for each": (
        ["p1/0.png", "p1_mask/0.png", "p2/0.png", "p2_mask/0.png"],
        {"p1/0.png": ["p1_mask/0.png"], "p2/0.png": ["p2_mask/0.png"]},
    ),
    "ISIC": (["in/I_1.jpg", "in/I_2.jpg", "gt/I_1_segmentation.png"], {"in/I_1.jpg": ["gt/I_1_segmentation.png"]}),
    "BUSI": (
        ["b (1).png", "b (1)_mask.png", "b (1)_mask_1.png", "b (10).png"],
        {"b (1).png": ["b (1)_mask.png", "b (1)_mask_1.png"]},
    ),
    "CHASE": (["I_1L.jpg", "I_1L_1stHO.png", "I_1L_2ndHO.png"], {"I_1L.jpg": ["I_1L_1stHO.png", "I_1L_2ndHO.png"]}),
    "DRIVE": (
        ["training/images/21_training.tif", "training/1st_manual/21_manual1.tif", "test/images/21_test.tif"],
        {"training/images/21_training.tif": ["training/1st_manual/21_manual1.tif"]},
    ),
    "Montgomery": (
        ["img/M_1.png", "leftMask/M_1.png", "rightMask/M_1.png"],
        {"img/M_1.png": ["leftMask/M_1.png", "rightMask/M_1.png"]},
    ),
    "trees": (["images/p1/1.png", "images/p2/1.png", "masks/p2/1.png"], {"images/p2/1.png": ["masks/p2/1.png"]}),
    "split folders": (
        ["images_train/1.png", "images_test/1.png", "masks_train/1.png", "masks_test/1.png"],
        {"images_train/1.png": ["masks_train/1.png"], "images_test/1.png": ["masks_test/1.png"]},
    ),
    "flat images": (["images/7.png", "images/8.png", "masks/train/7.png"], {"images/7.png": ["masks/train/7.png"]}),
    "whole names": (["x/image.png", "x/mask.png", "y/image.png"], {"x/image.png": ["x/mask.png"]}),
    "organ named": (["images/c.nii", "masks/c_left_lung.nii"], {"images/c.nii": ["masks/c_left_lung.nii"]}),
    "mask images": (["images/1.png", "mask images/1.png"], {"images/1.png": ["mask images/1.png"]}),
    "beside below": (["a.png", "b.png", "masks/a.png"], {"a.png": ["masks/a.png"]}),
    "case": (["images/Ab.PNG", "Masks/aB.png"], {"images/Ab.PNG": ["Masks/aB.png"]}),
    "DICOM": (["ct/7.dcm", "ct/7_mask.nii.gz"], {"ct/7.dcm": ["ct/7_mask.nii.gz"]}),
    "odd folder": (["seg_project/a.png", "seg_project/a_mask.png"], {"seg_project/a.png": ["seg_project/a_mask.png"]}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_pair(layout):
    paths, expected = LAYOUTS[layout]
    found = pair_masks(paths)
    assert {image: list(of) for image, of in found.masks.items()} == expected
    assert (found.alone, found.ambiguous) == ((), {})
    assert pair_masks(paths[::-1]) == found


NOT_MASKS = [
    ["label_0/1.png", "label_1/2.png", "label_2/3.png"],
    ["labels_and_images/1.png", "images/1.png"],
    ["without_mask/1.png", "with_mask/2.png", "images/1.png"],
    ["a_mask.png", "b_mask.png"],
    ["masks/1.png", "masks/2.png"],
    ["unlabelled/1.png", "labelled/1.png"],
    ["no_seg.png", "damask.png", "unmask.png"],
    ["segmental/1.png", "images/1.png"],
]


@pytest.mark.parametrize("paths", NOT_MASKS, ids=lambda paths: paths[0])
def test_images_named_alike_stay_images(paths):
    assert pair_masks(paths).not_images() == frozenset()


def test_a_mask_without_its_image_is_said():
    found = pair_masks(["images/1.png", "masks/1.png", "masks/2.png"])
    assert found.masks == {"images/1.png": ("masks/1.png",)}
    assert found.alone == ("masks/2.png",)


def test_labels_of_one_split_are_not_given_to_another():
    found = pair_masks(["imagesTs/1.nii", "labelsTr/1.nii", "imagesTr/2.nii"])
    assert found.masks == {} and found.alone == ("labelsTr/1.nii",)
    found = pair_masks(["train/image/1.png", "train/label/1.png", "train/label/25.png", "unlabelled/25.png"])
    assert found.alone == ("train/label/25.png",)


def test_two_possible_images_are_no_guess():
    found = pair_masks(["images/1.png", "images/1.jpg", "images/2.png", "masks/1.png", "masks/2.png"])
    assert found.ambiguous == {"masks/1.png": ("images/1.jpg", "images/1.png")}
    assert found.masks == {"images/2.png": ("masks/2.png",)}


def test_looks_like_mask():
    assert all(
        map(masks.looks_like_mask, ["labelsTr/a.nii.gz", "x/a_mask.png", "x-masks/a.png", "seg.nii", "a_2ndHO.png"])
    )
    assert not any(
        map(masks.looks_like_mask, ["imagesTr/a.nii.gz", "a.png", "labels_and_images/a.png", "masks/images/a.png"])
    )


APART = {
    "a folder": ("labelsTr", ["a.nii.gz", "b.nii.gz"], ["a.nii.gz"], {"a.nii.gz": ["a.nii.gz"]}),
    "channels": ("labelsTr", ["imagesTr/c_0000.nii", "imagesTr/c_0001.nii"], ["c.nii"],
                 {"imagesTr/c_0000.nii": ["c.nii"], "imagesTr/c_0001.nii": ["c.nii"]}),
    "splits": ("labelsTr", ["imagesTr/1.nii", "imagesTs/1.nii"], ["1.nii"], {"imagesTr/1.nii": ["1.nii"]}),
    "a folder for each": ("truth", ["p1/ct.nii", "p2/ct.nii"], ["p1/seg.nii", "p2/seg.nii"],
                          {"p1/ct.nii": ["p1/seg.nii"], "p2/ct.nii": ["p2/seg.nii"]}),
    "named as the folder": ("truth", ["p1/ct.nii", "p2/0001.dcm"], ["p1.nii", "p2_seg.nii"],
                            {"p1/ct.nii": ["p1.nii"], "p2/0001.dcm": ["p2_seg.nii"]}),
    "trees": ("truth", ["images/p1/1.png", "images/p2/1.png"], ["p1/1.png", "p2/1.png"],
              {"images/p1/1.png": ["p1/1.png"], "images/p2/1.png": ["p2/1.png"]}),
    "trees under other trees": ("truth", ["a/p1/1.png", "b/p1/1.png"], ["a/p1/1.png", "b/p1/1.png"],
                                {"a/p1/1.png": ["a/p1/1.png"], "b/p1/1.png": ["b/p1/1.png"]}),
    "organs": ("parts", ["s0/ct.nii", "s1/ct.nii"], ["s0/liver.nii", "s0/aorta.nii"],
               {"s0/ct.nii": ["s0/aorta.nii", "s0/liver.nii"]}),
    "named as masks": ("o", ["label_1/x.png", "label_2/y_seg.png"], ["x.png", "y_seg.png"],
                       {"label_1/x.png": ["x.png"], "label_2/y_seg.png": ["y_seg.png"]}),
    "sequences": ("o", ["p1/t1.nii", "p1/flair.nii"], ["p1/seg.nii"],
                  {"p1/flair.nii": ["p1/seg.nii"], "p1/t1.nii": ["p1/seg.nii"]}),
    "other folders": ("o", ["ct_volumes/p12.nii"], ["final/p12.nii"], {"ct_volumes/p12.nii": ["final/p12.nii"]}),
}  # fmt: skip


@pytest.mark.parametrize("layout", APART)
def test_masks_in_a_folder_of_their_own_pair(layout):
    folder, images, of, expected = APART[layout]
    found = pair_apart(images, of, folder)
    assert {image: list(masks) for image, masks in found.masks.items()} == expected
    assert (found.alone, found.ambiguous) == ((), {})


def test_masks_in_a_folder_of_their_own_are_no_guess():
    assert pair_apart(["imagesTs/1.nii"], ["1.nii"], "labelsTr").alone == ("1.nii",)
    assert pair_apart(["p1/ct.nii"], ["p3/ct.nii"], "truth").alone == ("p3/ct.nii",)
    assert pair_apart(["p1/1.png"], ["p1/1.png", "p3/1.png"], "truth").alone == ("p3/1.png",)
    assert pair_apart(["x/1.png", "y/1.png"], ["1.png"], "truth").ambiguous == {"1.png": ("x/1.png", "y/1.png")}
    assert pair_apart(["1.png", "1.jpg"], ["1.png"], "truth").ambiguous == {"1.png": ("1.jpg", "1.png")}


words = st.sampled_from(
    ["images", "masks", "labelsTr", "imagesTr", "p1", "seg", "a", "b_mask", "a_0000", "a_t1", "mask", "é"]
)
trees = st.lists(
    st.lists(words, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".png"), unique=True, max_size=25
)


@given(trees)
def test_every_path_has_one_part(paths):
    """A path is an image, a mask or left over: never two of these, never one that was not given."""
    found = pair_masks(paths)
    paired = {mask for of in found.masks.values() for mask in of}
    assert found.not_images() <= set(paths)
    assert not found.masks.keys() & found.not_images()
    assert not paired & set(found.alone) and not paired & found.ambiguous.keys()
    assert all(list(of) == sorted(set(of)) for of in found.masks.values())
    assert not paths or len(found.not_images()) < len(paths)


def test_many_folders_take_little_time():
    """Each folder of masks looks at the folder that is called alike, not at all of them."""
    paths = [f"p{i}{kind}/0.png" for i in range(3000) for kind in ("", "_mask")]
    assert len(pair_masks(paths).masks) == 3000
    strange = [f"{kind}{i}/0.png" for i in range(3000) for kind in ("p", "mask_q")]
    assert pair_masks(strange).masks == {}


FOLDERS = {
    "msd-task04-hippocampus": (200, 1),
    "chase-db1": (28, 2),
    "isbi2012-em": (24, 1),
    "monuseg": (6, 1),
    "covid-chestxray": (43, 1),
    "vqa-rad": (0, 0),
    "brain-tumor-mri": (0, 0),
    "ct-slices-unlabelled": (0, 0),
    "nih-chestxray14-64px": (0, 0),
    "bccd": (0, 0),
}


def readable(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if readers.format_of(p) or "dicom" in p.parts]


@pytest.mark.data
@pytest.mark.parametrize("name", FOLDERS)
def test_real_folders_pair(real_data, name):
    found = pair_masks(readable(real_data / name))
    count, each = FOLDERS[name]
    assert len(found.masks) == count and {len(of) for of in found.masks.values()} <= {each}
    assert (found.alone, found.ambiguous) == ((), {})


@pytest.mark.data
def test_all_real_folders_together(real_data):
    found = pair_masks(readable(real_data))
    assert len(found.masks) == 301 and (found.alone, found.ambiguous) == ((), {})
