"""Where an encoder's weights come from, in one word: a run, a file, or a name under which weights are published."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medprior.backbones.layout import layout_of
from medprior.errors import SettingsError

PUBLISHED = ("imagenet", "timm")
"""The weights that timm knows for an encoder, whatever its name."""
HUB = "hf-hub:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".model")
_LAYOUT = re.compile(r"([a-z_][a-z_0-9]+):(?!//)(.+)")
_DESCRIPTION = "encoder.json"


@dataclass(frozen=True)
class Source:
    """Where weights come from: either `path`, an encoder folder or a weights file, or the name they are `published`
    under; `layout` where somebody said how the file names its weights."""

    text: str
    path: Path | None = None
    published: str | None = None
    layout: str | None = None

    @property
    def title(self) -> str:
        """What may be shown and kept: of a path its last part, for the others may name people."""
        return self.published or (self.path.name if self.path else self.text)

    @property
    def spec(self) -> dict[str, Any] | None:
        """What an encoder folder says of itself; None of anything else."""
        if self.path is None or not (self.path / _DESCRIPTION).is_file():
            return None
        try:
            found = json.loads((self.path / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def read_source(text: str | Path) -> Source:
    """What a user wrote: `FOLDER` of a run, `FILE`, `LAYOUT:FILE`, `imagenet`, timm's tag, or `hf-hub:OWNER/MODEL`.

    The folder of a whole study stands for its encoder where it holds one alone.

    Raises:
        SettingsError: an unknown layout before a file, or a folder with several encoders or none.
    """
    word = str(text)
    if not isinstance(text, Path) and not names_path(word):
        return Source(word, published=word)
    found = _LAYOUT.fullmatch(word)
    if found and not isinstance(text, Path) and not Path(word).exists():
        return Source(word, path=_folder(Path(found[2]).expanduser()), layout=layout_of(found[1]).name)
    return Source(word, path=_folder(Path(word).expanduser()))


def names_path(text: str) -> bool:
    """Whether what a user wrote is a place on this machine, be it there or not."""
    if text.startswith(HUB) or text in PUBLISHED:
        return False
    path = Path(text)
    return (
        _LAYOUT.fullmatch(text) is not None
        or path.suffix in SUFFIXES
        or path.exists()
        or text.startswith(("/", ".", "~"))
    )


def encoder_named(source: Source) -> str | None:
    """The encoder that a source is of, where it says so itself: an encoder folder, or timm's `resnet18.a1_in1k`."""
    spec = source.spec
    if spec is not None:
        return str(spec.get("name") or "") or None
    name, dot, _ = (source.published or "").removeprefix(f"{HUB}timm/").partition(".")
    return name if dot else None


def _folder(path: Path) -> Path:
    if not path.is_dir() or (path / _DESCRIPTION).exists() or (path / "encoder.safetensors").exists():
        return path
    inside = sorted({found.parent for depth in ("*", "*/*", "*/*/*") for found in path.glob(f"{depth}/{_DESCRIPTION}")})
    if len(inside) == 1:
        return inside[0]
    shown = ", ".join(map(str, inside[:6]))
    raise SettingsError(
        f"{'several encoders lie' if inside else 'no encoder lies'} in this folder",
        where=str(path),
        do=f"Name one: {shown}" if inside else "Name the folder of a pre-training run, or a weights file",
    )
