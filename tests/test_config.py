"""Settings: the later source wins, wrong names meet the nearest right one, wrong values say what is allowed."""

from pathlib import Path

import pytest

from medprior.config import load_settings
from medprior.errors import SettingsError


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("study: {seeds: 5, minutes: 7}\nadapt: {steps: 10}\n")
    settings = load_settings(
        file, ["study.seeds=6", "adapt.learning_rates=[1e-3, 3e-4]"], {"study.seeds": 8, "study.minutes": None}
    )
    assert (settings.study.seeds, settings.study.minutes, settings.adapt.steps) == (8, 7, 10)
    assert settings.adapt.learning_rates == (1e-3, 3e-4)


def test_a_method_is_a_section_of_its_own() -> None:
    settings = load_settings(assignments=["simclr.temperature=0.2"], methods=["simclr"])
    assert settings.method == {"simclr": {"temperature": 0.2}}


@pytest.mark.parametrize(
    ("given", "read"), [("2", 2), ("ray", "ray"), ("ray://10.0.0.1:10001", "ray://10.0.0.1:10001")]
)
def test_cells_are_worked_on_by_processes_or_a_cluster(given: str, read: int | str) -> None:
    assert load_settings(assignments=[f"study.workers={given}"]).study.workers == read
    assert load_settings(overrides={"study.workers": given}).study.workers == read


@pytest.mark.parametrize("given", ["0", "-1", "true", "2.5", "dask", "ray://host", "http://host:10001"])
def test_other_workers_are_refused_with_those_there_are(given: str) -> None:
    with pytest.raises(SettingsError, match="a number of processes from 1 up, ray, or ray://host:port"):
        load_settings(assignments=[f"study.workers={given}"])


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("study.mintues=3", 'Nearest: "minutes"'),
        ("studdy.minutes=3", 'Nearest: "study"'),
        ("simclrr.temperature=1", 'Nearest: "simclr"'),
        ("study.seeds=0", "greater than or equal to 1"),
        ("study.seeds=many", "setting study.seeds"),
        ("adapt.adaptations=[prob]", "probe"),
        ("study.minutes", "section.key=value"),
        ("seeds=3", "unknown section"),
        ("study.seeds=[1", "cannot be read"),
    ],
)
def test_wrong_settings_are_explained(assignment: str, said: str) -> None:
    with pytest.raises(SettingsError, match=r".") as caught:
        load_settings(assignments=[assignment], methods=["simclr"])
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["study: 3", "- a\n- b", "study: {seeds: [", "x: {}"])
def test_wrong_files_are_explained(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(file)
