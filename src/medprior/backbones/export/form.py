"""What an encoder in the form of another library is: files, and the lines of Python that load and use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.errors import SettingsError
from medprior.files import replace_file

WEIGHTS = "model.safetensors"
HERE = "HERE"
"""In lines of code: the folder that the files lie in."""
MOST_LINES = 5


@dataclass(frozen=True)
class Form:
    """A model as another library reads it.

    Attributes:
        library: that reads it, as pip calls it.
        load: at most five lines of Python that make `model`; `HERE` is the folder.
        use: lines that make each of `gives` of `images`, a float tensor (B, C, *S) in [0, 1].
        write: the files, into a folder.
        image: channels and pixels along each axis of the images it was made for.
        notes: what is to be known of it, sentences.
        gives: what `use` makes. `maps` and `features` are those of the encoder and its `pool`.
        also: another way to load it, which nobody needs to have installed.
    """

    library: str
    load: tuple[str, ...]
    use: tuple[str, ...]
    write: Callable[[Path], None]
    image: tuple[int, ...]
    notes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ("maps", "features")
    also: tuple[str, ...] = ()

    def code(self, folder: str | Path = ".") -> str:
        """The lines that load and use it from `folder`."""
        return "\n".join(located((*self.load, *self.use), folder))

    def answers(self, folder: Path, images: Tensor) -> dict[str, list[Tensor]]:
        """What the lines make of images, on the CPU; every item as a list of tensors."""
        scope: dict[str, Any] = {"images": images}
        with torch.inference_mode(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            exec(compile(self.code(folder.resolve()), f"<{self.library}>", "exec"), scope)
        return {name: as_tensors(scope[name]) for name in self.gives}


def located(lines: Sequence[str], folder: str | Path) -> list[str]:
    """Lines of code with a folder in the place of `HERE`."""
    return [line.replace(HERE, Path(folder).as_posix()) for line in lines]


def as_tensors(found: Any) -> list[Tensor]:
    """One tensor or array, or a sequence of them, as a list of tensors."""
    each = found if isinstance(found, list | tuple) else [found]
    return [one if isinstance(one, Tensor) else torch.from_numpy(np.asarray(one)) for one in each]


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Inside, a module answers as in use and learns nothing; afterwards it is as it was."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, before in training.items():
            part.training = before


def image_of(encoder: Encoder) -> tuple[int, ...]:
    """Channels and pixels along each axis of the images an encoder was made for."""
    return (int(encoder.spec["in_channels"]), *encoder.extents)


def standardised(encoder: Encoder) -> str:
    """The line that brings `images` to what the network was trained on."""
    mean, std = (_numbers(getattr(encoder, name)) for name in ("mean", "std"))
    if len(mean) == 1:
        return f"x = (images - {mean[0]}) / {std[0]}"
    axes = ", 1" * encoder.spatial_dims
    each = [f"torch.tensor([{', '.join(values)}]).reshape(-1{axes})" for values in (mean, std)]
    return f"x = (images - {each[0]}) / {each[1]}"


def pooled(encoder: Encoder) -> str:
    """The line that takes the mean of the last map over its positions."""
    return f"features = maps[-1].mean({tuple(range(2, 2 + encoder.spatial_dims))})"


def weights_writer(state: Callable[[], Mapping[str, Tensor]], more: Callable[[Path], None] | None = None) -> Any:
    """What writes tensors by name as `model.safetensors`, and maybe more beside it; they are made only then."""

    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state().items()}
        with replace_file(folder / WEIGHTS) as aside:
            save_file(tensors, aside, metadata={"format": "pt"})
        if more is not None:
            more(folder)

    return write


def refuse(encoder: Encoder, library: str, why: str) -> SettingsError:
    """The error of a library that has no such encoder."""
    return SettingsError(f"{library} cannot hold {encoder.spec['name']}: {why}")


def _numbers(values: Tensor) -> list[str]:
    """As short as float32 allows."""
    return [str(np.float32(value)) for value in values.flatten().tolist()]
