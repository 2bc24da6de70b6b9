"""One volume or image in one Blosc2 file: written whole, read crop by crop.

Blocks are what is decoded, chunks what is found: a crop decodes the blocks it touches. Blosc2 is imported when the
first volume is written or read.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import StoreError
from medprior.files import replace_file

BLOCK, CHUNK = 16, 64
IMAGE_BLOCK, IMAGE_CHUNK = 64, 512
"""Of two axes; as many pixels as the others have voxels."""
_LEVEL = 5
"""LZ4 at this level, bits shuffled: an eighth larger than Zstandard and twice as fast to read. Blocks of 16 decode half
of what those of 32 do in the same time; see `benchmarks/volumestore`."""
_OPEN = 64  # files each thread keeps open
_DAMAGE = (RuntimeError, ValueError, OSError, MemoryError, OverflowError, TypeError, KeyError, SyntaxError)
"""What Blosc2 raises for files that are cut short or changed."""


def layout(
    shape: Sequence[int], chunk: int | None = None, block: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunks and blocks for an array (C, *S): channels apart, every axis in equal parts of at most `block`."""
    usual = (IMAGE_CHUNK, IMAGE_BLOCK) if len(shape) == 3 else (CHUNK, BLOCK)
    chunk, block = chunk or usual[0], block or usual[1]
    parts = [-(-n // block) for n in shape[1:]]
    blocks = [-(-n // count) for n, count in zip(shape[1:], parts, strict=True)]
    chunks = [side * min(count, max(1, chunk // block)) for side, count in zip(blocks, parts, strict=True)]
    return (1, *chunks), (1, *blocks)


def write_volume(path: Path, values: NDArray[Any], about: dict[str, Any], **how: Any) -> None:
    """Write (C, *S) to `path`, whole or not at all; `about` lies beside the voxels as "medprior".

    It is packed in memory first, so that a full disk is an error of the disk and not of the library.

    Args:
        how: `chunk`, `block`, `codec`, `filter` and `level`, for measurements.

    Raises:
        OutputError: no space.
    """
    import blosc2

    chunks, blocks = layout(values.shape, how.get("chunk"), how.get("block"))
    packing = {
        "codec": blosc2.Codec[how.get("codec", "LZ4")],
        "clevel": how.get("level", _LEVEL),
        "filters": [blosc2.Filter[how.get("filter", "BITSHUFFLE")]],
        "nthreads": 1,
    }
    packed = blosc2.asarray(np.ascontiguousarray(values), chunks=chunks, blocks=blocks, cparams=packing)
    packed.schunk.vlmeta["medprior"] = about
    with replace_file(path) as aside:
        aside.write_bytes(packed.to_cframe())


def decoded_share(shape: Sequence[int], corner: Sequence[int], size: Sequence[int], block: int | None = None) -> float:
    """How many pixels a crop out of `shape` (*S) decodes, as a multiple of those it wants."""
    _, (_, *blocks) = layout((1, *shape), block=block)
    touched = [-(-(at + n) // b) - at // b for at, n, b in zip(corner, size, blocks, strict=True)]
    return math.prod(touched) * math.prod(blocks) / math.prod(size)


def is_sound(path: Path) -> bool:
    """Whether a file is there and whole, by its header and its end."""
    import blosc2

    try:
        blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
    except _DAMAGE:
        return False
    return True


class VolumeFiles:
    """Reads crops out of the files of a folder; threads may share it, each opens its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = threading.local()

    def read(self, name: str, length: int, index: tuple[slice, ...]) -> NDArray[Any]:
        """The pixels (C, *index) of one file.

        Raises:
            StoreError: it is gone, not `length` bytes long, or damaged.
        """
        try:
            array = self._array(name, length)
            read: NDArray[Any] = array[(slice(None), *index)]
        except _DAMAGE as error:
            raise damaged(self.folder / name, f"{type(error).__name__}: {error}") from None
        return read

    def _array(self, name: str, length: int) -> Any:
        held: OrderedDict[str, Any] | None = getattr(self._own, "held", None)
        if held is None:
            held = self._own.held = OrderedDict()
        _check_length(self.folder / name, length)
        if name not in held:
            held[name] = _opened(self.folder / name)
        held.move_to_end(name)
        while len(held) > _OPEN:
            held.popitem(last=False)
        return held[name]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def damaged(path: Path, why: str) -> StoreError:
    """The error for a volume that cannot be used."""
    do = "Delete this file and repeat the command: the volume is then read again from its scan"
    return StoreError(f"a stored volume cannot be used: {why}", where=str(path), do=do)


def _check_length(path: Path, length: int) -> None:
    """At every read: one that was deleted or replaced in use is told, and not read on from what is still open."""
    try:
        there = path.stat().st_size
    except OSError:
        raise damaged(path, "it is not there") from None
    if there != length:
        raise damaged(path, f"it has {there:,} bytes instead of {length:,}")


def _opened(path: Path) -> Any:
    import blosc2

    return blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
