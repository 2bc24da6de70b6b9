"""Convolutional networks that see only some cells of their images, with the weights and the code of the dense ones.

Tian et al., ICLR 2023 (SparK, arXiv 2301.03580). While `Sparse` is entered, the operations of the network itself take
their sparse form: nothing is replaced, hooked or renamed, and other threads notice nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from medprior.backbones.encoder import Encoder, refuse_uneven_strides
from medprior.backbones.factory import FITTING, seeded
from medprior.backbones.sparsenorm import norm_seen
from medprior.errors import SettingsError

Form = Callable[..., Any]


class Sparse(TorchFunctionMode):
    """`with Sparse(active): maps = encoder(pixels)`: hidden cells are 0 in every map, and count in no statistic.

    - Convolutions, linear layers and pooling give 0 in hidden cells, whatever their biases: a hidden cell looks to its
      neighbours as padding does.
    - Batch, group and instance norm take mean and variance, running ones too, over seen cells alone.
    - Means and maxima over all positions, as in squeeze and excitation, are those of the seen cells.

    Maps finer than the cells repeat them. In maps coarser than the cells a position is seen when any of its cells is;
    it then holds what the seen ones among them gave. Maps of one position are seen by definition.

    Args:
        active: (B, 1, *cells) bool, true where the image is seen; at least one cell of every image. The pixels of
            hidden cells must be 0 where the network begins: `encode` sees to that.

    Raises:
        SettingsError: inside, where a map does not lie on the cells, as those of unpadded convolutions.
    """

    def __init__(self, active: Tensor) -> None:
        super().__init__()
        self.cells = active
        self._resized: dict[tuple[int, ...], Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        form = FORMS.get(func)
        return func(*args, **(kwargs or {})) if form is None else form(self, func, *args, **(kwargs or {}))

    def encode(self, encoder: Encoder, pixels: Tensor) -> list[Tensor]:
        """The maps of `encoder`, 0 in hidden cells: pixels (B, C, *S), S a multiple of the cells, as it takes them."""
        # What is hidden takes the mean of the data, which standardising makes 0.
        visible = torch.where(self.active(pixels.shape[2:]), pixels, encoder.mean)
        with self:
            maps: list[Tensor] = encoder(visible)
        return maps

    def active(self, extents: Sequence[int]) -> Tensor:
        """The cells at the resolution of a map, (B, 1, *extents) bool; made once."""
        key = tuple(extents)
        if key not in self._resized:
            self._resized[key] = resize_cells(self.cells, key)
        return self._resized[key]

    def over(self, map: Tensor, channel: int = 1) -> Tensor | None:
        """`active` to be multiplied with a map whose channels lie on that axis; None for what is no map."""
        extents = map.movedim(channel, 1).shape[2:]
        if map.ndim != self.cells.ndim or len(map) != len(self.cells) or extents.numel() == 1:
            return None
        return self.active(extents).movedim(1, channel)

    def spans(self, map: Tensor, dim: Any) -> bool:
        """Whether `dim` are all the axes of positions of a map, and of no other."""
        axes = sorted(axis % map.ndim for axis in ((dim,) if isinstance(dim, int) else dim or ()))
        return axes == list(range(2, map.ndim)) and self.over(map) is not None


def resize_cells(cells: Tensor, extents: Sequence[int]) -> Tensor:
    """Cells (B, 1, *cells) bool at the resolution of a map: repeated, or true where any of them is.

    Raises:
        SettingsError: along some axis neither is a multiple of the other.
    """
    for axis, extent in enumerate(extents, start=2):
        count = cells.shape[axis]
        if extent % count and count % extent:
            raise SettingsError(
                f"a map of {extent} positions does not lie on {count} cells", do="Use a size that the strides divide"
            )
        if extent > count:
            cells = cells.repeat_interleave(extent // count, axis)
        elif extent < count:
            shape = (*cells.shape[:axis], extent, count // extent, *cells.shape[axis + 1 :])
            cells = cells.reshape(shape).any(axis + 1)
    return cells


def _hide(sparse: Sparse, map: Tensor, channel: int = 1) -> Tensor:
    """The map with 0 in hidden cells; in place, since none of these operations needs its result to go back."""
    active = sparse.over(map, channel)
    return map if active is None else map.mul_(active)


def _hidden_after(sparse: Sparse, function: Form, *given: Any, **named: Any) -> Tensor:
    return _hide(sparse, function(*given, **named))


def _hidden_after_channels_last(sparse: Sparse, function: Form, *given: Any, **named: Any) -> Tensor:
    return _hide(sparse, function(*given, **named), channel=-1)


def _as_it_is(sparse: Sparse, function: Form, *given: Any, **named: Any) -> Any:
    """Right as it is, because zeros add nothing."""
    return function(*given, **named)


def _convolution(
    sparse: Sparse, function: Form, input: Tensor, weight: Tensor, bias: Tensor | None = None, *given: Any, **named: Any
) -> Tensor:
    made: Tensor = function(input, weight, bias, *given, **named)
    # Without a bias and without neighbours a zero stays one.
    return made if bias is None and weight.shape[2:].numel() == 1 else _hide(sparse, made)


def _layer_norm(
    sparse: Sparse, function: Form, input: Tensor, normalized_shape: Sequence[int], *given: Any, **named: Any
) -> Tensor:
    made: Tensor = function(input, normalized_shape, *given, **named)
    return _hide(sparse, made, channel=-1) if len(normalized_shape) == 1 else made


def _mean(sparse: Sparse, function: Form, input: Tensor, *given: Any, **named: Any) -> Any:
    if not sparse.spans(input, given[0] if given else named.get("dim")):
        return function(input, *given, **named)
    active = sparse.active(input.shape[2:])
    axes = tuple(range(2, input.ndim))
    share = active.sum(axes, keepdim=True) / active[0].numel()
    mean = input.mean(axes, keepdim=True) / share.to(input.dtype)
    keep = given[1] if len(given) > 1 else named.get("keepdim", False)
    return mean if keep else mean.flatten(1)


def _maximum(sparse: Sparse, function: Form, input: Tensor, *given: Any, **named: Any) -> Any:
    if sparse.spans(input, given[0] if given else named.get("dim")):
        input = input.masked_fill(~sparse.active(input.shape[2:]), float("-inf"))
    return function(input, *given, **named)


def _pool_to_one(sparse: Sparse, function: Form, input: Tensor, output_size: Any) -> Any:
    sizes = {output_size} if isinstance(output_size, int) else set(output_size)
    if sizes != {1} or sparse.over(input) is None:
        return function(input, output_size)
    return _mean(sparse, torch.mean, input, tuple(range(2, input.ndim)), True)


def _batch_norm(
    sparse: Sparse,
    function: Form,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    active = sparse.over(input)
    if active is None or not training:
        return _hide(sparse, function(input, running_mean, running_var, weight, bias, training, momentum, eps))
    made, *statistics = norm_seen(input, active, input.shape[1], weight, bias, (0, 3), eps)
    _remember(running_mean, running_var, momentum, *statistics)
    return made


def _instance_norm(
    sparse: Sparse,
    function: Form,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    active = sparse.over(input)
    if active is None or not use_input_stats:
        return _hide(sparse, function(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps))
    made, *statistics = norm_seen(input, active, input.shape[1], weight, bias, (3,), eps)
    _remember(running_mean, running_var, momentum, *statistics)
    return made


def _group_norm(
    sparse: Sparse,
    function: Form,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    active = sparse.over(input)
    if active is None:
        made: Tensor = function(input, num_groups, weight, bias, eps)
        return made
    return norm_seen(input, active, num_groups, weight, bias, (2, 3), eps)[0]


@torch.no_grad()
def _remember(
    mean: Tensor | None, variance: Tensor | None, momentum: float, now: Tensor, spread: Tensor, count: Tensor
) -> None:
    """Move running statistics as torch does: towards the unbiased variance, and the mean over images if they differ."""
    if mean is not None and variance is not None:
        unbiased = spread * (count / (count - 1).clamp(min=1))
        mean.lerp_(now.mean(0).flatten().to(mean.dtype), momentum)
        variance.lerp_(unbiased.mean(0).flatten().to(variance.dtype), momentum)


FORMS: dict[Any, Form] = {
    **dict.fromkeys((F.conv2d, F.conv3d), _convolution),
    F.linear: _hidden_after_channels_last,
    **dict.fromkeys((F.max_pool2d, F.max_pool3d, torch.max_pool2d, torch.max_pool3d), _hidden_after),
    **dict.fromkeys((F.avg_pool2d, F.avg_pool3d, F.interpolate), _hidden_after),
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
    **dict.fromkeys((torch.mean, Tensor.mean), _mean),
    **dict.fromkeys((torch.amax, Tensor.amax), _maximum),
    **dict.fromkeys((F.adaptive_avg_pool2d, F.adaptive_avg_pool3d), _pool_to_one),
    **dict.fromkeys((F.pad, torch.norm, Tensor.norm, torch.linalg.vector_norm), _as_it_is),
}


def check_sparse(encoder: Encoder, cells: Sequence[int]) -> list[Tensor]:
    """Refuse a network that would not stay blind to hidden cells: a trial with two images and a draughtboard of cells.

    Whatever hidden cells hold must be 0, and must not matter: the trial is repeated with NaN in its place wherever an
    operation left some. Neither weights nor buffers nor the caller's random state change.

    Returns:
        The maps of the trial.

    Raises:
        SettingsError: an operation without sparse form mixes positions, such as attention or a pooling unknown here;
            or strides differ from axis to axis.
    """
    refuse_uneven_strides(encoder, "sparse encoding")
    spec = encoder.spec
    board = torch.stack(torch.meshgrid(*map(torch.arange, cells), indexing="ij")).sum(0) % 2 == 0
    active = torch.stack([board, ~board]).unsqueeze(1).to(encoder.mean.device)
    cell = spec["size"] // max(cells)
    shape = (2, spec["in_channels"], *(cell * count for count in cells))
    pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(encoder.mean.device)
    maps, poisoned = (_trial(encoder, sparse, pixels) for sparse in (Sparse(active), _Poisoned(active)))
    for plain, other in zip(maps, poisoned, strict=True):
        seen = resize_cells(active, plain.shape[2:])
        if not torch.allclose(plain, torch.where(seen, other, 0.0), rtol=1e-3, atol=1e-3):
            raise SettingsError(
                f"{spec['name']} mixes hidden positions into seen ones by an operation that has no sparse form",
                where="pretrain.backbone",
                do=f"For instance: {', '.join(FITTING['cnn'])}",
            )
    return maps


def _trial(encoder: Encoder, sparse: Sparse, pixels: Tensor) -> list[Tensor]:
    buffers = {f"encoder.{name}": buffer.clone() for name, buffer in encoder.named_buffers()}
    with seeded(0):
        maps: list[Tensor] = functional_call(_Encode(encoder, sparse), buffers, (pixels,))
    return maps


class _Encode(torch.nn.Module):
    def __init__(self, encoder: Encoder, sparse: Sparse) -> None:
        super().__init__()
        self.encoder, self.sparse = encoder, sparse

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.sparse.encode(self.encoder, pixels)


class _Poisoned(Sparse):
    """Every form gets 0 and leaves NaN in hidden cells: what mixes them otherwise becomes NaN."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in FORMS:
            return func(*args, **(kwargs or {}))
        channel = -1 if func in (F.linear, F.layer_norm) else 1
        first, *others = args
        made = super().__torch_function__(func, types, (self._fill(first, 0.0, channel), *others), kwargs)
        return self._fill(made, float("nan"), channel)

    def _fill(self, map: Tensor, value: float, channel: int) -> Tensor:
        try:
            active = self.over(map, channel)
        except SettingsError:  # padded by an operation of its own
            return map
        return map if active is None else map.masked_fill(~active, value)
