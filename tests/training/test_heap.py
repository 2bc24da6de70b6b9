"""Inside of a training freed memory is used again; afterwards the system has it back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROBE = """
import resource
import torch
from medprior.training.device import computing

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(48 << 18)  # 48 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

outside = faults()
with computing():
    faults()  # the C library tries a few places before it settles on one
    inside, held = faults(), resident()
print(outside, inside, held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_inside_and_given_back_after() -> None:
    printed = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True).stdout
    outside, inside, back = map(int, printed.split())
    assert inside < outside / 10
    assert back > 40 << 20
