"""Recipes and plans as data: what they promise, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from medprior.errors import SettingsError
from medprior.views.acquisition import DepthGain, Window
from medprior.views.modalities import families
from medprior.views.plan import ViewPlan, ViewSpec, independent
from medprior.views.recipe import ViewRecipe, base_recipe


@pytest.mark.parametrize("modality", ["CR", "DX", "CT", "MR", "US", None, ""])
@pytest.mark.parametrize("d", [2, 3])
def test_laterality_is_kept_unless_asked(modality, d):
    base = base_recipe(modality, 64, d)
    assert all(r.flips == () for r in (base, base.contrastive(), base.restorative(), base.adaptation()))
    asked = replace(base, flips=(d - 1,))
    assert asked.contrastive().flips == asked.restorative().flips == asked.adaptation().flips == (d - 1,)


def test_slides_may_be_flipped_along_every_axis():
    assert base_recipe("SM", 64).contrastive().flips == base_recipe("sm", 64).flips == (0, 1)


def test_plain_and_restorative_leave_intensities_alone():
    base = base_recipe("SM", 32)
    for recipe in (base.plain(), base.contrastive().plain(), base.restorative()):
        assert recipe.intensity_probability == recipe.blur_probability == recipe.noise_probability == 0
        assert recipe.grey_probability == 0 and recipe.acquisition == ()
    assert base.contrastive().plain() == ViewRecipe(size=32, modality="SM")


def test_crops_keep_their_pitch_and_the_whole_scan_has_none():
    base = replace(base_recipe("CT", 32, 3), pitch=(1.0, 2.0))
    assert base.contrastive().pitch == base.restorative().pitch == (1.0, 2.0)
    assert base.plain().pitch is base.adaptation().pitch is None


def test_crops_keep_their_shape_and_the_whole_scan_is_a_cube():
    slab = replace(base_recipe("MR", 32, 3), pitch=(1.0, 1.0)).shaped((8, 24, 32))
    assert (slab.size, slab.sides, slab.shape) == (32, (8, 24, 32), (8, 24, 32))
    assert all(r.shape == (8, 24, 32) for r in (slab.contrastive(), slab.restorative(), slab.outlining()))
    assert slab.plain().shape == slab.adaptation().shape == base_recipe("MR", 32, 3).shape == (32, 32, 32)
    assert ViewRecipe.from_dict(yaml.safe_load(yaml.safe_dump(slab.to_dict()))) == slab
    assert ViewRecipe.from_dict({**slab.to_dict(), "sides": [8, 24, 32]}) == slab


def test_a_cube_is_a_cube_however_it_was_asked_for():
    base = base_recipe("CT", 32, 3)
    assert base.shaped((16, 16, 16)) == replace(base, size=16) and base.shaped([16] * 3).sides is None
    assert replace(base, pitch=(1.0, 1.0)).shaped((8, 9, 9)).shaped((9, 9, 9)) == replace(
        base, pitch=(1.0, 1.0), size=9
    )


@pytest.mark.parametrize(
    "sides", [(8, 32), (8, 24, 31), (8, 24, 33), (0, 32, 32), (8.0, 24, 32), (), (8, 24, 32, 32)], ids=str
)
def test_sides_that_are_no_shape_are_refused(sides):
    with pytest.raises(SettingsError, match=r"3 whole numbers from 1, the longest of them size = 32") as refused:
        ViewRecipe(32, 3, pitch=(1.0, 1.0), sides=sides)
    assert refused.value.where == "view.sides"


def test_whole_scans_are_squares_and_cubes():
    with pytest.raises(SettingsError, match="none without a pitch, since whole scans are seen as squares and cubes"):
        base_recipe("CT", 32, 3).shaped((8, 24, 32))
    with pytest.raises(SettingsError, match="without a pitch"):
        replace(ViewRecipe(32, 2, pitch=(1.0, 1.0), sides=(32, 8)), pitch=None)


@pytest.mark.parametrize("code", [code for family in families().values() for code in family.codes])
def test_every_known_modality_gives_recipes(code):
    base = base_recipe(code.lower(), 32)
    for recipe in (base.contrastive(), base.adaptation()):
        assert recipe.acquisition == () if code in ("XC", "ES") else len(recipe.acquisition) > 0
        assert ViewRecipe.from_dict(recipe.to_dict()) == recipe
        assert ViewRecipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_no_modality_belongs_to_two_families():
    codes = [code for family in families().values() for code in family.codes]
    assert len(set(codes)) == len(codes)


def test_adaptation_is_milder_than_contrast():
    for family in families().values():
        strong, mild = (family.settings(use, 2000.0)["acquisition"] for use in ("contrastive", "adaptation"))
        for much, little in zip(strong, mild, strict=True):
            assert type(much) is type(little) and much.probability >= little.probability


def test_unknown_modalities_keep_the_published_jitter():
    for modality in (None, "", "PT", "XC"):
        recipe = base_recipe(modality, 32).contrastive()
        assert (recipe.brightness, recipe.contrast, recipe.gamma, recipe.saturation) == (0.4, 0.4, 0.2, 0.4)
        assert recipe.acquisition == ()


def test_a_window_is_in_the_units_of_the_store():
    (window,) = base_recipe("CT", 32, units=400.0).contrastive().acquisition
    assert isinstance(window, Window) and window.units == 400.0
    assert base_recipe("CT", 32).contrastive().plain().units == 2000.0


def test_data_round_trip_and_lists_from_yaml():
    recipe = base_recipe("SM", 48, 3).contrastive()
    data = recipe.to_dict()
    assert ViewRecipe.from_dict(data) == recipe
    assert ViewRecipe.from_dict({**data, "scale": [0.2, 1.0], "flips": [0, 1, 2]}) == recipe
    pitched = replace(recipe, pitch=(1.0, 2.0))
    assert ViewRecipe.from_dict({**data, "pitch": [1.0, 2.0]}) == ViewRecipe.from_dict(pitched.to_dict()) == pitched


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="brightness"):
        ViewRecipe.from_dict({"size": 32, "brigthness": 0.1})
    with pytest.raises(SettingsError, match='Nearest: "speckle"'):
        ViewRecipe.from_dict({"size": 32, "acquisition": [{"change": "spekle"}]})
    with pytest.raises(SettingsError, match='Nearest: "level"'):
        ViewRecipe.from_dict({"size": 32, "acquisition": [{"change": "window", "levle": [0, 1]}]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", 32.0),
        ("spatial_dims", 4),
        ("within", "image"),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 0.2)),
        ("scale", (0.5, 1.2)),
        ("scale", (0.5,)),
        ("pitch", (0.0, 1.0)),
        ("pitch", (2.0, 1.0)),
        ("aspect", (0.0, 1.0)),
        ("aspect", (1.0, float("inf"))),
        ("flips", (2,)),
        ("flips", (0, 0)),
        ("rotation", 181),
        ("rotation", float("nan")),
        ("intensity_probability", 1.1),
        ("brightness", -0.1),
        ("gamma", -1),
        ("blur", (0.0, 0.5)),
        ("noise", (0.2, 0.1)),
        ("units", 0.0),
        ("acquisition", (DepthGain(1.0, (0.0, 1.0)), DepthGain(1.0, (0.0, 2.0)))),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(name, value):
    with pytest.raises(SettingsError, match="Allowed") as refused:
        ViewRecipe(**{"size": 32, name: value})
    assert refused.value.where == f"view.{name}"


def test_plans_join_and_follow_shared_geometry():
    base = base_recipe("CT", 32)
    plan = ViewPlan(independent(base, 2).specs + independent(replace(base, size=16), 3, "part").specs)
    assert [spec.name for spec in plan.specs] == ["view0", "view1", "part0", "part1", "part2"]
    chain = ViewPlan((ViewSpec("a", base), ViewSpec("b", base), ViewSpec("c", base, "a"), ViewSpec("d", base, "c")))
    assert [chain.geometry_source(i) for i in range(4)] == [0, 1, 0, 0]


def test_plans_that_cannot_be_followed_are_refused():
    base = base_recipe("CT", 32)
    for specs in (
        (),
        (ViewSpec("a", base), ViewSpec("a", base)),
        (ViewSpec("a", base, geometry_of="a"),),
        (ViewSpec("a", base, geometry_of="b"), ViewSpec("b", base)),
        (ViewSpec("a", base), ViewSpec("b", base_recipe("CT", 32, 3))),
    ):
        with pytest.raises(SettingsError):
            ViewPlan(specs)
