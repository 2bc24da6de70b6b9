"""The report on paper: printed whole, or said why not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from medprior.errors import OutputError, RunError
from medprior.report.content import ReportContent
from medprior.report.page import write_report
from medprior.report.paper import BROWSERS, print_report


def put_on_path(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name, alone on the PATH."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no report\.html"):
        print_report(tmp_path)


def test_without_a_browser_it_says_what_to_install(
    content: ReportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "report.html", content)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutputError, match="Install Chromium, Chrome or Edge"):
        print_report(tmp_path)


def test_a_browser_that_fails_leaves_the_old_pdf(
    content: ReportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "report.html", content)
    (tmp_path / "report.pdf").write_bytes(b"old")
    put_on_path(tmp_path / "bin", "google-chrome", "echo 'no display' >&2; exit 3", monkeypatch)
    with pytest.raises(OutputError, match="no display"):
        print_report(tmp_path)
    assert (tmp_path / "report.pdf").read_bytes() == b"old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bin", "report.html", "report.pdf"]


@pytest.mark.browser
@pytest.mark.skipif(
    not any((Path(folder) / name).is_file() for folder in os.get_exec_path() for name in BROWSERS)
    and os.environ.get("CI") != "true",
    reason="needs Chromium on the PATH (chromium)",
)
def test_it_is_printed_on_a_few_pages(content: ReportContent, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", content)
    pdf = print_report(tmp_path)
    assert pdf == tmp_path / "report.pdf"
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 14
