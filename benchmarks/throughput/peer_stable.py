"""stable-pretraining's side, of its own documented parts: Module, forward, loss, transforms, data module, Lightning.

    PEERS/bin/python benchmarks/throughput/peer_stable.py JOB

On a GPU as its README recommends: workers decode and resize, kornia augments whole batches on the device
(`StackedMultiView`), the backbone is compiled, bf16. On a CPU its older way: torchvision in the workers.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version
from typing import Any

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("LOGURU_LEVEL", "ERROR")

import lightning
import stable_pretraining as spt
import timm
import torch
from clock import Clock, job
from peerdata import Files
from stable_pretraining import forward
from stable_pretraining.data import gpu_transforms, transforms
from torch import nn
from torch.utils.data import DataLoader

CALLBACKS = ("progress_bar", "registry", "logging", "env_dump", "trainer_info", "module_summary", "unused_params")
MEAN, STD = [0.5], [0.25]
STORED = 256 / 224  # what its README resizes to before crops of 224


class Epochs(lightning.Callback):
    """Marks the ends of epochs."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_epoch_end(self, *_: Any) -> None:
        self.clock.epoch()


def data(asked: dict[str, Any]) -> DataLoader:
    on_gpu = asked["device"] == "cuda"
    recipe = (
        {"transform": decoded(asked), "gpu_transform": on_device(asked)} if on_gpu else {"transform": on_cpu(asked)}
    )
    images = spt.data.FromTorchDataset(Files(asked["folders"]["images"]), names=["image", "label"], **recipe)
    return DataLoader(
        images,
        batch_size=asked["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=asked["workers"],
        persistent_workers=True,
        pin_memory=on_gpu,
    )


def decoded(asked: dict[str, Any]) -> transforms.Compose:
    """Decode and resize, the rest is done on the device."""
    side = round(asked["size"] * STORED)
    return transforms.Compose(transforms.Resize((side, side)), transforms.ToImage(scale=True))


def on_device(asked: dict[str, Any]) -> nn.Module:
    """medprior's list in its words; it has no gamma."""
    views, size = asked["views"], asked["size"]
    light = {"brightness": views["brightness"], "contrast": views["contrast"], "p": views["intensity_probability"]}
    blur = tuple(size * share for share in views["blur"])
    chain = [
        gpu_transforms.GPURandomResizedCrop(size=size, scale=tuple(views["scale"]), ratio=tuple(views["aspect"])),
        gpu_transforms.GPUColorJitter(**light),
        gpu_transforms.GPUGaussianBlur(kernel_size=23, sigma=blur, p=views["blur_probability"]),
        gpu_transforms.GPUNormalize(mean=MEAN, std=STD),
    ]
    return gpu_transforms.StackedMultiView(gpu_transforms.GPUCompose(chain), n_views=2)


def on_cpu(asked: dict[str, Any]) -> transforms.MultiViewTransform:
    """The same in the workers."""
    views, size = asked["views"], asked["size"]
    light = (views["brightness"], views["contrast"], 1e-6, 1e-6)  # it cannot do without colour
    blur = [size * share for share in views["blur"]]
    view = transforms.Compose(
        transforms.RandomResizedCrop((size, size), scale=tuple(views["scale"]), ratio=tuple(views["aspect"])),
        transforms.ColorJitter(*light, p=views["intensity_probability"]),
        transforms.PILGaussianBlur(sigma=blur, p=views["blur_probability"]),
        transforms.ToImage(mean=MEAN, std=STD),
    )
    return transforms.MultiViewTransform([view, view])


def module(asked: dict[str, Any]) -> spt.Module:
    """SimCLR as its README has it, with medprior's sizes."""
    names = {"vit_small": "vit_small_patch16_224"}
    sized = {"img_size": asked["size"]} if "vit" in asked["backbone"] else {}
    backbone = timm.create_model(names.get(asked["backbone"], asked["backbone"]), in_chans=1, num_classes=0, **sized)
    hidden, width = asked["settings"]["projection"]
    features = backbone.num_features
    if asked["device"] == "cuda":
        backbone.compile()
    return spt.Module(
        backbone=backbone,
        projector=spt.backbone.MLP(features, [hidden, width], norm_layer="batch_norm"),
        forward=forward.simclr,
        simclr_loss=spt.losses.NTXEntLoss(temperature=asked["settings"]["temperature"]),
        optim={
            "optimizer": {
                "type": "AdamW",
                "lr": asked["lr"],
                "weight_decay": asked["weight_decay"],
                "fused": True,
            },
            "scheduler": {"type": "CosineAnnealingLR", "T_max": 1000},
        },
    )


def main() -> None:
    asked = job()
    warnings.simplefilter("ignore")
    torch.set_flush_denormal(True)
    on_gpu = asked["device"] == "cuda"
    spt.set(default_callbacks=dict.fromkeys(CALLBACKS, False))
    clock = Clock(asked["device"])
    batches = data(asked)
    trainer = lightning.Trainer(
        max_epochs=asked["epochs"],
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        precision="bf16-mixed" if on_gpu else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Epochs(clock)],
        default_root_dir=asked["folders"]["place"],
    )
    trainer.fit(module(asked), train_dataloaders=batches)
    clock.mark()
    clock.report(len(batches) * asked["batch"], version=version("stable-pretraining"))


if __name__ == "__main__":
    main()
