"""Random numbers that belong to a scan: a hash of (seed, step, catalog row, view, name of the draw).

There is no state: the same key gives the same numbers on CPU and GPU, whatever the order or the size of the batch
and however many processes share it. Counter-based generators: Salmon et al., SC 2011.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Key:
    """What a draw depends on, apart from its name.

    Attributes:
        seed: of the run, a whole number from 0, below 2^63.
        step: optimisation step, an int or a () int64 tensor.
        rows: (B,) int64 catalog rows, below 2^32.
        view: position of the view in the plan; or several, whose draws then follow each other: view by view (V*B)
            rows, each drawing what it would draw alone.
        state: (2, B) int64, two words hashed from these. One word of 32 bits would let the noise fields of two rows
            overlap now and then.
    """

    seed: int
    step: int | Tensor
    rows: Tensor
    view: int | tuple[int, ...]
    state: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        views = (self.view,) if isinstance(self.view, int) else self.view
        salted = torch.cat([self.rows + _fold((self.seed & WORD, self.seed >> 32, view)) for view in views])
        lane = torch.arange(2, device=self.rows.device).unsqueeze(1) * 0x1E3779B9
        state = _mix((salted + lane) & WORD)
        object.__setattr__(self, "state", _mix((state + self.step) & WORD))


def uniform(key: Key, name: str, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) float32, uniform in [0, 1)."""
    return _unit(_bits(key, name, math.prod(shape))).view(-1, *shape)


def between(key: Key, name: str, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) float32, uniform in [low, high)."""
    return uniform(key, name, shape) * (high - low) + low


def happens(key: Key, name: str, probability: float) -> Tensor:
    """(B,) bool, true with the given probability."""
    return uniform(key, name) < probability


def normal(key: Key, name: str, shape: tuple[int, ...] = ()) -> Tensor:
    """(B, *shape) float32, standard normal (Box and Muller, Ann. Math. Stat. 1958)."""
    count = math.prod(shape)
    radius, angle = _unit(_bits(key, name, 2 * ((count + 1) // 2))).chunk(2, dim=1)
    radius = (-2.0 * torch.log1p(-radius)).sqrt()
    angle = 2.0 * math.pi * angle
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pairs[:, :count].reshape(-1, *shape)


def _bits(key: Key, name: str, count: int) -> Tensor:
    """(B, count) int64 in [0, 2^32)."""
    first, second = _mix((key.state + _fold(name.encode())) & WORD).unsqueeze(-1)
    counter = torch.arange(count, device=key.rows.device)
    return _mix(_mix((first + counter) & WORD) ^ second)


def _mix(word: Tensor) -> Tensor:
    """A bijection of 32-bit words in which every bit of the input moves every bit of the output.

    Both multipliers stay below 2^31, so that no product leaves int64. Constants: T. Ettinger's search for
    low-bias xorshift-multiply hashes.
    """
    # A view of itself: the compiler then keeps the word, where else it would write out its whole history at both of
    # its uses, doubling it at each step (a minute for every draw).
    word = word.as_strided(word.shape, word.stride())
    word = (word ^ (word >> 16)).mul_(0x21F0AAAD).bitwise_and_(WORD)
    word = (word ^ (word >> 15)).mul_(0x735A2D97).bitwise_and_(WORD)
    return word ^ (word >> 15)


def _fold(words: Iterable[int]) -> int:
    """One 32-bit word from several, the same in every process: FNV-1a, each step mixed as above."""
    code = 0x811C9DC5
    for word in words:
        code = ((code ^ word) * 0x01000193) & WORD
        code = ((code ^ (code >> 16)) * 0x21F0AAAD) & WORD
        code ^= code >> 15
    return code


def _unit(bits: Tensor) -> Tensor:
    # 24 bits are what float32 holds exactly, so CPU and GPU agree to the last bit and 1 is never reached.
    return (bits >> 8).float() * 2.0**-24
