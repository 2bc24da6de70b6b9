"""Draw the pictures of docs/corruptions.md: what each corruption makes of a generated chest CT.

    python benchmarks/pictures/corruptions.py docs/images/corruptions

The volume is the phantom of `medprior demo`, corrupted as a volume; its middle slice is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from recipes import COLOURS, GAP, PATIENT
from torch import Tensor

from medprior.data.phantom import anatomy, render_ct
from medprior.views.bezier import bend_intensities
from medprior.views.corruption import add_noise, deform, down_and_up
from medprior.views.cutting import cut_out
from medprior.views.draws import Key
from medprior.views.masking import mask_blocks
from medprior.views.painting import paint_in, paint_out
from medprior.views.shuffling import shuffle_locally

SIZE, FIRST = (32, 112, 112), 8
SHOWN = 112

Corruption = Callable[[Tensor, Key], Tensor]
PICTURES: dict[str, list[Corruption]] = {
    "genesis": [
        lambda pixels, key: pixels,
        lambda pixels, key: shuffle_locally(pixels, key, 1.0),
        lambda pixels, key: bend_intensities(pixels, key, 1.0, 0.0),
        lambda pixels, key: bend_intensities(pixels, key, 1.0, 1.0),
        paint_in,
        paint_out,
    ],
    "deform": [lambda pixels, key, view=view: deform(pixels, Key(0, 0, key.rows, view))[0] for view in range(6)],
    "others": [
        lambda pixels, key: pixels,
        add_noise,
        lambda pixels, key: down_and_up(pixels, 4),
        lambda pixels, key: down_and_up(add_noise(pixels, key), 4),
        lambda pixels, key: cut_out(pixels, key, 0.6),
        lambda pixels, key: pixels.masked_fill(mask_blocks(key, SIZE), 0.5),
    ],
}


def phantom() -> Tensor:
    """(1, 1, *SIZE) in [0, 1], -1000 to 1000 HU."""
    volume = render_ct(anatomy(0, PATIENT), spacing=(7.0, 3.4, 3.4)).volume
    corner = [FIRST, *((side - SHOWN) // 2 for side in volume.shape[1:])]
    box = tuple(slice(max(0, at), max(0, at) + side) for at, side in zip(corner, SIZE, strict=True))
    cut = torch.from_numpy(volume[box].copy()).float()
    short = [side - have for side, have in zip(SIZE, cut.shape, strict=True)]
    padding = [part for lack in reversed(short) for part in (lack // 2, lack - lack // 2)]
    return ((torch.nn.functional.pad(cut, padding, value=-1000.0) + 1000) / 2000).clamp(0, 1)[None, None]


def row(pixels: Tensor, corruptions: list[Corruption]) -> Image.Image:
    """The middle slice after each corruption, side by side."""
    key = Key(0, 0, torch.tensor([PATIENT]), 0)
    white = torch.ones(SHOWN, GAP)
    slices = [corrupt(pixels, key)[0, 0, SIZE[0] // 2].clamp(0, 1) for corrupt in corruptions]
    parts = [part for image in slices for part in (image, white)][:-1]
    return Image.fromarray((torch.cat(parts, dim=1) * 255).round().to(torch.uint8).numpy())


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = phantom()
    for name, corruptions in PICTURES.items():
        file = folder / f"{name}.png"
        # Few colours keep the files small; dither would cost more than it shows.
        row(pixels, corruptions).quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
        print(f"{file}  {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
