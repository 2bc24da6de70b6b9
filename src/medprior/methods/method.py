"""What a pre-training method is, what it is given, and how its presets look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder

if TYPE_CHECKING:
    from medprior.views.plan import ViewPlan
    from medprior.views.recipe import ViewRecipe
    from medprior.views.view import View

Losses = dict[str, Tensor]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class DataFacts:
    """What a method may know of the data when it builds its heads.

    Attributes:
        count: scans to learn from.
        channels, spatial_dims, size: of every view; `size` is its longest side.
        mean, std: of each channel, in units of [0, 1].
        labels: names of classes or findings, where there are any.
        shape: pixels along each axis of a view, where it is no square or cube.
    """

    count: int
    channels: int
    spatial_dims: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None

    @property
    def extents(self) -> tuple[int, ...]:
        """Pixels along each axis of a view."""
        return self.shape or (self.size,) * self.spatial_dims


@dataclass(frozen=True)
class Clock:
    """Where training stands: `step` of `steps`, both counted in optimiser steps, in pass `epoch` over the data."""

    step: int
    steps: int
    epoch: int = 0

    @property
    def progress(self) -> float:
        """0 at the first step, 1 at the end."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Batch:
    """What is known of the scans of a batch apart from their pixels.

    Attributes:
        index: (B,) catalog rows.
        seed, clock: with `index` the key of every random choice about a sample (`medprior.views.draws`).
        labels: (B,) or (B, K), NaN where unknown.
        patient: (B,) numbers that are equal for scans of one patient.
        step: () int64 beside `index`, the clock's step unless given: what `forward` draws from. A compiled method
            takes a tensor as it comes, and would be compiled anew for every number.
    """

    index: Tensor
    seed: int
    clock: Clock
    labels: Tensor | None = None
    patient: Tensor | None = None
    step: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.step is None:
            # Filled where it lies: copying a number to a GPU would wait for it.
            step = torch.full((), self.clock.step, dtype=torch.int64, device=self.index.device)  # type: ignore[unreachable]
            object.__setattr__(self, "step", step)


class MethodConfig(BaseModel):
    """Settings of one method: unknown names are refused, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TrainingPreset(BaseModel):
    """How a method's weights are moved.

    Attributes:
        lr: base rate. With `lr_per` it is scaled by batch_size / lr_per; without, it is the rate itself.
        min_lr: where the rate ends, as a share of `lr`.
        weight_decay_end: where the weight decay ends, on a half cosine; None keeps it.
        betas: of AdamW and LAMB.
        momentum, nesterov: of SGD and LARS.
        warmup: share of all steps.
        epochs: passes over the data.
        clip: largest norm of the gradient, over all weights together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["adamw", "sgd", "lars", "lamb"] = "adamw"
    lr: float = Field(gt=0)
    lr_per: int | None = Field(None, ge=1)
    min_lr: float = Field(0.0, ge=0, le=1)
    batch_size: int = Field(ge=2)
    weight_decay: float = Field(ge=0)
    weight_decay_end: float | None = Field(None, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    momentum: Share = 0.9
    nesterov: bool = False
    warmup: float = Field(0.1, ge=0, lt=1)
    epochs: int = Field(ge=1)
    clip: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _nesterov_has_a_momentum(self) -> Self:
        if self.nesterov and (self.optimizer not in ("sgd", "lars") or not self.momentum):
            raise ValueError(
                "nesterov is a form of the momentum of sgd and lars: leave it out, or give them a momentum"
            )
        return self


class Method(nn.Module):
    """A published pre-training objective: it owns the encoder, its heads and its teacher, and `forward` is the loss.

    A method knows nothing of devices, processes, files or logging. A new one states `Config`, `views`, `build` and
    `forward`; the rest has a default.

    Attributes:
        needs: which encoders fit: any, convolutional ones, or plain vision transformers.
        paper: where it was published.
        title: what people call it; the name of the class when empty.
        evidence: what speaks for it so far, in a few words; "experimental" where nothing does.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    needs: ClassVar[Literal["any", "cnn", "vit"]] = "any"
    paper: ClassVar[str]
    title: ClassVar[str] = ""
    evidence: ClassVar[str] = "experimental"

    def __init__(self, encoder: Encoder, config: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config

    def views(self, base: ViewRecipe) -> ViewPlan:
        """The views that `forward` wants of every scan, from the recipe that suits the data."""
        raise NotImplementedError

    def build(self, facts: DataFacts) -> None:
        """Make the heads; called once, with the random state seeded."""

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        """The losses of a batch: "loss" is minimised, whatever else is there is reported."""
        raise NotImplementedError

    def embed(self, pixels: Tensor) -> Tensor:
        """One vector per image: pixels (B, C, *S) in [0, 1] to (B, embed_dim)."""
        return self.encoder.pool(self.encoder(pixels))

    def before_update(self, clock: Clock) -> None:
        """Called before the loss of every step."""

    def after_update(self, clock: Clock) -> None:
        """Called after every optimiser step: teachers move here."""

    def parts(self) -> dict[str, nn.Module]:
        """Every module worth keeping beside the encoder, by name."""
        return {}
