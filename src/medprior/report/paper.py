"""A report on paper: `report.pdf`, printed from `report.html` by a Chromium or Chrome of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from medprior.errors import OutputError, RunError
from medprior.files import replace_file

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
"""Names that browsers of one family go by on the PATH."""
SECONDS = 180


def print_report(run: Path) -> Path:
    """Print the page in the folder `run` to `report.pdf` beside it, whole or not at all; returns its path.

    Raises:
        RunError: no report lies there.
        OutputError: no browser is installed, or it cannot print.
    """
    page = run / "report.html"
    if not page.is_file():
        do = "Give the folder that medprior run or compare wrote (its --out)"
        raise RunError("there is no report.html to print", where=str(run), do=do)
    browser = _browser(page)
    pdf = run / "report.pdf"
    with replace_file(pdf) as aside, tempfile.TemporaryDirectory(prefix="medprior-") as profile:
        # A browser prints only to names that end so.
        printed = Path(profile) / "report.pdf"
        _print(browser, page.resolve(), printed, Path(profile))
        shutil.copyfile(printed, aside)
    return pdf


def _browser(page: Path) -> str:
    found = next((place for name in BROWSERS if (place := shutil.which(name))), None)
    if found is None:
        do = "Install Chromium, Chrome or Edge so that it is on the PATH, or print report.html from your own browser"
        raise OutputError("printing needs a browser, and none was found", where=str(page), do=do)
    return found


def _print(browser: str, page: Path, pdf: Path, profile: Path) -> None:
    words = [
        browser,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--no-pdf-header-footer",
        f"--user-data-dir={profile}",
        f"--print-to-pdf={pdf}",
        *(["--no-sandbox"] if _is_root() else []),
        page.as_uri(),
    ]
    try:
        ended = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
        said = ended.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        said = f"it did not end within {SECONDS} s"
    except OSError as error:
        said = error.strerror or str(error)
    if not pdf.is_file() or not pdf.stat().st_size:
        do = "Print report.html from your own browser"
        raise OutputError(f"the browser could not print the report: {said}", where=browser, do=do)


def _is_root() -> bool:
    """Browsers refuse to run as root in their sandbox, as they do in containers; the page is our own."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
