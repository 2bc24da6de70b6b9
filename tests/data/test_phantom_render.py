"""CT and X-ray show one anatomy: values, masks, boxes and landmarks agree with what is rendered."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from medprior.data.phantom import CT, ORGANS, Anatomy, anatomy, render_ct, render_xray
from medprior.data.phantom.extents import boxes, landmarks
from medprior.data.phantom.grid import Grid
from medprior.data.phantom.paint import paint
from medprior.data.phantom.xray import DEPTH, WATER, attenuation, xray_grid

PEOPLE = (0, 2, 8, 11)
VOXEL = 2.5


@cache
def person(number: int) -> Anatomy:
    return anatomy(3, number)


@cache
def scanned(number: int) -> CT:
    return render_ct(person(number), spacing=(VOXEL,) * 3)


def mask(ct: CT, *names: str) -> np.ndarray:
    return np.isin(ct.organs, [ORGANS.index(name) for name in names])


def near(ct: CT, name: str, reach: int = 1) -> tuple[slice, ...]:
    return tuple(slice(v - reach, v + reach + 1) for v in np.rint(ct.landmarks[name]).astype(int))


@pytest.mark.parametrize("number", PEOPLE)
def test_tissues_have_the_hounsfield_units_of_a_chest(number: int) -> None:
    ct = scanned(number)

    def typical(*names: str) -> float:
        return float(np.median(ct.volume[mask(ct, *names)]))

    assert -920 < typical("right lung") < -780
    assert -920 < typical("left lung") < -780
    assert 20 < typical("heart") < 70
    assert 20 < typical("mediastinum") < 70
    assert 90 < typical("spine") < 450
    assert 300 < np.quantile(ct.volume[mask(ct, "ribs")], 0.75) < 1100
    assert typical("airways") < -850
    assert typical("background") < -970
    under_the_skin = ct.volume[binary_erosion(mask(ct, "body"), iterations=2)]
    assert -150 < np.quantile(under_the_skin, 0.02) < 40
    assert 20 < np.quantile(under_the_skin, 0.9) < 80


@pytest.mark.parametrize("number", PEOPLE)
def test_landmarks_land_on_the_anatomy_in_ct(number: int) -> None:
    ct = scanned(number)
    airways, spine = mask(ct, "airways"), mask(ct, "spine")
    assert airways[near(ct, "carina")].all()
    z, y, x = np.rint(ct.landmarks["carina"] + [30 / VOXEL, 0, 0]).astype(int)
    assert not airways[z, y, x]
    assert all(spine[near(ct, f"vertebra T{level}")].all() for level in range(1, 13))
    for side in ("right", "left"):
        lung = np.argwhere(mask(ct, f"{side} lung"))
        tip = lung[lung[:, 0] == lung[:, 0].min()].mean(0)
        np.testing.assert_allclose(ct.landmarks[f"{side} apex"], tip, atol=1.3)
        assert ct.volume[near(ct, f"{side} clavicle")].max() > 200


@pytest.mark.parametrize("number", PEOPLE)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_costophrenic_angle_is_the_outer_bottom_of_the_pleural_space(number: int, side: str) -> None:
    ct = scanned(number)
    angle = ct.landmarks[f"{side} costophrenic angle"]
    space = np.argwhere(mask(ct, f"{side} lung", "effusion"))
    sign = -1 if side == "right" else 1
    outer = space[sign * (space[:, 2] - angle[2]) > -10 / VOXEL]
    assert outer[:, 0].max() == pytest.approx(angle[0], abs=2)
    lowest = outer[outer[:, 0] >= outer[:, 0].max() - 1]
    assert sign * (sign * lowest[:, 2]).max() == pytest.approx(angle[2], abs=1.5)


@pytest.mark.parametrize("number", PEOPLE)
def test_the_heart_apex_is_on_the_surface_of_the_heart(number: int) -> None:
    someone = person(number)
    ventricle, apex = someone.heart["ventricle"], np.array(someone.landmarks["heart apex"])
    inward = (np.array(ventricle.centre) - apex) / np.linalg.norm(np.array(ventricle.centre) - apex)
    ct, heart = scanned(number), mask(scanned(number), "heart")

    def at(point: np.ndarray) -> bool:
        return bool(heart[tuple(np.rint(ct.grid.voxel(someone.pose.to_scan(point))).astype(int))])

    assert at(apex + 3 * inward)
    assert not at(apex - 3 * inward)


def test_boxes_bound_the_masks() -> None:
    for number in PEOPLE:
        ct, named = scanned(number), dict(scanned(number).boxes)
        heart = np.argwhere(mask(ct, "heart"))
        np.testing.assert_allclose(heart.max(0)[1:], named["heart"][1][1:], atol=1.5)
        for side in ("right lung", "left lung"):
            lung = np.argwhere(mask(ct, side))
            assert (lung.min(0) >= named[side][0] - 0.5).all()
            assert (lung.max(0) <= named[side][1] + 0.5).all()


@pytest.mark.parametrize("number", [n for n in range(12) if anatomy(3, n).lesions][:4])
def test_lesions_lie_in_lung_and_their_boxes_fit(number: int) -> None:
    ct = scanned(number)
    lesion = ct.lesions == 1
    assert mask(ct, "right lung", "left lung", "ribs", "effusion")[lesion].all()
    corners = np.stack([box for name, box in ct.boxes if name == "nodule"])
    inside = np.argwhere(lesion)
    np.testing.assert_allclose(inside.min(0), corners[:, 0].min(0), atol=1.2)
    np.testing.assert_allclose(inside.max(0), corners[:, 1].max(0), atol=1.2)
    assert len(corners) == len(person(number).lesions)


@pytest.mark.parametrize("number", [n for n in range(12) if anatomy(3, n).lesions][:4])
def test_on_an_xray_a_lesion_is_where_its_box_is_and_nowhere_else(number: int) -> None:
    someone, grid = person(number), xray_grid(160, 340.0)
    shadow = attenuation(someone, grid) - attenuation(replace(someone, lesions=()), grid)
    touched = np.argwhere(np.abs(shadow) > 1e-4)
    corners = np.stack([box[:, [0, 2]] for name, box in boxes(someone, grid) if name == "nodule"])
    np.testing.assert_allclose(touched.min(0), corners[:, 0].min(0), atol=1.2)
    np.testing.assert_allclose(touched.max(0), corners[:, 1].max(0), atol=1.2)
    chord = 2 * max(lesion.shape.radii[1] for lesion in someone.lesions)
    assert 0.5 < shadow.max() / (WATER * chord * 0.87) < 1.5


@pytest.mark.parametrize("number", PEOPLE)
def test_an_xray_is_the_projection_of_the_ct(number: int) -> None:
    """Beer–Lambert in float64 over thin CT layers gives the line integrals that thick layers gave the X-ray."""
    someone, coarse = person(number), xray_grid(64, 340.0)
    thin = 2.0
    fine = Grid(
        (64, int(DEPTH / thin), 64),
        (coarse.spacing[0], thin, coarse.spacing[2]),
        (coarse.origin[0], -DEPTH / 2 + thin / 2, coarse.origin[2]),
    )
    hu = paint(someone, fine).hu.astype(np.float64)
    expected = (WATER * thin * (1 + hu / 1000)).sum(0)
    found = attenuation(someone, coarse)
    assert np.abs(found - expected).mean() < 0.04
    assert np.quantile(np.abs(found - expected), 0.99) < 0.15
    assert expected.max() > 3


@pytest.mark.parametrize("number", PEOPLE)
def test_ct_and_xray_put_each_landmark_at_the_same_place(number: int) -> None:
    someone, ct, xray = person(number), scanned(number), render_xray(person(number), 64)
    for name, voxel in ct.landmarks.items():
        place = (np.array(ct.grid.origin) + voxel * np.array(ct.spacing))[[0, 2]]
        pixel = (place + xray.pixel * 64 / 2) / xray.pixel - 0.5
        np.testing.assert_allclose(xray.landmarks[name], pixel, atol=1e-6)
    assert set(xray.landmarks) == set(landmarks(someone, ct.grid)) == set(ct.landmarks)


def test_an_xray_has_dark_lungs_white_mediastinum_and_black_surroundings() -> None:
    xray = render_xray(anatomy(3, 4), 128)
    boxed = dict(xray.boxes)
    low_row, low_column, high_row, high_column = (int(v) for v in boxed["right lung"])
    lung = xray.image[low_row + 15 : low_row + 50, low_column + 12 : high_column - 12]
    spine = xray.image[low_row + 40 : high_row, int(xray.landmarks["vertebra T8"][1])]
    assert xray.image.dtype == np.uint8
    assert np.median(lung) < 110 < 180 < np.median(spine)


def test_sites_differ_in_sharpness_and_noise() -> None:
    """One anatomy in both rooms: the southern detector is blurrier, its CT noisier."""
    someone = replace(anatomy(3, 4), lesions=())
    north, south = (replace(someone, site=site) for site in ("north", "south"))
    air = (slice(0, 6), slice(0, 6), slice(0, 6))
    noise = [render_ct(p, 48).volume[air].std() for p in (north, south)]
    assert noise[1] > 1.3 * noise[0]
    assert render_xray(south, 64).pixel > 1.02 * render_xray(north, 64).pixel
