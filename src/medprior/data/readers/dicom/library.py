"""What is used of pydicom, imported when a file first needs it, and whole.

Its modules import each other in circles. Two threads that began with two of them would each wait for the other's, which
Python breaks up by giving one of them half a module; a sound file would then be called damaged. Whoever imports this
module waits until all of them are there.
"""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder

__all__ = ["UID_dictionary", "encapsulate", "generate_frames", "get_decoder", "read_dataset"]
