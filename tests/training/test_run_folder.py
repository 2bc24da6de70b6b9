"""A run folder is taken up by the same configuration and refused to another."""

from pathlib import Path

import pytest

from medprior.errors import RunError
from medprior.training.run import Run, environment


def test_the_same_run_is_taken_up_and_another_refused(tmp_path: Path) -> None:
    Run.open(tmp_path, {"method": "mae", "steps": 10, "pair": (1, 2)})
    Run.open(tmp_path, {"method": "mae", "steps": 10, "pair": (1, 2)})
    with pytest.raises(RunError, match="steps was 10, now 20"):
        Run.open(tmp_path, {"method": "mae", "steps": 20, "pair": (1, 2)})
    (tmp_path / "config.yaml").write_text("][")
    with pytest.raises(RunError, match="damaged"):
        Run.open(tmp_path, {"method": "mae"})


def test_metrics_are_rewritten_after_a_resume(tmp_path: Path) -> None:
    run = Run.open(tmp_path, {})
    for step in range(5):
        run.log(step, {"loss": 1.0 / (step + 1), "lr": 0.1})
    again = Run.open(tmp_path, {})
    again.forget_after(3)
    again.log(3, {"loss": 0.5, "lr": 0.1})
    steps, losses = again.curves()["loss"]
    assert steps == [0, 1, 2, 3]
    assert losses == pytest.approx([1, 0.5, 1 / 3, 0.5], rel=1e-5)


def test_the_environment_names_no_machine_or_user() -> None:
    import getpass
    import socket

    text = str(environment())
    assert socket.gethostname() not in text
    assert f"'{getpass.getuser()}'" not in text


def test_finish_drops_checkpoints(tmp_path: Path) -> None:
    run = Run.open(tmp_path, {})
    run.checkpoints.mkdir()
    (run.checkpoints / "step-00000001.pt").write_bytes(b"x")
    assert not run.finished
    run.finish({"seconds": 1.0})
    assert run.finished
    assert not run.checkpoints.exists()
