"""What every reader shares: errors said plainly, and pixels in the values and types a `Scan` promises."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medprior.errors import DataError


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
    """The error for a file that cannot be used."""
    return DataError(reason, where=path, do=do or "Mend, replace or remove this file")


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


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    good = np.isfinite(values)
    if good.all():
        return values
    if not good.any():
        raise DataError("none of its values is a finite number")
    return np.where(good, values, values[good].min())
