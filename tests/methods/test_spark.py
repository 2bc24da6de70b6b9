import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder, EncoderSpec, Statistics
from medprior.backbones.factory import create_encoder
from medprior.backbones.mapdecoder import MapDecoder, Up
from medprior.backbones.sparse import Sparse, resize_cells
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.errors import SettingsError
from medprior.methods.factory import create_method, presets
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.spark import SparK, cell_size
from medprior.objectives.reconstruction import patchify
from medprior.views.recipe import base_recipe
from medprior.views.view import View
from two_processes import TwoProcesses


class Volumes(Encoder):
    """A small network of volumes, with maps at strides 2, 4 and 8."""

    kind = "cnn"

    def __init__(self, size: int, channels: int = 1) -> None:
        widths = (channels, 8, 16, 24)
        stages = [
            nn.Sequential(nn.Conv3d(a, b, 3, 2, 1), nn.BatchNorm3d(b), nn.ReLU(), nn.Conv3d(b, b, 3, 1, 1), nn.ReLU())
            for a, b in pairwise(widths)
        ]
        statistics = Statistics((0.5,) * channels, (0.25,) * channels)
        super().__init__(
            EncoderSpec("volumes", channels, 3, size), nn.ModuleList(stages), widths[1:], (2, 4, 8), statistics
        )

    def stem(self, x: Tensor) -> Tensor:
        return self.standardise(x)

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        maps = [z]
        for stage in self.network:
            maps.append(stage(maps[-1]))
        return maps[1:]


def make(name: str = "resnet18", size: int = 64, channels: int = 1, **overrides: object) -> SparK:
    torch.manual_seed(0)
    volumes = name == "volumes"
    encoder = Volumes(size, channels) if volumes else create_encoder(name, channels, 2, size, seed=0)
    facts = DataFacts(10, channels, 3 if volumes else 2, size, (0.5,) * channels, (0.25,) * channels)
    method = create_method("spark", encoder, overrides={"decoder_width": 32, **overrides}, facts=facts)
    assert isinstance(method, SparK)
    return method


def view_of(pixels: Tensor, valid: Tensor | None = None) -> View:
    dims = pixels.ndim - 2
    valid = torch.ones_like(pixels[:, :1], dtype=torch.bool) if valid is None else valid
    return View(pixels, valid, torch.eye(dims, dims + 1).expand(len(pixels), -1, -1))


def batch_of(rows: list[int], step: int = 0, seed: int = 0) -> Batch:
    return Batch(torch.tensor(rows), seed, Clock(step, 10))


def random_pixels(count: int, dims: int, size: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, *[size] * dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "size", "asked", "grid", "seen"),
    [
        ("resnet18", 64, {}, (4, 4), 6),
        ("resnet18", 128, {}, (4, 4), 6),
        ("resnet18", 224, {}, (7, 7), 20),
        ("resnet18", 64, {"cell": 8}, (8, 8), 26),
        ("resnet18", 64, {"mask_ratio": 0.99}, (4, 4), 1),
        ("volumes", 16, {}, (4, 4, 4), 26),
        ("volumes", 32, {"mask_ratio": 0.75}, (4, 4, 4), 16),
    ],
)
def test_the_share_of_cells_that_is_seen(name: str, size: int, asked: dict, grid: tuple, seen: int) -> None:  # type: ignore[type-arg]
    method = make(name, size, **asked)
    mask = method.mask(batch_of([5, 6, 7]))
    assert mask.shape == (3, 1, *grid)
    assert mask.flatten(1).sum(1).tolist() == [seen] * 3


def test_each_scan_has_its_own_mask_at_every_step() -> None:
    method = make(cell=8)
    mask = method.mask(batch_of([5, 6, 7]))
    assert not torch.equal(mask[0], mask[1])
    assert torch.equal(method.mask(batch_of([7, 5])), mask[[2, 0]]), "it belongs to the scan, not to its place"
    assert not torch.equal(method.mask(batch_of([5, 6, 7], step=1)), mask)
    assert not torch.equal(method.mask(batch_of([5, 6, 7], seed=1)), mask)
    share = method.mask(batch_of(list(range(4000)))).float().mean(0)
    assert (share - 26 / 64).abs().max() < 5 * (0.4 * 0.6 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("strides", "size", "cell"), [((2, 4, 8, 16, 32), 224, 32), ((4, 8, 16, 32), 96, 16), ((2, 4), 4, 2)]
)
def test_the_cell_leaves_four_along_an_axis_where_it_can(strides: tuple[int, ...], size: int, cell: int) -> None:
    assert cell_size(None, strides, size) == cell


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (None, (2, 4, 8, 16, 32), 100),
            r"stride of 32 does not divide views of 100 pixels \[data.size\]\nUse 96 or 128",
        ),
        ((None, (4, 32), 16), r"does not divide views of 16 pixels \[data.size\]\nUse 32"),
        ((12, (2, 4, 8), 64), r"cells of 12 pixels fit none .*spark.cell\]\nUse one of its strides: 2, 4, 8"),
        ((32, (2, 32), 32), "a single cell of 32"),
    ],
)
def test_impossible_cells_are_refused(arguments: tuple, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(SettingsError, match=said):
        cell_size(*arguments)


def test_strides_that_steps_of_two_do_not_join_are_refused() -> None:
    encoder = Volumes(48)
    encoder.strides = (2, 6, 12)
    with pytest.raises(SettingsError, match="maps at strides 2, 6, 12 are not steps of 2 apart"):
        MapDecoder(encoder, 32, 1)


@pytest.mark.parametrize(
    ("name", "size", "channels"), [("resnet18", 64, 1), ("convnext_atto", 64, 3), ("volumes", 16, 2)]
)
def test_the_loss_is_the_papers(name: str, size: int, channels: int) -> None:
    """Written out: mean over hidden cells of the mean squared error to the standardised cell."""
    method, batch = make(name, size, channels, floor=1e-3).eval(), batch_of([1, 2])
    pixels = random_pixels(2, method.encoder.spatial_dims, size, channels)
    seen = method.mask(batch)
    with torch.no_grad():
        sparse = Sparse(seen)
        predicted = patchify(method.decoder(sparse.encode(method.encoder, pixels), sparse), method.cell)
        cells, errors = patchify(pixels, method.cell), []
        for b, shown in enumerate(seen.flatten(1).tolist()):
            for cell in (i for i, visible in enumerate(shown) if not visible):
                values = cells[b, cell]
                target = (values - values.mean()) / (values.var() + 1e-6).sqrt()
                errors.append((predicted[b, cell] - target).square().mean())
        torch.testing.assert_close(method([view_of(pixels)], batch)["loss"], torch.stack(errors).mean())


def test_the_loss_is_blind_to_what_is_made_of_visible_cells() -> None:
    method, batch = make(), batch_of([3, 4])
    made: list[Tensor] = []
    method.decoder.register_forward_hook(lambda _, __, image: (image.retain_grad(), made.append(image))[1])
    method([view_of(random_pixels(2, 2, 64))], batch)["loss"].backward()
    shown = resize_cells(method.mask(batch), (64, 64))
    assert (made[0].grad[shown] == 0).all() and (made[0].grad[~shown] != 0).all()


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("convnext_atto", 64), ("volumes", 16)])
def test_hidden_pixels_reach_the_decoder_nowhere(name: str, size: int) -> None:
    method, batch = make(name, size).train(), batch_of([3, 8])
    dims = method.encoder.spatial_dims
    pixels = random_pixels(2, dims, size)
    shown = resize_cells(method.mask(batch), pixels.shape[2:])
    changed = torch.where(shown, pixels, 1 - pixels)
    before = copy.deepcopy(method.state_dict())
    original, masked, restored = method.reconstruct([view_of(pixels)], batch)
    _, masked_too, _ = method.reconstruct([view_of(changed)], batch)
    assert torch.equal(original, pixels) and torch.equal(masked, masked_too)
    assert torch.equal(restored[shown], pixels[shown])
    assert (masked[~shown] == 0.5).all() and not torch.allclose(restored[~shown], pixels[~shown])
    assert method.training and all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    one, other = (method._restore(given, method.mask(batch)) for given in (pixels, changed))
    assert torch.equal(one, other)


def test_padding_is_no_target() -> None:
    method, batch = make().train(), batch_of([0, 1])
    pixels, valid = random_pixels(2, 2, 64), torch.ones(2, 1, 64, 64, dtype=torch.bool)
    valid[:, :, :23] = False
    spoilt = ~valid & ~resize_cells(method.mask(batch), (64, 64))  # what is visible must look the same
    one, other = (method([view_of(pixels.masked_fill(spoilt, value), valid)], batch)["loss"] for value in (0.0, 0.9))
    assert spoilt.any()
    torch.testing.assert_close(one, other)
    assert method([view_of(pixels, torch.zeros_like(valid))], batch)["loss"].item() == 0


def test_flat_cells_are_not_blown_up() -> None:
    """Air holds noise of less than the floor: guessing its mean then costs next to nothing, where it would cost 1."""
    losses = []
    for floor in (1e-3, 0.02):
        method = make(floor=floor).eval()
        nn.init.zeros_(method.decoder.head.weight)
        nn.init.zeros_(method.decoder.head.bias)
        losses.append(method([view_of(0.1 + 0.001 * random_pixels(4, 2, 64))], batch_of([0, 1, 2, 3]))["loss"].item())
    assert losses[0] > 0.05 and losses[1] < 0.001


@pytest.mark.parametrize(
    ("name", "size", "width", "widths"),
    [("resnet18", 64, 768, (768, 384, 192, 96, 48, 24)), ("volumes", 16, 32, (32, 16, 8, 8))],
)
def test_the_decoder_is_the_papers(name: str, size: int, width: int, widths: tuple[int, ...]) -> None:
    method = make(name, size, decoder_width=width)
    decoder, encoder = method.decoder, method.encoder
    assert [(up[0].in_channels, up[4].out_channels) for up in decoder.ups] == list(pairwise(widths))
    levels = min(4, len(encoder.strides))
    assert [level.token.shape[1] for level in decoder.levels] == list(encoder.channels[: -levels - 1 : -1])
    kernels = [level.project.kernel_size[0] for level in decoder.levels]
    assert kernels == [1] + [3] * (levels - 1)
    kinds = [type(layer).__name__.rstrip("23d") for layer in Up(encoder.spatial_dims, 8, 4)]
    assert kinds == ["ConvTranspose", "Conv", "BatchNorm", "ReLU6", "Conv", "BatchNorm"]
    with torch.no_grad():
        image = method._restore(random_pixels(2, encoder.spatial_dims, size), method.mask(batch_of([0, 1])))
    assert image.shape[2:] == (size,) * encoder.spatial_dims
    same = MapDecoder(encoder, encoder.channels[-1], 1)
    assert isinstance(same.levels[0].project, nn.Identity) and not isinstance(same.levels[1].project, nn.Identity)


@pytest.mark.parametrize(("name", "norm"), [("resnet18", nn.BatchNorm2d), ("convnext_atto", nn.LayerNorm)])
def test_hidden_cells_are_filled_with_one_token(name: str, norm: type[nn.Module]) -> None:
    method, given = make(name), []
    level = method.decoder.levels[-1]
    level.project.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    seen = method.mask(batch_of([0, 1]))
    with torch.no_grad():
        method._restore(random_pixels(2, 2, 64), seen)
    hidden = ~resize_cells(seen, given[0].shape[2:]).expand_as(given[0])
    assert torch.equal(given[0][hidden], level.token.expand_as(given[0])[hidden])
    values = given[0].movedim(1, -1)[~hidden[:, 0]]
    torch.testing.assert_close(values.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(values.std(), torch.tensor(1.0), rtol=0, atol=0.02)
    assert isinstance(level.norm, norm)
    assert 0 < level.token.std() < 0.04


def test_views_are_crops_of_two_thirds_at_least() -> None:
    plan = make().views(base_recipe("CT", 64))
    (spec,) = plan.specs
    assert spec.recipe.scale == (0.67, 1.0)


def test_a_norm_that_no_map_passes_is_left_alone() -> None:
    still = [name for name, weight in make("convnext_atto").named_parameters() if not weight.requires_grad]
    assert still == ["encoder.network.head.norm.weight", "encoder.network.head.norm.bias"]
    assert all(weight.requires_grad for weight in make("resnet18").parameters())


@pytest.mark.parametrize("name", ["test_resnet", "volumes"])
def test_a_trained_spark_restores_hidden_texture(name: str) -> None:
    """Stripes that run across the whole image can be continued from the visible cells."""
    size, dims = (64, 2) if name == "test_resnet" else (16, 3)
    method = make(name, size, cell=8 if dims == 2 else 4).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        phase = torch.rand(8, 1, *[1] * dims, generator=generator) * 6.28
        wave = (torch.arange(size) * 0.785 + phase).sin().expand(-1, -1, *[size] * dims)
        loss = method([view_of(0.5 + 0.4 * wave)], batch_of(list(range(8)), step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5, "guessing the mean costs 1"


def test_the_encoder_is_an_ordinary_one_afterwards(tmp_path: Path) -> None:
    encoder = create_encoder("resnet18", 1, 2, 64, seed=0)
    method, pixels = make(), random_pixels(4, 2, 64)
    method([view_of(pixels)], batch_of([0, 1, 2, 3]))["loss"].backward()
    torch.optim.SGD([w for w in method.parameters() if w.grad is not None], lr=0.1).step()
    assert list(method.encoder.state_dict()) == list(encoder.state_dict())
    save_encoder(method.encoder, tmp_path)
    loaded, kept = load_encoder(tmp_path).eval(), method.encoder.eval()
    for one, other in zip(loaded(pixels), kept(pixels), strict=True):
        torch.testing.assert_close(one, other)
        assert (one != 0).flatten(1).any(1).all()
    encoder.load_state_dict(kept.state_dict())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_three_steps_are_compiled_once(name: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    method = make(name).train()
    eager, compiled = copy.deepcopy(method), torch.compile(method, backend=count, fullgraph=True)
    view = view_of(random_pixels(4, 2, 64))
    losses = [compiled([view], batch_of([0, 1, 2, 3], step))["loss"] for step in range(3)]
    assert len(graphs) == 1
    assert len({loss.item() for loss in losses}) == 3, "and every step draws masks of its own"
    for step, loss in enumerate(losses):
        torch.testing.assert_close(eager([view], batch_of([0, 1, 2, 3], step))["loss"], loss)
    losses[-1].backward()
    assert all(weight.grad is not None for weight in method.parameters() if weight.requires_grad)


def test_the_paper_preset_is_the_papers() -> None:
    training = presets("spark")["paper"]["training"]
    assert (training["optimizer"], training["lr"], training["lr_per"], training["batch_size"]) == (
        "lamb",
        2e-4,
        256,
        4096,
    )
    assert (training["weight_decay"], training["weight_decay_end"], training["clip"]) == (0.04, 0.2, 5.0)
    assert (training["epochs"], training["warmup"] * training["epochs"], training["min_lr"]) == (1600, 40, 1e-3)


PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_spark import halves, make

me, folder = int(sys.argv[1]), sys.argv[2]
model = DistributedDataParallel(make("volumes", 16).double().eval())
loss = model(*halves()[me])["loss"]
loss.backward()
mean = loss.detach().clone()
dist.all_reduce(mean)
torch.save((mean / 2, [p.grad for p in model.parameters()]), f"{folder}/{me}.pt")
"""


def halves(parts: int = 2) -> list[tuple[list[View], Batch]]:
    """Batches whose halves hold very different numbers of valid pixels."""
    pixels, valid = random_pixels(4, 3, 16).double(), torch.ones(4, 1, 16, 16, 16, dtype=torch.bool)
    valid[2:, :, :11] = False
    rows = torch.arange(4).chunk(parts)
    return [([view_of(pixels[some], valid[some])], batch_of(some.tolist())) for some in rows]


def test_two_processes_train_as_one_with_the_joined_batch(two_processes: TwoProcesses, tmp_path: Path) -> None:
    """Statistics of batch norm are each process's own in training, so the loss is compared where none are taken."""
    two_processes(PROGRAM, tmp_path, __file__)
    alone = make("volumes", 16).double().eval()
    ((views, batch),) = halves(1)
    loss = alone(views, batch)["loss"]
    loss.backward()
    for r in (0, 1):
        mean, gradients = torch.load(tmp_path / f"{r}.pt")
        torch.testing.assert_close(mean, loss.detach(), rtol=1e-10, atol=1e-12)
        for theirs, mine in zip(gradients, alone.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine.grad, rtol=1e-8, atol=1e-11)
