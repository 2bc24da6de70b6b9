"""Label maps of images: the values come back, and what PNG cannot hold is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.annotations.masklabels import label_values, read_labels
from medprior.data.readers import read
from medprior.data.scan import Source
from medprior.data.writers.png import write_label_image
from medprior.errors import DataError, OutputError, SettingsError

LABELS = np.random.default_rng(0).integers(0, 3, (9, 14)).astype(np.uint8)


@pytest.mark.parametrize(("values", "mode"), [((0, 1, 2), "L"), ((0, 128, 255), "L"), ((0, 7, 60_000), "I;16")])
def test_the_values_of_the_classes_come_back(tmp_path: Path, values: tuple[int, ...], mode: str) -> None:
    write_label_image(tmp_path / "a" / "b.png", LABELS, values)
    with Image.open(tmp_path / "a" / "b.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), np.array(values)[LABELS])
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.png"]


def test_colours_come_back_as_colours(tmp_path: Path) -> None:
    values = (0, 0x0000FF, 0xFF8000)
    write_label_image(tmp_path / "a.png", LABELS, values)
    scan = read(Source("raster", ("a.png",)), tmp_path)
    assert label_values(scan) == values
    np.testing.assert_array_equal(read_labels(scan, values), LABELS)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PNG"):
        write_label_image(tmp_path / "a.nii", LABELS)
    with pytest.raises(DataError, match="16,777,216"):
        write_label_image(tmp_path / "a.png", LABELS, (0, 1, 0x1000000))
    with pytest.raises(DataError, match="not all classes"):
        write_label_image(tmp_path / "a.png", LABELS, (0, 1))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file, not a folder"):
        write_label_image(tmp_path / "file" / "b" / "a.png", LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
