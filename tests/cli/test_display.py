"""Progress without a terminal: plain lines with rate and time left, counted from where work was taken up."""

from __future__ import annotations

import pytest

from medprior.cli.display import Terminal


def test_plain_lines_count_from_where_work_was_taken_up(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().task("Adapting", 1000, "steps", done=990) as bar:
        bar.advance(10)
        bar.note("cell 3")
    line = capsys.readouterr().out
    assert "1,000/1,000 steps" in line
    assert "cell 3" in line
    with Terminal().task("Slow", 10, "files", done=4) as bar:
        pass
    assert "4/10 files  0.0/s" in capsys.readouterr().out
