"""What a training changes in torch is given back, and what a worker sets stays."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medprior.errors import SettingsError
from medprior.training.device import computing, pick_device, threads

TINY = 1e-40


def flushes() -> bool:
    return bool((torch.full((64,), TINY) * 1.0 == 0).all())


def test_computing_gives_everything_back() -> None:
    before = torch.get_num_threads()
    assert not flushes()
    with computing(3):
        assert torch.get_num_threads() == 3
        assert flushes()
        with threads(1):
            assert torch.get_num_threads() == 1
            assert flushes()
    assert torch.get_num_threads() == before
    assert not flushes()


def test_settling_lasts() -> None:
    code = "import gc, torch; from medprior.training.device import settle; settle(3); gc.collect()\n"
    code += "assert torch.get_num_threads() == 3; assert (torch.full((64,), 1e-40) * 1.0 == 0).all()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_devices_are_named() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(SettingsError, match="unknown device"):
        pick_device("gpu0")
    with pytest.raises(SettingsError, match="cuda:99"):
        pick_device("cuda:99")
