"""Settings that a kind of study never reads are said in its plan; what cannot be done is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from medprior.config import AdaptSettings, Settings, given, load_settings
from medprior.data.phantom import make_cohort
from medprior.errors import SettingsError
from medprior.study.arms import SCRATCH, Cell
from medprior.study.cells import Bench, run_cell
from medprior.study.ground import Ground, prepare
from medprior.study.planning.plan import Schedule
from medprior.study.planning.reading import for_task, read_catalog
from medprior.study.planning.unread import CLASSIFYING, OUTLINING
from medprior.study.planning.words import plan_lines
from medprior.study.study import make_grid, run_study

SMALL = ["data.size=16", "study.budgets=[2, all]", "study.folds=2", "study.repeats=1"]
CLASSIFY, OUTLINE = ["data.label=[label]", "study.budgets=[12]"], ["adapt.crops=2", "adapt.overlap=0.0"]


def settings_of(*more: str) -> Settings:
    return load_settings(assignments=[*SMALL, *more])


def ground_of(scans: Path, labels: Path | None, out: Path, settings: Settings) -> Ground:
    catalog = for_task(read_catalog(scans, labels, settings, out), settings, out)
    return prepare(catalog, settings, out, on_gpu=False)


@pytest.fixture(scope="module")
def outlined_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("ct"), patients=4, size=20, kind="ct", masks=("organs",), seed=3).parent


@pytest.fixture(scope="module")
def outlined(outlined_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground_of(outlined_scans, None, tmp_path_factory.mktemp("outlined"), settings_of(*OUTLINE))


@pytest.fixture(scope="module")
def classified(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground_of(cohort.parent, cohort, tmp_path_factory.mktemp("classified"), settings_of(*CLASSIFY))


def said(ground: Ground, *more: str) -> list[str]:
    """The lines of a plan about settings that make no difference."""
    settings = settings_of("pretrain.backbone=test_vit", "pretrain.methods=[mae]", *more)
    grid = make_grid(ground, settings)
    schedule = Schedule(dict.fromkeys(grid.methods, 1), dict.fromkeys(grid.budgets, 1), 60)
    return [line.strip() for line in plan_lines(ground, grid, schedule, settings) if "not read" in line]


def test_a_study_knows_its_kind(outlined: Ground, classified: Ground) -> None:
    assert outlined.outlined and outlined.crops == 2 and outlined.volumes is outlined.store
    assert not classified.outlined and not classified.crops and classified.whole is classified.store


def test_outlines_say_which_settings_of_labels_they_never_read(outlined: Ground) -> None:
    (line,) = said(outlined, "adapt.learning_rates=[1e-3]", "adapt.class_balanced=false", "adapt.layer_decay=0.5")
    assert line == (
        "Given, but not read where outlines are learnt: adapt.class_balanced, "
        "adapt.learning_rates (adapt.outline_rate is)"
    )
    (line,) = said(outlined, "adapt.adaptations=[probe, fine-tune]")
    assert "adapt.adaptations (fine-tuning is the only one)" in line


def test_labels_say_which_settings_of_outlines_they_never_read(classified: Ground) -> None:
    (line,) = said(classified, *OUTLINE, "data.spacing=2", "adapt.learning_rates=[3e-3]")
    names = "adapt.crops (adapt.batch_size is), adapt.overlap, data.spacing"
    assert line == f"Given, but not read where scans are classified: {names}"


def test_nothing_is_said_of_settings_that_are_read(outlined: Ground, classified: Ground) -> None:
    assert said(outlined, *OUTLINE, "adapt.adaptations=[fine-tune]", "adapt.outline_rate=1e-3") == []
    assert said(classified, "adapt.adaptations=[probe]", "adapt.batch_size=8", "study.free_validation=true") == []


def test_outlines_by_a_probe_alone_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    settings = settings_of("adapt.adaptations=[probe]", "study.task=segment")
    with pytest.raises(SettingsError, match="fine-tuning alone") as caught:
        run_study(tmp_path / "nowhere", None, settings, tmp_path / "out")
    assert caught.value.where == "setting adapt.adaptations" and "fine-tune" in str(caught.value.do)
    assert not (tmp_path / "out").exists()


def test_they_are_refused_where_the_task_is_guessed_too(outlined_scans: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fine-tuning alone"):
        ground_of(outlined_scans, None, tmp_path, settings_of("adapt.adaptations=[probe]"))
    assert not (tmp_path / "volumes").exists()


def test_what_is_given_is_told_from_what_is_left_alone() -> None:
    found = given(load_settings(assignments=["adapt.steps=2", "study.seeds=3", "data.size=16"]))
    assert found == ("adapt.steps", "data.size", "study.seeds")
    assert given(load_settings()) == ()


class Noted(AdaptSettings):
    """Settings that remember which of them were asked for."""

    def __getattribute__(self, name: str) -> object:
        if name in AdaptSettings.model_fields:
            NOTED.add(f"adapt.{name}")
        return super().__getattribute__(name)


NOTED: set[str] = set()


@pytest.mark.parametrize(("kind", "backbone"), [("outlined", "unet_4"), ("classified", "test_vit")])
def test_a_cell_reads_none_of_the_settings_that_its_study_is_said_not_to_read(
    kind: str, backbone: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ground: Ground = request.getfixturevalue(kind)
    settings = settings_of(*(OUTLINE if kind == "outlined" else CLASSIFY))
    noted = settings.model_copy(update={"adapt": Noted(crops=2, overlap=0.0)})
    bench = Bench(ground, ground.store.resident("cpu"), noted, dict.fromkeys(ground.budgets, 1), tmp_path)
    (tmp_path / "cells").mkdir()
    NOTED.clear()
    run_cell(bench, Cell(SCRATCH, backbone, "scratch", ground.budgets[0], 0, 0, None))
    never = OUTLINING if ground.outlined else CLASSIFYING
    assert {"adapt.weight_decay", "adapt.warmup"} <= NOTED
    assert NOTED & set(never) <= {"adapt.class_balanced"}  # part of every recipe; only losses of labels are balanced
