"""Reports in text files beside images.

A report is private: its text stays in the catalog and never reaches a page, a message or an export.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from medprior.data.annotations import masknames
from medprior.data.annotations.sidecars import decoded, read_limited
from medprior.errors import DataError

REPORTS = ("report", "text", "clinical_notes", "caption", "impression", "findings_text", "notes")
"""Names of a table's column that holds the report of an image."""
MOST_BYTES = 256 << 10
_FOLDERS = frozenset({"report", "reports", "text", "texts", "notes", "captions", "findings", "txt"})
_NO_REPORTS = frozenset(
    {"readme", "license", "licence", "changelog", "notice", "requirements", "citation", "classes", "labels", "names"}
    | {
        "train",
        "trainval",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "all",
        "list",
        "files",
        "index",
    }
)
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_FILE = re.compile(r"[\w./\\ ()-]+\.\w{1,5}(\s+\S+)?")


def find_reports(root: Path, sidecars: Sequence[str], image_paths: Sequence[str]) -> dict[str, str]:
    """The report of each image that has one: a .txt of the image's stem in its folder, or in `reports` beside or below
    the folder of images; or a .txt of the name of a folder beside it, for all images right in that folder (as MIMIC-CXR
    keeps its studies). Lists of files, numbers, and what is called README are no reports.

    Args:
        root: the folder that all paths are relative to.
        sidecars: files that may be reports; others are passed by.
        image_paths: the images.
    """
    images = _Images(image_paths)
    found: dict[str, str] = {}
    for path in sorted(sidecars, key=lambda path: (_in_folder(path), path)):
        if _may_be(path) and (of := [image for image in images.of(path) if image not in found]):
            text = _report(root, path, images.stems)
            found |= dict.fromkeys(of, text) if text else {}
    return found


def _may_be(path: str) -> bool:
    return path.lower().endswith(".txt") and _stem(path) not in _NO_REPORTS


def _stem(path: str) -> str:
    return masknames.stem(path).removesuffix(".txt")


def _in_folder(path: str) -> bool:
    return bool(masknames.words(posixpath.basename(posixpath.dirname(path))) & _FOLDERS)


class _Images:
    """Images by folder and stem."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.within: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.below: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.stems: set[str] = set()
        for path in sorted(paths):
            folder, stem = posixpath.dirname(path), masknames.stem(path)
            self.within[folder][stem].append(path)
            self.below[posixpath.dirname(folder)][stem].append(path)
            self.stems.add(stem)

    def of(self, path: str) -> list[str]:
        """The images a text may be about."""
        folder, stem = posixpath.dirname(path), _stem(path)
        if own := self._named(folder, stem):
            return own
        study = self.within.get(posixpath.splitext(path)[0], {})
        if study or not _in_folder(path):
            return [image for images in study.values() for image in images]
        above = posixpath.dirname(folder)
        beside = self.below.get(above, {}).get(stem, []) if folder else []
        return self._named(above, stem) or (beside if len(beside) == 1 else [])

    def _named(self, folder: str, stem: str) -> list[str]:
        return self.within[folder].get(stem, []) if folder in self.within else []


def _report(root: Path, path: str, stems: set[str]) -> str:
    """The text, or "" where it is no report."""
    try:
        data = read_limited(root / path, path, MOST_BYTES)
    except DataError:
        return ""
    text = unicodedata.normalize("NFC", decoded(data)).replace("\r\n", "\n").strip()
    return text if _is_prose(text, stems) else ""


def _is_prose(text: str, stems: set[str]) -> bool:
    """Whether words stand there: not numbers, not names of files, not bytes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    listed = sum(bool(_FILE.fullmatch(line)) or masknames.stem(line) in stems for line in lines)
    control = sum(ord(letter) < 32 and letter not in "\n\r\t\f" for letter in text)
    letters = sum(map(len, _LETTERS.findall(text)))
    digits = sum(letter.isdigit() for letter in text)
    return letters > digits and not control and 2 * listed <= len(lines)
