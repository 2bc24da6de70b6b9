"""What a sparse network must hold to, family by family, in float64."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.backbones.encoder import Encoder, EncoderSpec, Statistics
from medprior.backbones.factory import create_encoder
from medprior.backbones.sparse import Sparse, check_sparse, resize_cells
from medprior.backbones.sparsenorm import norm_seen
from medprior.errors import SettingsError

# Batch, layer and group norm; plain, separable and unevenly padded convolutions; max, average and blurred pooling;
# gates. Those called test_ are timm's own: the family's blocks, a few channels.
FAMILIES = (
    "resnet18",
    "resnetblur18",
    "test_resnet",
    "test_byobnet",
    "test_nfnet",
    "convnext_atto",
    "convnextv2_atto",
    "test_convnext",
    "test_mambaout",
    "efficientnet_b0",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "tf_mobilenetv3_small_minimal_100",
    "mobilenetv3_small_050",
    "regnety_002",
    "densenet121",
)
HANDMADE = "handmade3d"


class Handmade(Encoder):
    """A network of volumes with every operation that has a form in 3D."""

    kind = "cnn"

    def __init__(self, size: int = 16) -> None:
        first = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(3, 2, 1))
        second = nn.Sequential(nn.Conv3d(6, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.AvgPool3d(2), Gate(8))
        third = nn.Sequential(nn.Conv3d(8, 12, 2, 2), nn.InstanceNorm3d(12, affine=True), nn.GELU(), Linear(12, 10))
        network = nn.ModuleList([first, second, third])
        super().__init__(EncoderSpec(HANDMADE, 1, 3, size), network, (6, 8, 10), (2, 4, 8), Statistics((0.4,), (0.2,)))

    def stem(self, x: Tensor) -> Tensor:
        return self.standardise(x)

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        maps = [z]
        for stage in self.network:
            maps.append(stage(maps[-1]))
        return maps[1:]


class Gate(nn.Module):
    """Squeeze and excitation, by mean and maximum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean, self.most = nn.Conv3d(channels, channels, 1), nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mean(F.adaptive_avg_pool3d(x, 1)) + self.most(x.amax((2, 3, 4), keepdim=True))
        return x * gate.sigmoid()


class Linear(nn.Linear):
    """Over the channels of a map."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def make(name: str) -> Encoder:
    torch.manual_seed(0)
    encoder = Handmade() if name == HANDMADE else create_encoder(name, 1, 2, 64, seed=0)
    generator = torch.Generator().manual_seed(1)
    for weight in encoder.parameters():  # biases that start at 0 would hide what leaks
        if weight.ndim == 1:
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return encoder.double().train()


def scene(encoder: Encoder, cells: int, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    dims, size = encoder.spatial_dims, encoder.spec["size"]
    pixels = torch.rand(count, 1, *[size] * dims, generator=generator, dtype=torch.float64)
    active = torch.rand(count, 1, *[cells] * dims, generator=generator) < 0.4
    active[(slice(None), 0, *[0] * dims)] = True
    return pixels, active


@pytest.mark.parametrize("cells", [2, 4])
@pytest.mark.parametrize("name", [*FAMILIES, HANDMADE])
def test_hidden_pixels_reach_nothing_and_hidden_cells_hold_nothing(name: str, cells: int) -> None:
    encoder = make(name)
    pixels, active = scene(encoder, cells)
    other = torch.where(resize_cells(active, pixels.shape[2:]), pixels, 1 - pixels)
    assert not torch.equal(other, pixels)
    twin = copy.deepcopy(encoder)
    with torch.no_grad():
        for first, second in zip(
            Sparse(active).encode(encoder, pixels), Sparse(active).encode(twin, other), strict=True
        ):
            torch.testing.assert_close(first, second, rtol=0, atol=0)
            seen = resize_cells(active, first.shape[2:]).expand_as(first)
            assert (first[~seen] == 0).all() and (first[seen] != 0).any()
    for before, after in zip(encoder.buffers(), twin.buffers(), strict=True):
        assert torch.equal(before, after), "nor do hidden pixels move running statistics"


@pytest.mark.parametrize("name", [*FAMILIES, HANDMADE])
def test_every_layer_gives_0_in_hidden_cells(name: str) -> None:
    encoder, looked = make(name), 0
    pixels, active = scene(encoder, 4)

    def look(layer: nn.Module, _: object, made: Tensor) -> None:
        nonlocal looked
        last = type(layer) in (nn.Linear, nn.LayerNorm) or type(layer).__name__ == "LayerNorm"
        made = made.movedim(-1, 1) if last else made
        if made.ndim == pixels.ndim and made.shape[2:].numel() > 1:
            seen = resize_cells(active, made.shape[2:]).expand_as(made)
            assert (made[~seen] == 0).all(), layer
            looked += 1

    kinds = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Linear)
    for layer in encoder.modules():
        if isinstance(layer, kinds) or "Pool" in type(layer).__name__:
            layer.register_forward_hook(look)
    with torch.no_grad():
        Sparse(active).encode(encoder, pixels)
    assert looked > 5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*FAMILIES, HANDMADE])
def test_with_nothing_hidden_it_is_the_dense_network(name: str, training: bool) -> None:
    encoder = make(name)
    pixels, active = scene(encoder, 4)
    with torch.no_grad():
        encoder(pixels)  # running statistics that differ from their start
    encoder.train(training)
    twin = copy.deepcopy(encoder)
    dense, sparse = encoder(pixels), Sparse(torch.ones_like(active)).encode(twin, pixels)
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)
    torch.stack([one.square().mean() for one in dense]).sum().backward()
    torch.stack([one.square().mean() for one in sparse]).sum().backward()
    for (label, one), other in zip(encoder.named_parameters(), twin.parameters(), strict=True):
        if one.grad is not None:
            wanted = one.grad.abs().max().item()
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-7 * max(1, wanted), msg=label)
    for one, other in zip(encoder.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def gathered(map: Tensor, active: Tensor) -> Tensor:
    """(N, C) of the seen positions."""
    return map.movedim(1, -1)[resize_cells(active, map.shape[2:])[:, 0]]


def maps_of(dims: int, channels: int = 6, extent: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    active = torch.rand(3, 1, *[4] * dims, generator=generator) < 0.4
    active[(slice(None), 0, *[1] * dims)] = True
    values = torch.randn(3, channels, *[extent] * dims, generator=generator, dtype=torch.float64) * 2 + 1
    return (values * resize_cells(active, values.shape[2:])).requires_grad_(), active


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dims", [2, 3])
def test_batch_norm_is_that_of_the_seen_values_alone(dims: int, momentum: float | None) -> None:
    map, active = maps_of(dims)
    sparse = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](6, momentum=momentum).double()
    plain = nn.BatchNorm1d(6, momentum=momentum).double()
    for norm in (sparse, plain):
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(4))
        nn.init.uniform_(norm.bias, generator=torch.Generator().manual_seed(5))
    weights = torch.randn(len(gathered(map, active)), 6, dtype=torch.float64)
    gradients = []
    for _ in range(2):
        with Sparse(active):
            found = sparse(map)
        wanted = plain(gathered(map, active))
        torch.testing.assert_close(gathered(found, active), wanted)
        assert (found[~resize_cells(active, found.shape[2:]).expand_as(found)] == 0).all()
        for norm, values in ((sparse, gathered(found, active)), (plain, wanted)):
            given = ((values**3 * weights).sum(), (map, norm.weight, norm.bias))
            gradients.append(torch.autograd.grad(*given))
    for one, other in zip(*gradients[-2:], strict=True):
        torch.testing.assert_close(
            gathered(one, active) if one.ndim > 1 else one, gathered(other, active) if one.ndim > 1 else other
        )
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(sparse, name), getattr(plain, name))
    with Sparse(active):
        torch.testing.assert_close(gathered(sparse.eval()(map), active), plain.eval()(gathered(map, active)))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["group", "instance", "tracking", "layer"])
def test_norms_within_an_image_are_those_of_its_seen_values(dims: int, kind: str) -> None:
    map, active = maps_of(dims)
    weight, bias = torch.randn(2, 6, dtype=torch.float64)
    means, variances = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    norms: dict[str, Callable[[Tensor], Tensor]] = {
        "group": lambda x: F.group_norm(x, 3, weight, bias),
        "instance": lambda x: F.instance_norm(x, None, None, weight, bias),
        "tracking": lambda x: F.instance_norm(x, means, variances, weight, bias, momentum=0.2),
        "layer": lambda x: F.layer_norm(x.movedim(1, -1), (6,), weight, bias).movedim(-1, 1),
    }
    with Sparse(active):
        found = norms[kind](map)
    remembered = means.clone(), variances.clone()
    alone = [gathered(map[i : i + 1], active[i : i + 1]).T.unsqueeze(0) for i in range(3)]
    each = [F.instance_norm(x, None, None, weight, bias) if kind == "tracking" else norms[kind](x) for x in alone]
    for i, wanted in enumerate(each):
        torch.testing.assert_close(gathered(found[i : i + 1], active[i : i + 1]), wanted[0].T)
    if kind == "tracking":
        torch.testing.assert_close(remembered[0], 0.2 * torch.stack([x.mean(-1)[0] for x in alone]).mean(0))
        spread = torch.stack([x.var(-1)[0] for x in alone]).mean(0)
        torch.testing.assert_close(remembered[1], 0.8 + 0.2 * spread)
    hidden = ~resize_cells(active, found.shape[2:]).expand_as(found)
    assert (found[hidden] == 0).all()
    (gradient,) = torch.autograd.grad(found.square().sum(), map)
    (wanted,) = torch.autograd.grad(torch.stack([x.square().sum() for x in each]).sum(), map)
    torch.testing.assert_close(gradient[~hidden], wanted[~hidden])


@pytest.mark.parametrize("over", [(0, 3), (3,), (2, 3)])
def test_the_gradient_of_the_norms_is_the_differences_quotient(over: tuple[int, ...]) -> None:
    map, active = maps_of(2, channels=4, extent=4)
    weight, bias = torch.randn(2, 4, dtype=torch.float64).requires_grad_().unbind()
    seen = resize_cells(active, map.shape[2:])

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return norm_seen(x * seen, seen, 2 if over == (2, 3) else 4, weight, bias, over, 1e-5)[0]

    assert torch.autograd.gradcheck(norm, (map, weight, bias))


@pytest.mark.parametrize("kind", ["bfloat16", "channels_last"])
def test_norms_of_other_types_and_layouts(kind: str) -> None:
    map, active = maps_of(2)
    seen = resize_cells(active, map.shape[2:])
    wanted = norm_seen(map, seen, 6, None, None, (0, 3), 1e-5)[0]
    given = map.bfloat16() if kind == "bfloat16" else map.contiguous(memory_format=torch.channels_last)
    found, mean, *_ = norm_seen(given, seen, 6, None, None, (0, 3), 1e-5)
    assert found.dtype == given.dtype and found.stride() == given.stride()
    assert mean.dtype == (torch.float32 if kind == "bfloat16" else torch.float64), "statistics keep their precision"
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0.02)


def test_positions_are_averaged_over_seen_cells() -> None:
    map, active = maps_of(2)
    map = -1 - map.abs()  # so that the greatest value is not the 0 of hidden cells
    map = map * resize_cells(active, map.shape[2:])
    pooled = [gathered(map[i : i + 1], active[i : i + 1]) for i in range(3)]
    mean, most = (torch.stack([fold(x) for x in pooled]) for fold in (lambda x: x.mean(0), lambda x: x.amax(0)))
    with Sparse(active):
        found = (map.mean((2, 3)), map.mean((-1, -2), keepdim=True).flatten(1), map.mean(dim=[2, 3]))
        found += (torch.mean(map, (2, 3), True).flatten(1), F.adaptive_avg_pool2d(map, 1).flatten(1))
        greatest = (map.amax((2, 3)), torch.amax(map, (2, 3)))
        untouched = (map.mean(1), map.mean(), F.adaptive_avg_pool2d(map, 2), map.mean((0, 2, 3)))
    for one in found:
        torch.testing.assert_close(one, mean)
    for one in greatest:
        torch.testing.assert_close(one, most)
    dense = (map.mean(1), map.mean(), F.adaptive_avg_pool2d(map, 2), map.mean((0, 2, 3)))
    for one, other in zip(untouched, dense, strict=True):
        torch.testing.assert_close(one, other)


def test_cells_are_repeated_and_joined() -> None:
    cells = torch.tensor([[True, False, False, False], [False, False, False, True]]).view(1, 1, 2, 4)
    assert resize_cells(cells, (4, 8)).int().tolist() == [
        [[[1, 1, 0, 0, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 0, 0, 1, 1]] * 2]
    ]
    assert resize_cells(cells, (1, 2)).int().tolist() == [[[[1, 1]]]]
    assert resize_cells(cells, (2, 2)).int().tolist() == [[[[1, 0], [0, 1]]]]
    with pytest.raises(SettingsError, match="a map of 7 positions does not lie on 4 cells"):
        resize_cells(cells, (4, 7))


def test_the_network_is_the_dense_one_afterwards_and_for_others() -> None:
    encoder = make("resnet18").eval()
    pixels, active = scene(encoder, 4)
    dense, names = encoder(pixels), list(encoder.state_dict())
    methods = [vars(module).get("forward") for module in encoder.modules()]
    elsewhere: list[list[Tensor]] = []
    with pytest.raises(ZeroDivisionError), Sparse(active):
        assert list(encoder.state_dict()) == names
        assert (encoder(pixels)[0] == 0).any()
        thread = threading.Thread(target=lambda: elsewhere.append(encoder(pixels)))
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert list(encoder.state_dict()) == names
    assert [vars(module).get("forward") for module in encoder.modules()] == methods
    for one, other, third in zip(dense, encoder(pixels), elsewhere[0], strict=True):
        assert torch.equal(one, other) and torch.equal(one, third)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("botnet26t_256", "botnet26t_256 mixes hidden positions into seen ones(.|\n)*resnet18"),
        ("edgenext_xx_small", "no sparse form"),
        ("test_efficientnet_evos", "no sparse form"),
        ("inception_v3", "a map of 31 positions does not lie on 4 cells"),
    ],
)
def test_what_cannot_work_is_refused(name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_sparse(create_encoder(name, 1, 2, 64, seed=0), (4, 4))


class Leaking(Handmade):
    """Adds a number after the fact: hidden cells are then no longer 0 for their neighbours."""

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        return [self.network[1][0](self.network[0](z) + 0.1)]


class Attending(Handmade):
    """Weighs all positions against each other."""

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        (first, *_) = super().body(z)
        return [first * first.flatten(2).softmax(-1).view(first.shape)]


@pytest.mark.parametrize("kind", [Leaking, Attending])
def test_what_leaks_between_layers_is_refused(kind: type[Handmade]) -> None:
    with pytest.raises(SettingsError, match="no sparse form"):
        check_sparse(kind(), (4, 4, 4))


def test_the_trial_changes_nothing() -> None:
    encoder = create_encoder("resnet18", 1, 2, 64, seed=0).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    maps = check_sparse(encoder, (4, 4))
    assert torch.equal(torch.rand(1), drawn)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
