"""Pixels as they come back from a JPEG file: written and read by Pillow, on the host, 8 bits a channel."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def compressed(pixels: Tensor, quality: int) -> Tensor:
    """Pixels (B, C, *S) in [0, 1] after JPEG of `quality` (1 to 95, as libjpeg counts it), on their own device.

    Three channels are compressed as one colour image, with its colours at half the resolution as is usual; any other
    number one by one. A volume is compressed slice by slice along its first axis, as archives of DICOM do.
    """
    batch, channels, *size = pixels.shape
    together = channels == 3
    images = pixels.movedim(1, -1) if together else pixels
    images = images.reshape(-1, *size[-2:], 3) if together else images.reshape(-1, *size[-2:])
    stored = images.mul(255).round().to(torch.uint8).cpu().numpy()
    found = np.stack([_through_a_file(image, quality) for image in stored])
    back = torch.from_numpy(found).to(pixels.device).float().div_(255)
    return back.view(batch, *size, 3).movedim(-1, 1) if together else back.view(pixels.shape)


def _through_a_file(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """One image (H, W) or (H, W, 3), there and back."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
