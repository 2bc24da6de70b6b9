"""Every registered method, over encoders and dimensions: it learns, and it can be put away and taken up."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError
from medprior.methods import METHODS
from medprior.methods.factory import create_method, presets
from medprior.methods.method import Batch, Clock, DataFacts, Method, TrainingPreset
from medprior.views.recipe import base_recipe
from medprior.views.view import View

# name, dims, size, channels: every encoder with every method it fits, each dimensionality with each method
ENCODERS = [
    ("resnet18", 2, 64, 1),
    ("convnext_atto", 2, 64, 3),
    ("vit_tiny", 2, 64, 1),
    ("vit_tiny_patch8", 3, 16, 2),
    ("test_resnet", 3, 32, 1),
    ("unet_8", 3, 16, 1),
]


def pairs() -> list[tuple[str, tuple[str, int, int, int]]]:
    cnn = ("resnet", "test_resnet", "convnext", "unet")
    fitting = {"any": (*cnn, "vit"), "cnn": cnn, "vit": ("vit",)}
    return [(m, e) for m in METHODS.names() for e in ENCODERS if e[0].startswith(fitting[METHODS.get(m).needs])]  # type: ignore[attr-defined]


def facts_of(encoder: tuple[str, int, int, int]) -> DataFacts:
    _, dims, size, channels = encoder
    return DataFacts(100, channels, dims, size, (0.5,) * channels, (0.25,) * channels)


def make(name: str, encoder: tuple[str, int, int, int], seed: int = 0) -> Method:
    backbone, dims, size, channels = encoder
    built = create_encoder(backbone, channels, dims, size, seed=seed)
    return create_method(name, built, facts=facts_of(encoder), seed=seed)


def views_for(method: Method, encoder: tuple[str, int, int, int], count: int = 4) -> list[View]:
    _, dims, size, channels = encoder
    generator = torch.Generator().manual_seed(7)
    scans = torch.rand(count, channels, *[4] * dims, generator=generator)
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    smooth = torch.nn.functional.interpolate(scans, size=[size] * dims, mode=mode)
    views = []
    for _ in method.views(base_recipe(None, size, dims)).specs:
        pixels = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
        valid = torch.ones(count, 1, *[size] * dims, dtype=torch.bool)
        valid[0, ..., : size // 4] = False
        views.append(View(pixels * valid, valid, torch.eye(dims, dims + 1).expand(count, -1, -1)))
    return views


def batch_of(count: int = 4, step: int = 0) -> Batch:
    return Batch(torch.arange(count) * 11, seed=3, clock=Clock(step, 10))


def learns_and_comes_back(
    name: str, encoder: tuple[str, int, int, int], folder: Path, lr: float = 0.01
) -> tuple[float, float]:
    """Take a pair through one step, put it away in `folder`, take it up and go on; `benchmarks/cross` asks it of all.

    Returns:
        The loss of the same batch before and after the step.
    """
    method = make(name, encoder).train()
    views, batch = views_for(method, encoder), batch_of()
    optimizer = mover(method, lr)
    before, after = step(method, optimizer, views, batch), loss_of(method, views, batch)
    assert after < before, f"one step must lower the loss of the same batch: {before:.4f} became {after:.4f}"

    torch.save({"method": method.state_dict(), "optimizer": optimizer.state_dict()}, folder / "method.pt")
    other = make(name, encoder, seed=1).train()
    resumed = mover(other, lr)
    saved = torch.load(folder / "method.pt", weights_only=True)
    other.load_state_dict(saved["method"])
    resumed.load_state_dict(saved["optimizer"])
    features = method.eval().embed(views[0].pixels)
    assert features.shape == (len(batch.index), method.encoder.embed_dim)
    torch.testing.assert_close(other.eval().embed(views[0].pixels), features)
    for mine, moved in ((method, optimizer), (other, resumed)):
        step(mine.train(), moved, views, batch_of(step=1))
    for (key, value), loaded in zip(method.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, loaded), f"{key} goes on otherwise after a save"
    assert all(any(part is module for module in method.modules()) for part in method.parts().values())
    copy.deepcopy(method)
    return before.item(), after.item()


def mover(method: Method, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def loss_of(method: Method, views: list[View], batch: Batch) -> torch.Tensor:
    """Some networks drop paths at random: equal ones at equal steps."""
    torch.manual_seed(batch.clock.step)
    return method(views, batch)["loss"]


def step(method: Method, optimizer: torch.optim.Optimizer, views: list[View], batch: Batch) -> torch.Tensor:
    """One update; returns the loss before it."""
    method.before_update(batch.clock)
    loss = loss_of(method, views, batch)
    assert loss.ndim == 0 and torch.isfinite(loss)
    optimizer.zero_grad()
    loss.backward()
    idle = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == [], "distributed training waits for the gradient of every parameter"
    torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
    optimizer.step()
    method.after_update(batch.clock)
    return loss.detach()


@pytest.mark.parametrize(
    ("name", "encoder"), pairs(), ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}d"
)
def test_a_method_learns_and_comes_back(name: str, encoder: tuple[str, int, int, int], tmp_path: Path) -> None:
    learns_and_comes_back(name, encoder, tmp_path, lr=0.003)


@pytest.mark.parametrize("name", METHODS.names())
def test_a_batch_that_is_not_finite_is_not_remembered(name: str) -> None:
    encoder = next(encoder for which, encoder in reversed(pairs()) if which == name)
    method = make(name, encoder).train()
    views = views_for(method, encoder)
    broken = [View(torch.full_like(view.pixels, torch.nan), view.valid, view.affine) for view in views]
    for step, seen in enumerate((views, broken, views)):
        method.before_update(Clock(step, 10))
        assert torch.isfinite(loss_of(method, seen, batch_of(step=step))) == (seen is views)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_preset_is_valid_and_every_method_says_where_it_was_published(name: str) -> None:
    kind: type[Method] = METHODS.get(name)
    found = presets(name)
    assert {"paper", "small"} <= set(found)
    for preset in found.values():
        assert set(preset) == {"config", "training"}
        kind.Config.model_validate(preset["config"])
        TrainingPreset.model_validate(preset["training"])
    assert kind.__doc__ and "arXiv" in kind.paper


def test_wrong_names_and_values_meet_the_right_ones() -> None:
    encoder, facts = create_encoder("resnet18"), facts_of(ENCODERS[0])
    for match, arguments in {
        'unknown method "simclrr"\nNearest: "simclr"': ("simclrr", encoder),
        'unknown preset of simclr "papper"\nNearest: "paper"': ("simclr", encoder, "papper"),
        'unknown setting of simclr: "temprature"\nNearest: "temperature"': (
            "simclr",
            encoder,
            "small",
            {"temprature": 1},
        ),
        r"wrong value -1: .*greater than 0 \[setting simclr.temperature\]": (
            "simclr",
            encoder,
            "small",
            {"temperature": -1},
        ),
        "mae needs a plain vision transformer, and resnet18 is none(.|\n)*vit_tiny": ("mae", encoder),
    }.items():
        with pytest.raises(SettingsError, match=match):
            create_method(*arguments, facts=facts)  # type: ignore[arg-type]


def test_heads_are_drawn_from_the_seed_alone() -> None:
    facts = facts_of(ENCODERS[0])
    heads = [
        create_method("simclr", create_encoder("resnet18", seed=0), facts=facts, seed=s).projector[0].weight
        for s in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_listing_methods_imports_no_torch() -> None:
    program = "import sys; from medprior.methods import METHODS; print(METHODS.names(), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'mae', " in said and "'simclr'" in said and said.strip().endswith("False")


def test_the_clock_runs_from_0_to_1() -> None:
    assert [Clock(step, 4).progress for step in (0, 1, 4)] == [0, 0.25, 1]
