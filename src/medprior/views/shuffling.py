"""Local pixel shuffling: thousands of small windows of each image permuted, as one gather.

Zhou et al., MICCAI 2019, arXiv 1908.06912. The authors copy, permute and write back window by window, always reading
the original, so that where windows overlap the last one shows. A pixel therefore comes from the last window that covers
it, from the place to which that window's permutation points. Both are found for all pixels together:

- **The last window** is found by a scatter and a few maxima (`covering`).
- **The permutation.** Of each shape that a window can have, a few random orders of its pixels are drawn once per step
  (`orders`). A window goes from the pixel to its rank in one order, turns the ranks by a shift of its own, and goes to
  the pixel of that rank in another order: two more gathers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from medprior.errors import SettingsError
from medprior.views.choices import below, filled, split, strides, take_pixels
from medprior.views.covering import Windows, last_covering
from medprior.views.draws import Key, happens, uniform
from medprior.views.orders import Orders

DENSITY = 10_000 / (64 * 64 * 32)
"""Windows per pixel, as published for cubes of 64 x 64 x 32."""
LARGEST = 0.1
"""Longest edge of a window as a share of the side, as published."""
ROOM = 4096
"""Pixels of the largest window, at most: the orders take memory by its square."""


def shuffle_locally(
    pixels: Tensor, key: Key, probability: float = 0.5, density: float = DENSITY, largest: float = LARGEST
) -> Tensor:
    """Pixels (B, C, *S) permuted inside small windows, all channels alike; as they are where it does not happen.

    Edges are evenly 1 to `largest` of the side, in whole pixels; all positions inside of the image are as likely. Each
    window's permutation is uniform, but not each is drawn anew as the authors' are: two windows of one step that have
    one shape, of V pixels, share theirs with odds of 1 in V times the square of the number of orders.

    Args:
        probability: of a sample to be shuffled.
        density: windows per pixel.
        largest: longest edge of a window, as a share of the side.

    Raises:
        SettingsError: the largest window would hold more than `ROOM` pixels.
    """
    size = tuple(pixels.shape[2:])
    longest = longest_edges(size, largest)
    windows = draw_windows(key, size, longest, max(1, round(density * math.prod(size))))
    last = last_covering(windows, size, longest, happens(key, "shuffle", probability))
    source = _sources(windows, last, Orders.draw(key, longest, size), key, size)
    return torch.where(last.bool().unsqueeze(1), take_pixels(pixels, source), pixels)


def longest_edges(size: Sequence[int], largest: float = LARGEST) -> tuple[int, ...]:
    """The longest edge that a window may have along each axis of `size`."""
    # A tenth of 70 is more than 7 to a computer, but never less than 7 by a millionth.
    longest = tuple(max(1, int(side * largest + 1e-6)) for side in size)
    if math.prod(longest) > ROOM:
        shape = " x ".join(map(str, longest))
        raise SettingsError(
            f"windows of up to {shape} pixels cannot be shuffled in images of {' x '.join(map(str, size))}",
            where="largest",
            do=f"Use smaller views, or a smaller share: windows may hold {ROOM} pixels.",
        )
    return longest


def draw_windows(key: Key, size: Sequence[int], longest: Sequence[int], count: int) -> Windows:
    """`count` windows of each image, numbered as they are drawn."""
    sides, limits = (filled(values, key.rows.device).unsqueeze(1) for values in (size, longest))
    edge, rest = split(uniform(key, "shuffle window", (len(size), count)), limits)
    return Windows(below(rest, sides - edge), edge + 1)


def _sources(windows: Windows, last: Tensor, orders: Orders, key: Key, size: Sequence[int]) -> Tensor:
    """(B * N,) int32: the pixel of the batch that each pixel shows; without meaning where no window covers it."""
    device, (cells, stride) = last.device, (strides(orders.longest), strides(size))
    first, rest = split(uniform(key, "shuffle permutation", windows.start.shape[2:]), orders.count)
    second, rest = split(rest, orders.count)
    shift = below(rest, reduce(torch.mul, windows.edge.unbind(1)))
    shape = _along(windows.edge - 1, cells) * orders.count
    to_rank = (shape + first) * math.prod(orders.longest) - _along(windows.start, cells)
    from_rank = (shape + second) * 2 * math.prod(orders.longest) + shift
    batch = torch.arange(len(last), dtype=torch.int32, device=device).unsqueeze(1)
    corner = _along(windows.start, stride) + batch * math.prod(size)
    window = last.int().flatten(1).add_(batch * (shift.shape[1] + 1)).flatten()
    place = _of(to_rank, window).view(last.shape).add_(_ramp(size, cells, device))
    # Clamped for pixels that no window covers: what they find means nothing, but must be found somewhere.
    rank = orders.rank.index_select(0, place.clamp_(max=len(orders.rank) - 1).flatten())
    return orders.offset.index_select(0, rank.add_(_of(from_rank, window))).add_(_of(corner, window))


def _along(places: Tensor, stride: Sequence[int]) -> Tensor:
    """(B, n): places (B, d, n) as positions in an array with these strides."""
    return reduce(torch.add, (place * step for place, step in zip(places.unbind(1), stride, strict=True)))


def _ramp(size: Sequence[int], stride: Sequence[int], device: torch.device) -> Tensor:
    """(*S) int32: each pixel of an image of `size` as its position in an array with these strides."""
    place = torch.zeros((), dtype=torch.int32, device=device)
    for side, step in zip(size, stride, strict=True):
        place = place.unsqueeze(-1) + torch.arange(side, dtype=torch.int32, device=device) * step
    return place


def _of(values: Tensor, window: Tensor) -> Tensor:
    """(B * N,) int32: the value (B, n) of the window of each pixel; before those of each sample there is a 0."""
    return pad(values, (1, 0)).flatten().index_select(0, window)
