"""The images as peers read them: a data set in torchvision's manner, which applies `transform` to what it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset


class Files(Dataset):
    """The folder, each file decoded when asked for."""

    transform: Callable[[Image.Image], Any] | None = None

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).glob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        image = self.read(row)
        return self.transform(image) if self.transform else image, 0

    def read(self, row: int) -> Image.Image:
        """One grey image."""
        with Image.open(self.paths[row]) as image:
            return image.convert("L")


class Rows(Files):
    """The rows of medprior's store: nothing is decoded."""

    def __init__(self, folder: str) -> None:
        from medprior.data.store.pixels import PixelStore

        self.store = PixelStore.open(folder)

    def __len__(self) -> int:
        return self.store.count

    def read(self, row: int) -> Image.Image:
        atlas = self.store.pixels(np.array([row]))[0, 0]
        return Image.fromarray(atlas[: self.store.size, : self.store.size])
