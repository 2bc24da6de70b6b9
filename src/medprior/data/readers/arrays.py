"""NumPy files (.npy, .npz): single images, stacks of images, volumes and stacks of volumes; pickles are never opened.

What an array holds is told from its shape, where a channel axis is one of 1, 3 or 4 entries:
    2 axes  (H, W)                              one image
    3 axes  (H, W, C) or (C, H, W)              one image
            (N, A, B), N above twice A and B    a stack of N images
            (D, H, W) otherwise                 one volume
    4 axes  (N, H, W, C) or (N, C, H, W)        a stack of N images
            (C, D, H, W)                        one volume
            (N, D, H, W) otherwise              a stack of N volumes
    5 axes  (N, D, H, W, C) or (N, C, D, H, W)  a stack of N volumes
An array of an .npz named `images`, or ending in `_images`, is always a stack. `labels` beside `images` carries the
target of each, (N,) or (N, K), and `train_`, `val_` and `test_` before them the split: the layout of MedMNIST (Yang et
al., Scientific Data 2023, arXiv 2110.14795). Arrays named as labels or masks, numbers and short lists are no images.
"""

from __future__ import annotations

import math
import re
import threading
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medprior.data.readers import FORMATS
from medprior.data.readers.guard import odd_values, physical, refusing, require_sides
from medprior.data.scan import Scan, ScanInfo, Source
from medprior.errors import DataError

suffixes = FORMATS["arrays"]
MAX_GIBIBYTES = 8
"""A larger array of an .npz is refused: it must be unpacked whole. An .npy has no limit, it is mapped."""

_CHANNELS = (1, 3, 4)
_SMALLEST = 4  # pixels of a side: below, an array is a table
_OTHER = re.compile(r"(^|_)(labels?|targets?|y|masks?|segs?|segmentations?|ids?|affine|spacing)$", re.IGNORECASE)
_STACK = re.compile(r"^(?:(train|val|test)_)?images$")
_MOST_DEFLATED = 1040  # bytes out of one, a little above what the format can reach
_unpacking = threading.Lock()


def group(paths: Sequence[str], root: Path) -> list[Source]:
    """One source per image or volume of every array that holds some, with split and label where the file has them.

    Raises:
        DataError: damaged, no array of images, pickled objects, or labels that do not go with their images.
    """
    return [source for path in paths for source in _sources(path, root)]


def describe(source: Source, root: Path) -> ScanInfo:
    """Size, channels and type as `read` will give them, from the header of the array.

    Raises:
        DataError: the header cannot be read, or the array is no image.
    """
    with refusing(source.paths[0], root):
        shape, dtype = _header(root / source.paths[0], source.member)
        item = shape[1:] if source.frame >= 0 else shape
        axis = _channel_axis(item)
        spatial = tuple(n for i, n in enumerate(item) if axis is None or i != axis % len(item))
        example = physical(np.zeros(1, dtype))
        return ScanInfo(spatial, 1 if axis is None else item[axis], example.dtype.name)


def read(source: Source, root: Path) -> Scan:
    """Decode to pixels (C, H, W) or (C, D, H, W); an opened array is kept, so a stack is unpacked once.

    Raises:
        DataError: absent, truncated, corrupt, pickled, or above `MAX_GIBIBYTES`.
    """
    path = source.paths[0]
    with refusing(path, root):
        array = _array(root / path, source.member)
        item = array[source.frame] if source.frame >= 0 else array
        axis = _channel_axis(item.shape)
        pixels = item[None] if axis is None else np.moveaxis(item, axis, 0)
        values = np.asarray(pixels)
        return Scan(np.ascontiguousarray(physical(values)), path, doubts=odd_values(values))


def _sources(path: str, root: Path) -> list[Source]:
    with refusing(path, root):
        if path.lower().endswith(".npy"):
            return _of_array(path, "", *_header(root / path, ""))
        names = _members(root / path)
        found = [s for name in names if not _OTHER.search(name) for s in _of_member(path, name, names, root)]
        if not found:
            listed = ", ".join(names[:8]) or "nothing"
            raise DataError(f"no array in it holds images (it has: {listed})", do='Name the stack of images "images"')
        return found


def _of_member(path: str, name: str, names: Sequence[str], root: Path) -> list[Source]:
    shape, dtype = _header(root / path, name)
    stack = _STACK.match(name)
    if stack is None:
        return _of_array(path, name, shape, dtype) if _pictures(shape, dtype) else []
    _require_pixels(shape, dtype)
    _channel_axis(shape[1:])
    labels = re.sub("images$", "labels", name)
    targets = _targets(_array(root / path, labels), shape[0]) if labels in names else [None] * shape[0]
    split = stack[1] or ""
    return [Source("arrays", (path,), name, frame, split=split, label=target) for frame, target in enumerate(targets)]


def _of_array(path: str, member: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Source]:
    _require_pixels(shape, dtype)
    stack = _is_stack(shape)
    _channel_axis(shape[1:] if stack else shape)
    return [Source("arrays", (path,), member, frame) for frame in (range(shape[0]) if stack else (-1,))]


def _require_pixels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """What takes no room can announce any number of images."""
    if not math.prod(shape) * dtype.itemsize:
        raise DataError(f"it holds no pixels, its shape is {shape}")


def _targets(labels: NDArray[Any], count: int) -> list[tuple[float, ...] | None]:
    if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2) or len(labels) != count:
        raise DataError(f"labels of shape {labels.shape} and type {labels.dtype} do not go with {count} images")
    return [tuple(row) for row in labels.reshape(count, -1).astype(np.float64).tolist()]


def _is_stack(shape: tuple[int, ...]) -> bool:
    match shape:
        case (a, b, c):
            return not _coloured(shape) and a > 2 * max(b, c)
        case (a, b, _, d):
            return d in _CHANNELS or b in _CHANNELS or a not in _CHANNELS
    return len(shape) == 5


def _coloured(item: tuple[int, ...]) -> bool:
    return item[-1] in _CHANNELS or item[0] in _CHANNELS


def _channel_axis(item: tuple[int, ...]) -> int | None:
    """Where the channels of one image or volume stand: -1, 0, or None when it has a single one without an axis."""
    axis = None
    if len(item) in (3, 4) and _coloured(item):
        axis = -1 if item[-1] in _CHANNELS else 0
    spatial = item[1:] if axis == 0 else item[:axis]
    if len(spatial) not in (2, 3) or min(spatial[-2:]) < _SMALLEST:
        raise DataError(f"an array of shape {item} is no image or volume", do="Expected (H, W), (D, H, W) or with C")
    require_sides(spatial)
    return axis


def _pictures(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and 2 <= len(shape) <= 5 and sorted(shape)[-2] >= _SMALLEST


def _members(file: Path) -> list[str]:
    with _unpacking:
        return [name.removesuffix(".npy") for name in _archive(*_state(file)).namelist() if name.endswith(".npy")]


def _header(file: Path, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, without its values."""
    if not member:
        with file.open("rb") as stream:
            return _npy_header(stream, file.stat().st_size)
    with _unpacking:
        archive = _archive(*_state(file))
        size = _unpacked_size(archive.getinfo(f"{member}.npy"), file.stat().st_size)
        with archive.open(f"{member}.npy") as stream:
            return _npy_header(stream, size)


def _unpacked_size(info: zipfile.ZipInfo, file_size: int) -> int:
    """What the archive says of a member, as far as its packed bytes can give it.

    Raises:
        DataError: packed in a way that NumPy does not write. `zipfile` unpacks the whole of such a member for its first
            byte, which a few kilobytes of bzip2 make gibibytes of.
    """
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _MOST_DEFLATED}.get(info.compress_type)
    if most is None:
        raise DataError("an array in it is packed with bzip2 or LZMA", do="Save it with numpy.savez_compressed")
    return min(info.file_size, most * min(info.compress_size, file_size))


def _npy_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type, of an array that fits into `size` bytes: a few damaged ones can announce millions of images."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"the array is of version {version}, which holds no images")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = header(stream)
    except Exception as error:  # it is parsed as Python's text, and fails in as many ways
        raise DataError("the header of the array is truncated or damaged") from error
    if dtype.hasobject:
        raise DataError("it holds Python objects, which could run code when opened", do="Save plain numbers")
    announced, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if announced > there:
        raise DataError(f"the array is truncated: {announced:,} bytes announced, {there:,} there")
    return shape, dtype


def _array(file: Path, member: str) -> NDArray[Any]:
    with _unpacking:
        kept = _kept(*_state(file), member)
    if isinstance(kept, Exception):
        raise kept.with_traceback(None)
    return kept


def _state(file: Path) -> tuple[Path, int, int]:
    stat = file.stat()
    return file, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _kept(file: Path, mtime: int, size: int, member: str) -> NDArray[Any] | Exception:
    """The last arrays opened: train, validation, test and one more; of a damaged one its error."""
    try:
        return _opened(file, mtime, size, member)
    except (DataError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return error


def _opened(file: Path, mtime: int, size: int, member: str) -> NDArray[Any]:
    if not member:
        mapped: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return mapped
    archive, name = _archive(file, mtime, size), f"{member}.npy"
    most = _unpacked_size(archive.getinfo(name), size)
    with archive.open(name) as stream:
        shape, dtype = _npy_header(stream, most)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > MAX_GIBIBYTES * 2**30:
        reason = f'the array "{member}" unpacks to {claimed / 2**30:.1f} GiB, more than {MAX_GIBIBYTES}'
        raise DataError(reason, do="Save it as .npy, which is read without unpacking")
    with archive.open(name) as stream:
        unpacked: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        return unpacked


@lru_cache(maxsize=2)
def _archive(file: Path, mtime: int, size: int) -> zipfile.ZipFile:
    """An opened .npz: one of many members is listed once, not once per member."""
    return zipfile.ZipFile(file)
