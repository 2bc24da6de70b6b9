"""What docs/corruptions.md says of the figures is what the functions do unless told otherwise."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from medprior.views import corruption, cutting, masking

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "corruptions.md").read_text("utf-8")


def rows() -> dict[str, str]:
    """The line of the tables that tells of each function."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return {name: line for line in lines for name in re.findall(r"`(\w+)`", line)[:1]}


def defaults(function: object) -> dict[str, object]:
    return {name: given.default for name, given in inspect.signature(function).parameters.items()}  # type: ignore[arg-type]


def test_the_odds_of_the_deformation_are_told_as_they_are():
    told = {name: float(re.findall(r"0\.\d+", rows()[function])[0]) for name, function in
            (("flipped", "flip_repeatedly"), ("shuffled", "shuffle_locally"), ("bent", "bend_intensities"),
             ("painted", "paint"))}  # fmt: skip
    real = defaults(corruption.deform)
    assert told == {name: real[name] for name in told} and "a fifth of them `paint_in`" in PAGE and real["inner"] == 0.2


def test_the_other_figures_are_told_as_they_are():
    assert f"variance {defaults(corruption.add_noise)['variance']}" in rows()["add_noise"]
    assert f"every {defaults(corruption.down_and_up)['factor']}th" in rows()["down_and_up"]
    assert f"up to {defaults(cutting.cut_out)['most']}" in rows()["cut_out"] and cutting.EDGES == (0.05, 0.25)
    for name in ("mask_channels", "mask_blocks"):
        assert f"{100 * defaults(getattr(masking, name))['ratio']:.0f} %" in rows()[name]


def test_pictures_are_there_and_small():
    pictures = re.findall(r"\]\((images/corruptions/\w+\.png)\)", PAGE)
    assert len(pictures) == 3
    assert all((DOCS / picture).stat().st_size < 60_000 for picture in pictures)
