"""The learning rate as a pure function of the optimiser step."""

from __future__ import annotations

from medprior.methods.schedules import half_cosine


def cosine(step: int, steps: int, warmup: float, floor: float = 0.0) -> float:
    """Factor on the rate at `step` of `steps`: linear over the warm-up share, then a half cosine to `floor`.

    Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983. The floor would be reached at step `steps`, which is never
    made; the first step of the warm-up moves already.
    """
    rise = round(steps * warmup)
    if step < rise:
        return (step + 1) / rise
    return half_cosine(step - rise, steps - rise, 1.0, floor)
