"""Shared grounds: a small generated cohort, made once per worker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from two_processes import TwoProcesses

sys.path.append(str(Path(__file__).parent))  # tests import the modules here that are no tests

settings.register_profile("medprior", deadline=None)  # a slow machine is no failure
settings.load_profile("medprior")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in jobs of a shell's background, whose children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Each worker computes on one thread: two workers on two cores must not fight."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_salt(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Patient keys of tests come from a salt of their own, not from the user's."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 60 generated patients with one 32 px X-ray each."""
    from medprior.data.phantom import make_cohort

    return make_cohort(tmp_path_factory.mktemp("cohort"), patients=60, seed=3, size=32)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real images that tests may look at; they are no part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real images in {folder}, which are not there")
    return folder


@pytest.fixture(scope="session")
def two_processes() -> Iterator[TwoProcesses]:
    """Two processes in one group, started at their first use; see `TwoProcesses.__call__`."""
    from two_processes import TwoProcesses

    both = TwoProcesses()
    yield both
    both.end()
