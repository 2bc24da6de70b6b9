"""A U-shaped decoder on the maps of any encoder, for images and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile

import torch
from torch import Tensor, nn

from medprior.backbones.axes import Sides, in_words, kernels, quotient
from medprior.backbones.encoder import Encoder
from medprior.backbones.layers import CONVOLUTIONS, INSTANCE_NORMS, SLOPE, TRANSPOSED, ConvUnit
from medprior.errors import SettingsError

LEAST_WIDTH = 16
MOST_WIDTH = {2: 512, 3: 320}
"""nnU-Net's, in images and in volumes."""
SCALES = 4
"""Maps that a transformer's one map becomes."""


class UNetDecoder(nn.Module):
    """From the coarsest map up to the resolution of the image, joined at every step by the map of that resolution.

    Ronneberger et al., MICCAI 2015, arXiv 1505.04597, with instance norm and leaky ReLU as in nnU-Net (Isensee et al.,
    Nature Methods 2021, arXiv 1809.10486). Resolutions that the encoder has no map of are passed without a join. An
    encoder of a single map, such as a plain vision transformer, first gets a `SimplePyramid`. Where strides differ from
    axis to axis, so do steps, and kernels are those of `medprior.backbones.axes.kernels`.

    Args:
        encoder: of the maps; it is not kept.
        out_channels: of what comes out.
        width: channels at the image's resolution, doubled with every halving of the finest axis up to `MOST_WIDTH`. By
            default those of the finest map divided by its stride, 16 at least.
        supervise: how many coarser outputs `outputs` gives, for deep supervision (Lee et al., AISTATS 2015, arXiv
            1409.5185).
        sees_image: join the image itself at the end, as UNETR does (Hatamizadeh et al., WACV 2022, arXiv 2103.10504).
            A method that hides pixels has to hide them in this image, too.

    Raises:
        SettingsError: strides that do not divide each other, or more outputs than there are resolutions.
    """

    def __init__(
        self,
        encoder: Encoder,
        out_channels: int,
        width: int | None = None,
        supervise: int = 0,
        sees_image: bool = False,
    ) -> None:
        super().__init__()
        dims = encoder.spatial_dims
        self.axis_strides, self.sees_image = encoder.axis_strides, sees_image
        self.pyramid = SimplePyramid(encoder) if len(encoder.strides) == 1 else None
        channels, strides = (self.pyramid or encoder).channels, (self.pyramid or encoder).axis_strides
        self.ladder = axis_descent(strides)
        sides = kernels(encoder.voxel, self.ladder[::-1])[::-1]
        finest = width or max(LEAST_WIDTH, channels[0] // max(strides[0]))
        widths = [channels[-1], *[min(finest * max(stride), MOST_WIDTH[dims]) for stride in self.ladder[1:]]]
        joined = dict(zip(strides, channels, strict=True))
        if sees_image:
            self.image = ConvUnit(dims, encoder.spec["in_channels"], finest, kernel=sides[-1])
            joined[self.ladder[-1]] = joined.get(self.ladder[-1], 0) + finest
        self.steps = nn.ModuleList(
            Step(dims, *pair, joined=joined.get(fine, 0), factor=quotient(coarse, fine), kernel=kernel)
            for pair, (coarse, fine), kernel in zip(pairwise(widths), pairwise(self.ladder), sides[1:], strict=True)
        )
        if not 0 <= supervise < len(self.steps):
            raise SettingsError(
                f"{supervise} coarser outputs of a decoder with {len(self.steps)} resolutions",
                where="supervise",
                do=f"Use {len(self.steps) - 1} at most",
            )
        self.heads = nn.ModuleList(CONVOLUTIONS[dims](w, out_channels, 1) for w in widths[-1 - supervise :])

    def forward(self, maps: Sequence[Tensor], image: Tensor | None = None) -> Tensor:
        """The encoder's maps, finest first, to (B, out_channels, *S); `outputs` says the rest."""
        return self.outputs(maps, image)[-1]

    def outputs(self, maps: Sequence[Tensor], image: Tensor | None = None) -> list[Tensor]:
        """All outputs (B, out_channels, *S / factor), coarsest first: 1 + `supervise` of them.

        Args:
            maps: of the encoder, finest first.
            image: (B, C, *S) where the decoder sees it.

        Raises:
            SettingsError: the encoder's strides do not divide the image. Maps tell it only where they differ:
                `check_extents` tells it beforehand.
        """
        self._check(maps, image)
        finer = self.pyramid(maps[-1]) if self.pyramid else list(maps)
        strides = self.pyramid.axis_strides if self.pyramid else self.axis_strides
        joins = {stride: [found] for stride, found in zip(strides, finer, strict=True)}
        if image is not None and self.sees_image:
            joins.setdefault(self.ladder[-1], []).append(self.image(image))
        x, found = finer[-1], []
        for fine, step in zip(self.ladder[1:], self.steps, strict=True):
            x = step(x, joins.get(fine, []))
            found.append(x)
        return [head(x) for head, x in zip(self.heads, found[-len(self.heads) :], strict=True)]

    def _check(self, maps: Sequence[Tensor], image: Tensor | None) -> None:
        covered = {  # as int: where a graph is traced, shapes are tensors
            tuple(int(n) * by for n, by in zip(found.shape[2:], stride, strict=True))
            for stride, found in zip(self.axis_strides, maps, strict=True)
        }
        if self.sees_image:
            if image is None:
                raise ValueError("this decoder sees the image: give it")
            covered.add(tuple(map(int, image.shape[2:])))
        if len(covered) > 1:
            sizes = ", ".join(" x ".join(map(str, size)) for size in sorted(covered))
            raise SettingsError(
                f"the encoder's strides do not divide the image: its maps would cover {sizes} pixels",
                where="data.size",
                do=f"Use sizes that {in_words(self.axis_strides[-1])} divides",
            )


class Step(nn.Module):
    """`factor` times the resolution, joined by maps that have it, and two convolutions.

    Factor and kernel are one number for all axes, or one for each.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, joined: int, factor: int | Sides, kernel: int | Sides = 3
    ) -> None:
        super().__init__()
        self.up = TRANSPOSED[dims](inputs, outputs, factor, stride=factor)
        self.convolutions = nn.Sequential(
            ConvUnit(dims, outputs + joined, outputs, kernel=kernel), ConvUnit(dims, outputs, outputs, kernel=kernel)
        )

    def forward(self, x: Tensor, joins: Sequence[Tensor]) -> Tensor:
        """(B, inputs, *S) and maps (B, any, *factor S) to (B, outputs, *factor S)."""
        found: Tensor = self.convolutions(torch.cat([self.up(x), *joins], dim=1))
        return found


class SimplePyramid(nn.Module):
    """Maps of several resolutions made of a single one: Li et al., ECCV 2022, arXiv 2203.16527.

    Up to four, at the stride of a patch and its halves; along axes where it has fewer voxels, at what `axis_descent`
    passes on the way. The paper's begin a step coarser and end two steps finer; a coarser one would ask for images that
    twice the patch divides, and a transformer sees the whole image anyway.

    Attributes:
        channels, strides, axis_strides: of the maps, finest first.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        ladder, width = halved(axis_descent(encoder.axis_strides))[:SCALES], encoder.channels[-1]
        widths = [width, *[max(width >> k, LEAST_WIDTH) for k in range(1, len(ladder))]]
        steps = [
            (pair, quotient(coarse, fine))
            for pair, (coarse, fine) in zip(pairwise(widths), pairwise(ladder), strict=True)
        ]
        self.axis_strides, self.channels = tuple(ladder[::-1]), tuple(widths[::-1])
        self.strides = tuple(max(stride) for stride in self.axis_strides)
        self.scales = nn.ModuleList(
            nn.Sequential(*[Doubling(*pair, factor) for pair, factor in steps[:k]])
            for k in reversed(range(len(ladder)))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) to maps, finest first; the last is x."""
        return [scale(x) for scale in self.scales]


class Doubling(nn.Sequential):
    """Twice the resolution along the finest axis, instance norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, factor: Sides) -> None:
        dims = len(factor)
        up = TRANSPOSED[dims](inputs, outputs, factor, stride=factor, bias=False)
        super().__init__(up, INSTANCE_NORMS[dims](outputs, affine=True), nn.LeakyReLU(SLOPE, inplace=True))


def axis_descent(strides: Sequence[Sides]) -> list[Sides]:
    """The strides on the way from the coarsest map to the image, in the smallest steps along every axis at once.

    An axis that has arrived waits: [(4, 8), (2, 4), (1, 2), (1, 1)].

    Raises:
        SettingsError: along some axis a finer stride does not divide a coarser one.
    """
    found = [strides[-1]]
    for fine in [*reversed(strides[:-1]), (1,) * len(strides[-1])]:
        if any(coarse % by for coarse, by in zip(found[-1], fine, strict=True)):
            raise SettingsError(
                f"no U-shaped decoder leads from a map at stride {in_words(found[-1])} to one at stride "
                f"{in_words(fine)}",
                where="pretrain.backbone",
                do="For instance: unet, resenc, resnet18, vit_tiny",
            )
        while found[-1] != fine:
            found.append(quotient(found[-1], tuple(least_factor(ratio) for ratio in quotient(found[-1], fine))))
    return found


def halved(ladder: Sequence[Sides]) -> list[Sides]:
    """The steps of a descent from the first on, as long as each halves the longest side."""
    steps = takewhile(lambda pair: max(pair[0]) == 2 * max(pair[1]), pairwise(ladder))
    return [ladder[0], *[fine for _, fine in steps]]


def least_factor(number: int) -> int:
    """The least prime that divides it; 1 of 1."""
    return next((k for k in range(2, number + 1) if number % k == 0), 1)


def check_extents(encoder: Encoder, extents: Sequence[int]) -> None:
    """Refuse images of that many pixels along each axis if the encoder's strides do not divide them.

    Raises:
        SettingsError: with the nearest sizes that they do divide.
    """
    strides = encoder.axis_strides[-1]
    for axis, (extent, total) in enumerate(zip(extents, strides, strict=True)):
        if extent % total:
            below = extent // total * total
            place = "" if len(set(strides)) == 1 else f" along axis {axis}"
            raise SettingsError(
                f"the total stride of {encoder.spec['name']}, {total}, does not divide {extent} pixels{place}",
                where="data.size",
                do=f"Use {f'{below} or ' if below else ''}{below + total}{place}",
            )
