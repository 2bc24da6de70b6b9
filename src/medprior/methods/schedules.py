"""What changes in the course of training, as pure functions of the optimiser step."""

from __future__ import annotations

import math


def half_cosine(step: int, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at `steps`, slow at both ends.

    A teacher's momentum rises so from m to 1, which is 1 - (1 - m) (cos(πk/K) + 1) / 2 (Grill et al., NeurIPS 2020,
    arXiv 2006.07733); a weight decay from a to b (Caron et al., ICCV 2021, arXiv 2104.14294).
    """
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(step, steps) / max(1, steps)))


def linear_rise(step: int, rise: int, start: float, end: float) -> float:
    """From `start` at step 0 straight to `end` at step `rise`, then constant: a teacher's temperature (DINO)."""
    return end if step >= rise else start + (end - start) * step / rise
