"""Host tensors to a device, without making either of them wait for the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Transfer:
    """The way from this machine's memory to a device; threads may share it.

    On CUDA copies run on a stream of their own, beside the computation, from memory that cannot be paged out. PyTorch
    gives such memory to nobody else before the copy that was asked of it is done, whoever still holds the tensor.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = _side_stream(device) if device.type == "cuda" else None

    def staging(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Empty memory of the host to fill and then `send`; not to be written to afterwards."""
        import torch

        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self._stream is not None)

    def staged(self, values: NDArray[np.generic]) -> Tensor:
        """An array, copied there."""
        import torch

        given = torch.from_numpy(np.ascontiguousarray(values))
        return self.staging(given.shape, given.dtype).copy_(given)

    def send(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The same on the device, ready for whatever the stream that is current in this thread does next.

        A thread that fetches for another one makes the other's stream its own with `torch.cuda.stream`; where neither
        has chosen one, both have the device's default stream.
        """
        import torch

        if self._stream is None:
            return tuple(tensor.to(self.device) for tensor in tensors)
        user = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            sent = tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)
            arrived = self._stream.record_event()
        user.wait_event(arrived)
        for tensor in sent:
            tensor.record_stream(user)
        return sent


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all transfers: PyTorch keeps the freed memory of every stream apart, so that many would hoard it."""
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
