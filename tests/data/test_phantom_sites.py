"""Hospitals of a generated cohort: whom they see, and the mark that gives one of them away."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.phantom import Sites, anatomy, make_cohort, render_xray
from medprior.errors import SettingsError


def cohort(folder: Path, sites: Sites, patients: int = 8) -> list[tuple[dict[str, str], np.ndarray]]:
    labels = make_cohort(folder, patients=patients, seed=2, size=64, sites=sites)
    with labels.open() as file:
        return [(row, np.asarray(Image.open(folder / row["path"]))) for row in csv.DictReader(file)]


def test_a_mark_stands_in_a_corner_of_one_hospital_and_nowhere_else(tmp_path: Path) -> None:
    plain, marked = cohort(tmp_path / "plain", Sites()), cohort(tmp_path / "marked", Sites(marked=True))
    assert {row["site"] for row, _ in marked} == {"north", "south"}
    for (row, before), (same, after) in zip(plain, marked, strict=True):
        assert row == same
        changed = np.argwhere(before != after)
        assert len(changed) == (0 if row["site"] == "north" else 12)
        assert (changed < 12).all()
        assert (after[before != after] >= 215).all()


def test_the_ill_go_where_they_are_sent_and_stay_there() -> None:
    sites = Sites(ill_in_south=0.9)
    sent = [sites.sent(anatomy(4, number)) for number in range(30)]
    agree = np.mean([(person.site == "south") == bool(person.lesions) for person in sent])
    assert 0.8 <= agree <= 1
    assert all(sites.sent(anatomy(4, number, visit=1)).site == sent[number].site for number in range(5))
    sure = Sites(ill_in_south=1.0)
    assert all((sure.sent(person).site == "south") == bool(person.lesions) for person in sent)


def test_hospitals_that_are_alike_take_the_same_picture() -> None:
    person = next(one for one in (anatomy(1, number) for number in range(9)) if one.site == "south")
    north = render_xray(person, 32, Sites(alike=True).detector(person)).image
    assert np.array_equal(north, render_xray(person, 32, "north").image)
    assert not np.array_equal(north, render_xray(person, 32, Sites().detector(person)).image)


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="share"):
        Sites(ill_in_south=1.2)
