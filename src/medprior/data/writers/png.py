"""Label maps of images as PNG: grey, each pixel the value of its class, as masks of images are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medprior.data.writers.values import Labels, in_values
from medprior.errors import DataError, SettingsError
from medprior.files import replace_file, said_plainly


def write_label_image(path: Path, labels: Labels, values: Sequence[int] = ()) -> None:
    """Write the label map of an image as `path`, whole or not at all, upright as `Scan` holds the image.

    It has 8 bits, or 16 where a value is above 255; no colours, for whoever reads them gets other numbers.

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
        what = f"a class has the value {max(values, default=int(labels.max())):,}, and PNG holds none above 65,535"
        raise DataError(what, do="Learn from masks with smaller values")
    with said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(numbers)).save(aside, format="PNG")
