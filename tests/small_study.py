"""What tests of whole studies share: settings of the smallest study that still has every part."""

from __future__ import annotations

from medprior.config import Settings, load_settings

SMALL = (
    "data.size=32", "data.label=[label]", "pretrain.methods=[mae]", "pretrain.backbone=test_vit", "pretrain.steps=2",
    "pretrain.batch_size=8", "pretrain.checkpoint_seconds=0", "mae.decoder_width=32", "mae.decoder_depth=1",
    "adapt.steps=2", "study.seeds=1", "study.folds=2", "study.repeats=1", "study.threads=1", "study.workers=1",
    "study.corruptions=false",
)  # fmt: skip


def small(*more: str) -> Settings:
    """Of one MAE in two folds; `more` is set on top."""
    return load_settings(assignments=[*SMALL, *more], methods=["mae", "simclr"])
