"""Shared grounds: a small generated cohort, made once per worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Each worker computes on one thread: two workers on two cores must not fight."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 60 generated patients with one 32 px X-ray each."""
    from medprior.data.phantom import make_cohort

    return make_cohort(tmp_path_factory.mktemp("cohort"), patients=60, seed=3, size=32)
