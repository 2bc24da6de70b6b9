"""VoCo: where in a scan a crop lies is told by how alike it is to the crops of a grid over the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.methods.heads import Branch, mlp
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig, Share
from medprior.methods.teacher import Teacher
from medprior.objectives.gather import average
from medprior.objectives.precision import full
from medprior.views.choices import below, filled
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View
from medprior.views.window import cut_out

SCALE = (0.5, 1.0)
EPSILON = 1e-6
MODES = {2: "bilinear", 3: "trilinear"}
Form = Literal["paper", "code"]


class Cuts(NamedTuple):
    """The crops of B scans: n on a grid, then k anywhere on it, m = n + k.

    Attributes:
        pixels: (m * B, C, *S) crop by crop, each of all scans.
        overlap: (B, k, n) share of each random crop that lies in each crop of the grid.
        known: (B, m) bool, false on padding alone.
    """

    pixels: Tensor
    overlap: Tensor
    known: Tensor


class VoCo(Method):
    """Predict how much of a crop lies in each of a grid over its scan, by the likeness of their embeddings.

    Wu, Zhuang and Chen, CVPR 2024, arXiv 2402.17300. All crops of a scan are cut from one large view, and brought to
    the encoder's size where theirs is another. Embeddings are the encoder's, theirs joined five resolutions; their code
    also flipped and turned each crop for itself. Crops of padding alone count nowhere.
    """

    paper = "Wu et al., CVPR 2024, arXiv 2402.17300"
    teacher: Teacher | None

    class Config(MethodConfig):
        """Which crops are compared, and how.

        Attributes:
            grid: crops of the grid along each axis of an image, and along the last two of a volume.
            depth: crops of the grid along the first axis of a volume.
            crops: random crops of every scan.
            projection: widths of the projector, hidden layers and output.
            momentum: of the teacher that the authors' code has and their paper has not; None for no teacher.
            form: which of their losses, see `prediction` and `separation`.
        """

        grid: int = Field(4, ge=2)
        depth: int = Field(1, ge=1)
        crops: int = Field(2, ge=1)
        projection: tuple[int, ...] = Field((2048, 2048, 2048), min_length=1)
        momentum: Share | None = None
        form: Form = "paper"

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        side = base.size * max(self._counts(base.spatial_dims))
        return independent(replace(base.restorative(), size=side, scale=SCALE, aspect=(1.0, 1.0)), count=1)

    def build(self, facts: DataFacts) -> None:
        self.size, self.counts = facts.size, self._counts(facts.spatial_dims)
        widths, momentum = self.config.projection, self.config.momentum
        centred = nn.BatchNorm1d(widths[-1], affine=False)
        self.projector = nn.Sequential(*mlp(self.encoder.embed_dim, *widths, bias=False), centred)
        self.teacher = None if momentum is None else Teacher(Branch(self.encoder, self.projector))

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        cuts, form = self.cut(view, batch), self.config.form
        bases, crops = self._apart(self.projector(self.embed(cuts.pixels)), cuts)
        if self.teacher is None:
            likeness = _likeness(crops, bases.detach())
        else:
            steady, seen = self._apart(self.teacher(cuts.pixels), cuts)
            likeness = (_likeness(crops, steady) + _likeness(seen, bases)) / 2
        known, other = cuts.known.tensor_split((bases.shape[1],), dim=1)
        predicted = prediction(likeness, cuts.overlap, other.unsqueeze(2) & known.unsqueeze(1), form)
        separate = separation(bases, known, form)
        return {"loss": predicted + separate, "prediction": predicted.detach(), "separation": separate.detach()}

    def cut(self, view: View, batch: Batch) -> Cuts:
        """The crops of every scan, the random ones drawn for each."""
        side = view.pixels.shape[-1] // max(self.counts)
        grid, anywhere = self._corners(batch, side)
        corners = torch.cat([grid.expand(len(anywhere), -1, -1), anywhere], dim=1).transpose(0, 1).flatten(0, 1)
        known = cut_out(view.valid, corners, side).flatten(1).any(1).view(-1, len(anywhere)).T
        pixels = cut_out(view.pixels, corners, side)
        if side != self.size:
            pixels = F.interpolate(pixels, size=(self.size,) * len(self.counts), mode=MODES[len(self.counts)])
        return Cuts(pixels, overlaps(anywhere, grid, side), known)

    def after_update(self, clock: Clock) -> None:
        if self.teacher is not None and self.config.momentum is not None:
            self.teacher.move(Branch(self.encoder, self.projector), self.config.momentum)

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector} | ({} if self.teacher is None else {"teacher": self.teacher})

    def _counts(self, dims: int) -> tuple[int, ...]:
        """Crops of the grid along each axis."""
        return (self.config.depth,) * (dims - 2) + (self.config.grid,) * 2

    def _corners(self, batch: Batch, side: int) -> tuple[Tensor, Tensor]:
        """First pixels of the crops on the grid (n, d), the middle of the view, and of the random ones (B, k, d)."""
        device, longest = batch.index.device, max(self.counts)
        first = [(longest - count) * side // 2 for count in self.counts]
        along = [torch.arange(n, device=device) * side + begin for n, begin in zip(self.counts, first, strict=True)]
        key = Key(batch.seed, batch.step, batch.index, view=0)
        share = uniform(key, "crop", (self.config.crops, len(self.counts)))
        room = filled([(count - 1) * side + 1 for count in self.counts], device)
        return torch.cartesian_prod(*along), filled(first, device) + below(share, room)

    def _apart(self, projected: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
        """Embeddings (B, n, D) and (B, k, D) of unit length."""
        with torch.autocast(projected.device.type, enabled=False):
            unit = F.normalize(full(projected), dim=1).view(-1, len(cuts.overlap), projected.shape[1]).transpose(0, 1)
        bases, crops = unit.tensor_split((cuts.overlap.shape[2],), dim=1)
        return bases, crops


def overlaps(crops: Tensor, bases: Tensor, side: int) -> Tensor:
    """(B, k, n) share of each crop in each base, all `side` pixels long: first pixels (B, k, d) and (n, d)."""
    shared = (side - (crops.unsqueeze(2) - bases).abs()).clamp(min=0).prod(dim=-1)
    return shared / float(side ** bases.shape[1])


def prediction(likeness: Tensor, overlap: Tensor, counted: Tensor, form: Form) -> Tensor:
    """How far likenesses s are from the overlaps y, all (B, k, n), where `counted`; over the scans of all processes.

    In the paper the mean of -log(1 - |y - s|). In the authors' code the mean of it weighted by y, to which the mean
    of s² where y is 0 is added.
    """
    surprise = -torch.log(1 - (overlap - likeness).abs() + EPSILON)
    if form == "paper":
        return _mean(surprise, counted)
    return _mean(surprise, counted * overlap) + _mean(likeness.square(), counted & (overlap == 0))


def separation(bases: Tensor, known: Tensor, form: Form) -> Tensor:
    """How alike the crops of a grid are, embeddings (B, n, D) of unit length, over the pairs that are `known` (B, n).

    In the paper the mean of |cosine|, in the authors' code that of the squares of those above 0.
    """
    cosine = _cosine(bases, bases)
    pairs = (known.unsqueeze(1) & known.unsqueeze(2)).triu(diagonal=1)
    return _mean(cosine.abs() if form == "paper" else cosine.relu().square(), pairs)


def _likeness(crops: Tensor, bases: Tensor) -> Tensor:
    return _cosine(crops, bases).relu()


def _cosine(crops: Tensor, bases: Tensor) -> Tensor:
    """(B, k, n) from embeddings (B, k, D) and (B, n, D) of unit length."""
    with torch.autocast(crops.device.type, enabled=False):  # the logarithm magnifies what bf16 rounds off
        return crops @ bases.transpose(1, 2)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    # Processes average their gradients, so each divides by the mean of their weights, not by its own.
    return (values * weights).sum() / average(weights.sum().to(values.dtype)).clamp(min=EPSILON)
