"""SparK: cells of an image are hidden from a convolutional network and restored by a light decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from medprior.backbones.embedded import freeze_unreached
from medprior.backbones.mapdecoder import LEAST_WIDTH, MapDecoder
from medprior.backbones.sparse import Sparse, check_sparse, resize_cells
from medprior.errors import SettingsError
from medprior.methods.method import Batch, DataFacts, Losses, Method, MethodConfig
from medprior.objectives.reconstruction import masked_patch_loss, patchify, standardise_patches, unpatchify
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View

GREY = 0.5
SCALE = (0.67, 1.0)
LEAST_CELLS = 4


class SparK(Method):
    """Restore the hidden cells of an image with a convolutional network that is blind to them.

    Tian et al., ICLR 2023, arXiv 2301.03580. A cell has the size of the encoder's total stride; where a view holds
    fewer than 4 of those along an axis, the size of its coarsest stride that leaves 4. Maps coarser than the cells
    are then seen wherever one of their cells is. Padding counts nowhere. The encoder stays the ordinary dense network.
    """

    needs = "cnn"
    paper = "Tian et al., ICLR 2023, arXiv 2301.03580"
    evidence = "tested on CT: not told apart from scratch"

    class Config(MethodConfig):
        """`cell`: side in pixels, one of the encoder's strides; `decoder_width`: at the coarsest map, halved at every
        step up; `floor`: deviation, in units of intensity, under which a cell counts as flat."""

        mask_ratio: float = Field(0.6, gt=0, lt=1)
        cell: int | None = Field(None, ge=1)
        decoder_width: int = Field(768, ge=LEAST_WIDTH)
        floor: float = Field(1e-3, gt=0)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(replace(base.restorative(), scale=SCALE), count=1)

    def build(self, facts: DataFacts) -> None:
        encoder = self.encoder
        self.cell = min(cell_size(self.config.cell, encoder.strides, extent) for extent in facts.extents)
        self.grid = tuple(extent // self.cell for extent in facts.extents)
        freeze_unreached(encoder, check_sparse(encoder, self.grid))
        self.decoder = MapDecoder(encoder, self.config.decoder_width, facts.channels)

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        (view,) = views
        seen = self.mask(batch)
        predicted = patchify(self._restore(view.pixels, seen), self.cell)
        valid = self._valid(view)
        target = standardise_patches(patchify(view.pixels, self.cell), valid, self.config.floor)
        return {"loss": masked_patch_loss(predicted.float(), target.values, ~seen.flatten(1), valid)}

    def mask(self, batch: Batch) -> Tensor:
        """Which cells are seen, (B, 1, *grid) bool, drawn for each scan."""
        cells = torch.Size(self.grid).numel()
        kept = min(max(1, round(cells * (1 - self.config.mask_ratio))), cells - 1)
        key = Key(batch.seed, batch.step, batch.index, view=0)
        order = uniform(key, "mask", (cells,)).argsort(dim=1, stable=True)
        seen = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :kept], True)
        return seen.view(-1, 1, *self.grid)

    @torch.no_grad()
    def reconstruct(self, views: Sequence[View], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For the eye: the image, what the encoder saw of it (the rest grey), and what it made of that.

        Three tensors (B, C, *S) in [0, 1]. Hidden cells get back the brightness and contrast of the original, which
        the objective does not ask for; visible ones are the original.
        """
        (view,) = views
        seen = self.mask(batch)
        training = self.training
        predicted = patchify(self.eval()._restore(view.pixels, seen).float(), self.cell)
        self.train(training)
        target = standardise_patches(patchify(view.pixels, self.cell), self._valid(view), self.config.floor)
        restored = unpatchify(predicted * target.deviation + target.mean, self.cell, self.grid)
        shown = resize_cells(seen, view.pixels.shape[2:])
        masked, filled = (torch.where(shown, view.pixels, image).clamp(0, 1) for image in (GREY, restored))
        return view.pixels, masked, filled

    def parts(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def _restore(self, pixels: Tensor, seen: Tensor) -> Tensor:
        sparse = Sparse(seen)
        restored: Tensor = self.decoder(sparse.encode(self.encoder, pixels), sparse)
        return restored

    def _valid(self, view: View) -> Tensor:
        """Which values of the cells are no padding, (B, L, P)."""
        return patchify(view.valid.expand_as(view.pixels), self.cell)


def cell_size(asked: int | None, strides: Sequence[int], size: int) -> int:
    """The side of a cell: as asked, or the coarsest stride that leaves `LEAST_CELLS` along an axis.

    Raises:
        SettingsError: not a stride, or views that strides do not divide, or that are a single cell.
    """
    if size % strides[-1]:
        below = size // strides[-1] * strides[-1]
        raise SettingsError(
            f"the encoder's total stride of {strides[-1]} does not divide views of {size} pixels",
            where="data.size",
            do=f"Use {f'{below} or ' if below else ''}{below + strides[-1]}",
        )
    if asked is not None and asked not in strides:
        raise SettingsError(
            f"cells of {asked} pixels fit none of the encoder's maps",
            where="setting spark.cell",
            do=f"Use one of its strides: {', '.join(map(str, strides))}",
        )
    cell = asked or max((stride for stride in strides if size // stride >= LEAST_CELLS), default=min(strides))
    if size // cell < 2:
        raise SettingsError(
            f"views of {size} pixels are a single cell of {cell}: nothing is left to hide",
            where="data.size",
            do="Use larger views",
        )
    return cell
