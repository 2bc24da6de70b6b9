"""What every reader shares: errors said plainly, and pixels in the values and types a `Scan` promises."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import DataError

MAX_SIDE = 65_535
_LONGEST = 300  # characters of a reason


@contextmanager
def refusing(path: str, root: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError that names `path`, relative to `root`.

    Decoders fed with damaged bytes raise nearly anything (struct.error, KeyError, MemoryError), so all of it is caught.
    """
    try:
        yield
    except DataError as error:
        if error.where:
            raise
        raise refusal(error.what, path, do=error.do) from None
    except Exception as error:
        raise refusal(_reason(error, root / path, root), path) from error


def refusal(reason: str, path: str, *, do: str | None = None) -> DataError:
    """The error for a file that cannot be used; `reason` may repeat what stands in the file."""
    return DataError(shown(reason), where=path, do=do or "Mend, replace or remove this file")


def shown(text: str) -> str:
    """On one line, printable and of some length: a damaged file could clear the terminal that lists it."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def _reason(error: Exception, file: Path, root: Path) -> str:
    match error:
        case FileNotFoundError():
            return "the file is not there any more"
        case PermissionError():
            return "no permission to read the file"
        case MemoryError():
            return "the file claims more pixels than memory can hold"
    if file.is_file() and file.stat().st_size == 0:
        return "the file is empty"
    text = " ".join(str(error).replace(f"{root}/", "").split())
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "the file is truncated"
    if "cannot identify image" in text:
        return "the file is not an image of the kind its name says, or its header is damaged"
    if type(error).__name__ == "ImageFileError":  # nibabel's, which is not imported for a folder of other files
        return "the file is truncated or damaged, or no NIfTI"
    if isinstance(error, zipfile.BadZipFile | zlib.error):
        return f"the file is truncated or damaged ({text})"
    return f"the file is damaged ({type(error).__name__}: {text})"


def require_sides(shape: Sequence[int]) -> None:
    """Refuse a thread of pixels: whoever resizes it needs far more memory than it takes itself.

    Raises:
        DataError: a side of more than `MAX_SIDE` pixels.
    """
    if max(shape, default=0) > MAX_SIDE:
        raise DataError(f"its sides are {tuple(shape)}, more than {MAX_SIDE:,} pixels", do="Cut it into tiles")


def physical(values: NDArray[Any]) -> NDArray[Any]:
    """Pixels as a `Scan` holds them: integers as they are, floats as float32, true and false as 255 and 0 (uint8).

    Not-a-number and infinity, which many writers leave outside the field of view, become the lowest finite value.

    Raises:
        DataError: values are no real numbers, there are none, or none is finite.
    """
    if values.size == 0:
        raise DataError(f"it holds no pixels, its shape is {values.shape}")
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind in "iu":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind != "f":
        raise DataError(f"its values are of type {values.dtype}, which are no pixels")
    with np.errstate(over="ignore"):
        return _finite(values.astype(np.float32))


def odd_values(values: NDArray[Any], what: str = "pixels") -> tuple[str, ...]:
    """How many values `physical` replaces, as a doubt; () where all are finite."""
    if values.dtype.kind != "f":
        return ()
    odd = values.size - int(np.count_nonzero(np.isfinite(values)))
    if not odd:
        return ()
    said = f"1 {what.removesuffix('s')} is" if odd == 1 else f"{odd:,} {what} are"
    became = "it became" if odd == 1 else "they became"
    return (f"{said} not a number or infinite: {became} the lowest of the others",)


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    good = np.isfinite(values)
    if good.all():
        return values
    if not good.any():
        raise DataError("none of its values is a finite number")
    return np.where(good, values, values[good].min())
