"""lightly's side, of its own documented parts: data set, transforms, heads, losses and the modules of MAE.

    python benchmarks/throughput/peer_lightly.py JOB

The loop is what its examples show, with what a careful user adds: workers that stay, pinned memory, fused AdamW,
channels last for convolutions, and on a GPU bf16 and torch.compile. Images are grey and stay grey: no colour is
jittered. With "store" among the folders, images are rows of medprior's store and nothing is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import timm
import torch
from clock import Clock, job
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models import utils
from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.transforms import MAETransform, SimCLRTransform
from peerdata import Files, Rows
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

NORMALIZE = {"mean": [0.5], "std": [0.25]}


class SimCLR(nn.Module):
    """As in lightly's example of SimCLR."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = network(asked)
        hidden, width = asked["settings"]["projection"]
        self.head = SimCLRProjectionHead(self.backbone.num_features, hidden, width)
        self.criterion = NTXentLoss(temperature=asked["settings"]["temperature"])

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views)
        return self.criterion(first, second)


class MAE(nn.Module):
    """As in lightly's example of MAE, with the patches of the target standardised, as published."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        vit, settings = network(asked), asked["settings"]
        self.ratio, self.patch = settings["mask_ratio"], vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.length = self.backbone.sequence_length
        self.decoder = MAEDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            patch_size=self.patch,
            in_chans=1,
            embed_dim=vit.embed_dim,
            decoder_embed_dim=settings["decoder_width"],
            decoder_depth=settings["decoder_depth"],
            decoder_num_heads=settings["decoder_heads"],
            mlp_ratio=4.0,
            proj_drop_rate=0.0,
            attn_drop_rate=0.0,
        )
        self.criterion = nn.MSELoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        size = (len(images), self.length)
        keep, hidden = utils.random_token_mask(size=size, mask_ratio=self.ratio, device=images.device)
        encoded = self.decoder.embed(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), hidden))
        patches = utils.patchify(images, self.patch)
        target = utils.get_at_index(patches, hidden - 1)  # without the class token
        return self.criterion(predicted, utils.normalize_mean_var(target))


def network(asked: dict[str, Any]) -> nn.Module:
    """timm's model, as medprior calls it."""
    known = {kind: f"vit_{kind}_patch16_224" for kind in ("tiny", "small", "base")}
    sized = {"img_size": asked["size"]} if "vit" in asked["backbone"] else {}
    name = known.get(asked["backbone"].removeprefix("vit_"), asked["backbone"])
    return timm.create_model(name, in_chans=1, num_classes=0, **sized)


def transform(asked: dict[str, Any]) -> Callable[[Image.Image], list[Tensor]]:
    """medprior's list in lightly's words. It has no gamma; medprior has, and pays for it."""
    views, size = asked["views"], asked["size"]
    if asked["method"] == "mae":
        made = MAETransform(input_size=size, min_scale=views["scale"][0], normalize=NORMALIZE)
        made.transform.transforms = [t for t in made.transform.transforms if "Flip" not in type(t).__name__]
        return made
    return SimCLRTransform(
        input_size=size,
        cj_prob=views["intensity_probability"],
        cj_bright=views["brightness"],
        cj_contrast=views["contrast"],
        cj_sat=0.0,
        cj_hue=0.0,
        min_scale=views["scale"][0],
        random_gray_scale=0.0,
        gaussian_blur=views["blur_probability"],
        sigmas=tuple(size * share for share in views["blur"]),
        hf_prob=0.0,
        normalize=NORMALIZE,
    )


def loader(asked: dict[str, Any]) -> DataLoader:
    """Workers on all cores, as documented."""
    folders = asked["folders"]
    images = Rows(folders["store"]) if "store" in folders else Files(folders["images"])
    return DataLoader(
        LightlyDataset.from_torch_dataset(images, transform=transform(asked)),
        batch_size=asked["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=asked["workers"],
        persistent_workers=True,
        pin_memory=asked["device"] == "cuda",
    )


def main() -> None:
    asked = job()
    warnings.simplefilter("ignore")
    torch.set_flush_denormal(True)
    device = torch.device(asked["device"])
    clock = Clock(device.type)
    convolves = "vit" not in asked["backbone"]
    memory_format = torch.channels_last if convolves else torch.contiguous_format
    model = {"simclr": SimCLR, "mae": MAE}[asked["method"]](asked).to(device, memory_format=memory_format)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=asked["lr"], weight_decay=asked["weight_decay"], fused=True)
    loss_of = torch.compile(model) if device.type == "cuda" else model
    batches = loader(asked)
    for _ in range(asked["epochs"]):
        for views, *_ in batches:
            on_device = [view.to(device, non_blocking=True, memory_format=memory_format) for view in views]
            with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext():
                loss = loss_of(on_device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        clock.epoch()
    clock.report(len(batches) * asked["batch"], version=version("lightly"))


if __name__ == "__main__":
    main()
