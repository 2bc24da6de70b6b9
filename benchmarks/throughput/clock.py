"""What every side counts alike: seconds since its work began, by epoch; no import of medprior."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch


def job() -> dict[str, Any]:
    """The task this process was started with."""
    return json.loads(sys.argv[1])


class Clock:
    """Marks the ends of epochs; the device has finished what it was given at each mark."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.began = self.last = time.perf_counter()
        self.epochs: list[float] = []

    def mark(self) -> float:
        """Seconds since the last mark."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        spent, self.last = now - self.last, now
        return spent

    def epoch(self) -> None:
        """One pass over the images is done."""
        self.epochs.append(self.mark())

    def report(self, images: int, **more: Any) -> None:
        """Print the one line that the driver reads: `images` are those of an epoch."""
        memory = torch.cuda.max_memory_allocated() if self.device == "cuda" else None
        found = {"seconds": self.last - self.began, "epoch_seconds": self.epochs, "images": images}
        print(json.dumps({**found, "gpu_memory_bytes": memory, "torch": torch.__version__, **more}), flush=True)
