"""The pretext tasks of Swin UNETR: turns are named, copies of one crop are found, and what was cut out is restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.backbones.axes import kernels, quotient
from medprior.backbones.encoder import Encoder
from medprior.backbones.layers import CONVOLUTIONS
from medprior.backbones.unet import LEAST_WIDTH, MOST_WIDTH, Step, axis_descent, check_extents
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.contrastive import nt_xent
from medprior.objectives.precision import full
from medprior.objectives.restoration import absolute_error
from medprior.views.acquisition import broad
from medprior.views.choices import below
from medprior.views.cutting import cut_out
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

TURNS = 4


class Copies(NamedTuple):
    """Two copies of each of B crops, all first ones before the second: turned, then cut.

    Attributes:
        seen: (2B, C, *S) what the encoder sees.
        target, valid: (2B, C or 1, *S) what is to be restored, and where it is no padding.
        turns: (2B,) int64, by how many right angles each was turned.
    """

    seen: Tensor
    target: Tensor
    valid: Tensor
    turns: Tensor


class SwinPretext(Method):
    """Tell how two copies of a crop were turned, that they are of one crop, and what boxes of noise hide in them.

    Tang et al., CVPR 2022, arXiv 2111.14791. Copies are turned in the plane of the last two axes. All three heads start
    from the coarsest map, those of turn and crop from its pooled output; theirs from its first and its second token.
    Padding is no target.
    """

    paper = "Tang et al., CVPR 2022, arXiv 2111.14791"
    title = "Swin UNETR's pretext"

    class Config(MethodConfig):
        """What is hidden, and how copies are compared. The three losses are added as they are.

        Attributes:
            cut: the greatest share of a copy that boxes of noise hide; how much, is drawn evenly up to it.
            swapped: the greatest share that parts of another image take afterwards, as in the authors' code; it is one
                of the batch of this process.
            temperature: of the contrast.
            projection: width of what is contrasted.
        """

        cut: float = Field(0.3, gt=0, le=1)
        swapped: float = Field(0.0, ge=0, le=1)
        temperature: float = Field(0.5, gt=0)
        projection: int = Field(512, ge=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        # Undistorted and unflipped: two flips would be a half turn.
        return independent(replace(base.restorative(), aspect=(1.0, 1.0), flips=()), count=1)

    def build(self, facts: DataFacts) -> None:
        check_extents(self.encoder, facts.extents)
        self.turner = nn.Linear(self.encoder.embed_dim, TURNS)
        self.projector = nn.Linear(self.encoder.embed_dim, self.config.projection)
        self.decoder = CoarseDecoder(self.encoder, facts.channels)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        copies = self.corrupt(view, batch)
        maps = self.encoder(copies.seen)
        pooled = self.encoder.pool(maps)
        turn = F.cross_entropy(full(self.turner(pooled)), copies.turns)
        first, second = self.projector(pooled).chunk(2)
        contrast = nt_xent(first, second, self.config.temperature)
        inside = absolute_error(self.decoder(maps), copies.target, copies.valid)
        parts = {"turn": turn, "contrast": contrast, "restoration": inside}
        return {"loss": turn + contrast + inside} | {name: value.detach() for name, value in parts.items()}

    def corrupt(self, view: View, batch: Batch) -> Copies:
        """Both copies of every crop, drawn for each."""
        found = []
        for copy in (0, 1):
            key = Key(batch.seed, batch.step, batch.index, view=copy)
            turns = below(uniform(key, "turn"), TURNS).long()
            target, valid = turned(view.pixels, turns), turned(view.valid, turns)
            seen = cut_out(target, key, self.config.cut)
            if self.config.swapped:
                seen = cut_out(seen, key, self.config.swapped, other=target[others(key)])
            found.append((seen, target, valid, turns))
        return Copies(*(torch.cat(both) for both in zip(*found, strict=True)))

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the first copies, what the encoder saw of them, what it made of that; (B, C, *S) in [0, 1]."""
        copies, training = self.corrupt(views[0], batch), self.training
        target, seen = (half.chunk(2)[0] for half in (copies.target, copies.seen))
        restored = self.eval().decoder(self.encoder(seen)).float()
        self.train(training)
        return target, seen, restored.clamp(0, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"turner": self.turner, "projector": self.projector, "decoder": self.decoder}


class CoarseDecoder(nn.Module):
    """An encoder's coarsest map alone, (B, D, *S / stride), to (B, channels, *S): nothing leads around it."""

    def __init__(self, encoder: Encoder, channels: int) -> None:
        super().__init__()
        dims, ladder = encoder.spatial_dims, axis_descent(encoder.axis_strides)
        sides = kernels(encoder.voxel, ladder[::-1])[::-1]
        wide = [encoder.embed_dim * max(fine) // max(ladder[0]) for fine in ladder[1:]]
        widths = [encoder.embed_dim, *[min(max(width, LEAST_WIDTH), MOST_WIDTH[dims]) for width in wide]]
        self.steps = nn.ModuleList(
            Step(dims, *pair, joined=0, factor=quotient(coarse, fine), kernel=kernel)
            for pair, (coarse, fine), kernel in zip(pairwise(widths), pairwise(ladder), sides[1:], strict=True)
        )
        self.head = CONVOLUTIONS[dims](widths[-1], channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps, finest first, to an image."""
        x = maps[-1]
        for step in self.steps:
            x = step(x, [])
        image: Tensor = self.head(x)
        return image


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Images (B, C, *S), each turned by so many (B,) right angles from its second last axis towards its last."""
    half = torch.where(broad(turns >= 2, images), images.flip(-2, -1), images)
    return torch.where(broad(turns % 2 == 1, images), half.transpose(-2, -1).flip(-2), half)


def others(key: Key) -> Tensor:
    """(B,) for each image the place of another one of the batch: a ring that does not depend on their order."""
    order = uniform(key, "other").argsort(stable=True)
    return torch.empty_like(order).scatter(0, order, order.roll(1))
