"""A process of its own that decodes JPEG frames with GDCM: run as a script, it answers requests on its standard input.

A request is a header of `REQUEST` (rows, columns, samples, bits allocated, bits stored, signed, and the lengths of the
three parts that follow), the UID of the transfer syntax, the photometric interpretation and the frame. An answer is a
length and as many bytes; none where GDCM could not decode it.
"""

from __future__ import annotations

import struct
import sys
from typing import Any, BinaryIO

REQUEST = struct.Struct("<9I")
ANSWER = struct.Struct("<I")


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the input ends."""
    import gdcm  # type: ignore[import-untyped]

    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        *shape, first, second, third = REQUEST.unpack(head)
        syntax, photometric, frame = (requests.read(length) for length in (first, second, third))
        raw = _decoded(gdcm, frame, syntax.decode(), photometric.decode(), shape)
        answers.write(ANSWER.pack(len(raw)) + raw)
        answers.flush()


def _decoded(gdcm: Any, frame: bytes, syntax: str, photometric: str, shape: list[int]) -> bytes:
    rows, columns, samples, allocated, stored, signed = shape
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, signed))
    raw = image.GetBuffer()
    return b"" if raw is None else raw.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
