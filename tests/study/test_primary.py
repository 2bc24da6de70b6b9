"""The comparison that is named beforehand: which arm it is, and what is said of a name that is none."""

from __future__ import annotations

import pytest

from medprior.config import load_settings
from medprior.errors import SettingsError
from medprior.study.arms import Grid
from medprior.study.planning.choice import primary_arm
from medprior.study.results import Arm

GRID = Grid(
    (("mae", "vit_tiny"), ("simclr", "resnet18"), ("simclr", "vit_tiny")), ("probe", "fine-tune"), (20,), 1, 1, 1
)


def named(text: str) -> Arm | None:
    return primary_arm(load_settings(assignments=[f"study.primary={text}"]), GRID)


def test_an_arm_is_named_by_its_method_its_encoder_and_how_it_is_adapted() -> None:
    assert named("simclr@resnet18/probe") == Arm("simclr", "resnet18", "probe")
    assert named("mae/fine-tune") == Arm("mae", "vit_tiny", "fine-tune")
    assert primary_arm(load_settings(), GRID) is None


@pytest.mark.parametrize(
    ("text", "what"), [("simclr/probe", "2 arms"), ("mae", "2 arms"), ("byol", "no arm"), ("mae/prob", "no arm")]
)
def test_what_is_no_single_arm_is_answered_with_those_there_are(text: str, what: str) -> None:
    with pytest.raises(SettingsError, match=f"names {what}") as error:
        named(text)
    assert "mae@vit_tiny/fine-tune" in str(error.value.do)
