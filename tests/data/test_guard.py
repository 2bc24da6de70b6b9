"""What readers share: reasons that can be shown, whatever stands in a file."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medprior.data import readers
from medprior.data.readers.guard import refusal, shown
from medprior.errors import DataError


@given(st.text())
def test_a_reason_is_one_printable_line_of_some_length(text):
    assert shown(text).isprintable() and len(shown(text)) <= 303
    assert refusal(text, "a.png").what == shown(text)


def test_what_can_be_read_stays():
    assert shown("größer als 5 µm: «x»") == "größer als 5 µm: «x»"
    assert shown("\x1b[2J\n\ud800") == r"\x1b[2J\n\ud800"


def as_png(file, values):
    Image.fromarray(values).save(file)


def as_npy(file, values):
    np.save(file, values)


def as_nifti(file, values):
    nib.save(nib.Nifti2Image(values[..., None], np.eye(4)), file)


@pytest.mark.parametrize(("name", "write"), [("a.png", as_png), ("a.npy", as_npy), ("a.nii", as_nifti)])
def test_a_thread_of_pixels_is_refused(tmp_path, name, write):
    """Two kilobytes of BMP unpacked to 33 million pixels in a row, and the thumbnail of those took gibibytes."""
    for side in (65_535, 65_536):
        write(tmp_path / name, np.zeros((4, side), np.uint8))
        reader = readers.reader_for(name)
        if side == 65_535:
            (source,) = reader.group([name], tmp_path)
            assert reader.read(source, tmp_path).pixels.size == 4 * side
            continue
        with pytest.raises(DataError, match="more than 65,535 pixels"):
            reader.read(reader.group([name], tmp_path)[0], tmp_path)
