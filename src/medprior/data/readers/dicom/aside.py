"""Decoding with GDCM in a process of its own, because GDCM ends the process when it meets a damaged JPEG stream.

One such process serves all frames of a program; after an accident the next frame starts a new one.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from medprior.data.readers.dicom.gdcm_process import ANSWER, REQUEST
from medprior.data.readers.dicom.layout import Layout
from medprior.errors import DataError

PATIENCE = 120.0
"""Seconds that one frame may take."""
_SCRIPT = Path(__file__).with_name("gdcm_process.py")
_one_at_a_time = threading.Lock()


def decoded_aside(frame: bytes, syntax: str, layout: Layout) -> bytes:
    """The raw samples of one JPEG frame.

    Raises:
        DataError: the frame is damaged, takes more than `PATIENCE`, or GDCM is not installed.
    """
    if find_spec("gdcm") is None:
        raise DataError("its kind of JPEG needs GDCM, which is not installed", do="pip install python-gdcm")
    texts = syntax.encode(), layout.photometric.replace("_COLOR", " COLOR").encode()
    shape = (layout.rows, layout.columns, layout.samples, layout.allocated, layout.stored, int(layout.signed))
    head = REQUEST.pack(*shape, *map(len, texts), len(frame))
    needed = layout.rows * layout.columns * layout.samples * layout.dtype.itemsize
    with _one_at_a_time:
        raw = _asked(b"".join((head, *texts, frame)), needed)
    if len(raw) != needed:
        raise DataError("the compressed picture is damaged, or not of the size that the header says")
    return raw


def _asked(request: bytes, needed: int) -> bytes:
    process = _process(os.getpid())
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
        if select.select([process.stdout], [], [], PATIENCE)[0]:
            head = process.stdout.read(ANSWER.size)
            if len(head) == ANSWER.size and ANSWER.unpack(head)[0] in (0, needed):
                return process.stdout.read(ANSWER.unpack(head)[0])
    except OSError:
        pass
    _stop(process)
    _process.cache_clear()
    return b""


@cache
def _process(owner: int) -> subprocess.Popen[bytes]:
    """The helper of the process with the number `owner`: a forked child must not share its parent's."""
    command = [sys.executable, "-I", str(_SCRIPT)]
    pipes = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipes, stdout=pipes, stderr=subprocess.DEVNULL)
    atexit.register(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not sent any more
                continue
    process.wait()
