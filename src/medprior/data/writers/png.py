"""Label maps of images as PNG, each pixel the value of its class, as masks of images are kept: grey, or colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medprior.data.writers.values import Labels, in_values
from medprior.errors import DataError, SettingsError
from medprior.files import replace_file, said_plainly

MOST_COLOUR = 0xFFFFFF


def write_label_image(path: Path, labels: Labels, values: Sequence[int] = ()) -> None:
    """Write the label map of an image as `path`, whole or not at all, upright as `Scan` holds the image.

    It is grey and has 8 bits, or 16 where a value is above 255. Values above 65,535 are those of colours, 0xRRGGBB, as
    `masklabels.label_values` reads them; no palette, for whoever reads one gets other numbers.

    Args:
        path: its name ends in .png.
        labels: (H, W) class indices.
        values: what stands in the file for every class index, such as `Catalog.mask_classes`; without it the indices.

    Raises:
        DataError: a label has no value, or one that PNG cannot hold.
        SettingsError: a name that is none of a PNG file.
        OutputError: no space, no permission.
    """
    if not path.name.endswith(".png"):
        raise SettingsError("a label map of an image is written as PNG", where=path.name, do="Let its name end in .png")
    numbers = in_values(labels, values)
    if numbers.dtype == np.int32:
        numbers = _colours(numbers, max(values, default=int(labels.max())))
    with said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(numbers)).save(aside, format="PNG")


def _colours(numbers: Labels, largest: int) -> Labels:
    """(H, W, 3) of 8 bits."""
    if largest > MOST_COLOUR:
        what = f"a class has the value {largest:,}, and PNG holds none above {MOST_COLOUR:,}"
        raise DataError(what, do="Learn from masks with smaller values")
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8)
