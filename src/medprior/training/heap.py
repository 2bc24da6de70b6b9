"""Memory that one step frees kept for the next one, where the C library would give it back to the system every time.

A step on a CPU frees and takes again hundreds of megabytes. What was given back comes again page by page, each with a
fault and filled with zeros: about 6% of the time of SimCLR with a ResNet-18 at 64 px. The peak stays what it was.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""The options of glibc's `mallopt`, from malloc.h."""
LARGEST = 32 << 20
"""Bytes from which glibc by default takes memory from the system for each request; it comes to that by itself."""


def keep_freed() -> None:
    """Give nothing back from now on. Without glibc nothing is done."""
    if (glibc := _glibc()) is not None:
        glibc.mallopt(MMAP_MAX, 0)
        glibc.mallopt(TRIM_THRESHOLD, -1)


def release_freed() -> None:
    """Give everything back that is free, and again what becomes free."""
    if (glibc := _glibc()) is not None:
        glibc.mallopt(MMAP_MAX, 1 << 16)
        glibc.mallopt(MMAP_THRESHOLD, LARGEST)
        glibc.mallopt(TRIM_THRESHOLD, 2 * LARGEST)
        glibc.malloc_trim(0)


def _glibc() -> Any:
    """The C library of this process, or None where it is another one."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
