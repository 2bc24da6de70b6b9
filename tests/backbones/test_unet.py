"""One decoder on the maps of every encoder."""

import pytest
import torch
from torch.nn import functional as F

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder
from medprior.backbones.unet import UNetDecoder, axis_descent, check_extents
from medprior.errors import SettingsError

# encoder, its size, the shape of the images
CASES = [
    ("unet_4", 32, (32, 48)),
    ("unet_4", 16, (16, 24, 32)),
    ("resenc_4", 16, (16, 20, 24)),
    ("segresnet_8", 16, (16, 24, 16)),
    ("swin_unetr_12", 32, (32, 64)),
    ("resnet18", 32, (32, 64)),
    ("convnext_atto", 32, (32, 64)),
    ("swin_tiny", 64, (64, 64)),
    ("test_resnet", 32, (32, 32, 64)),
    ("vit_tiny_patch8", 16, (16, 24, 8)),
    ("vit_tiny", 32, (32, 48)),
    ("vit_small_patch14_dinov2", 28, (28, 42)),
]


def make(name: str, size: int, dims: int) -> Encoder:
    return create_encoder(name, 2, dims, size, seed=0)


@pytest.mark.parametrize(("name", "size", "extents"), CASES, ids=lambda value: str(value))
def test_what_comes_out_has_the_images_shape_and_every_parameter_learns(
    name: str, size: int, extents: tuple[int, ...]
) -> None:
    encoder = make(name, size, len(extents)).train()
    decoder = UNetDecoder(encoder, 3)
    check_extents(encoder, extents)
    found = decoder(encoder(torch.rand(2, 2, *extents)))
    assert found.shape == (2, 3, *extents) and torch.isfinite(found).all()
    (found * torch.rand(found.shape)).sum().backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert all(p.grad.abs().max() > 0 for n, p in decoder.named_parameters() if n.endswith("weight"))  # type: ignore[union-attr]
    unpooled = [n for n, p in encoder.named_parameters() if p.grad is None and not n.startswith("network.head.norm")]
    assert unpooled == [], "the norm of pooled features has no part in maps"


@pytest.mark.parametrize("name", ["unet_4", "vit_tiny_patch8"])
def test_every_map_has_its_say(name: str) -> None:
    encoder = make(name, 16, 3)
    decoder = UNetDecoder(encoder, 2).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 2, 16, 16, 16))
        whole = decoder(maps)
        for i in range(len(maps)):
            other = [m + torch.rand_like(m) if j == i else m for j, m in enumerate(maps)]
            assert not torch.allclose(decoder(other), whole)


def test_a_step_is_the_papers() -> None:
    """Written out: up, joined, and twice a convolution, instance norm and leaky ReLU."""
    encoder = make("unet_4", 16, 3)
    decoder = UNetDecoder(encoder, 2).double()
    step = decoder.steps[0]
    coarse, fine = (torch.rand(2, c, *[s] * 3, dtype=torch.float64) for c, s in ((64, 2), (32, 4)))
    x = F.conv_transpose3d(coarse, step.up.weight, step.up.bias, stride=2)
    x = torch.cat([x, fine], 1)
    for unit in step.convolutions:
        x = F.conv3d(x, unit.conv.weight, padding=1)
        x = (x - x.mean((2, 3, 4), keepdim=True)) / (x.var((2, 3, 4), correction=0, keepdim=True) + 1e-5).sqrt()
        x = F.leaky_relu(x, 0.01)  # its norm begins with weight 1 and bias 0
    torch.testing.assert_close(step(coarse, [fine]), x)


def test_widths_are_those_of_models_genesis() -> None:
    with torch.device("meta"):
        decoder = UNetDecoder(make("unet", 32, 3), 1)
        narrow = UNetDecoder(make("unet", 32, 3), 1, width=20)
    assert [step.up.out_channels for step in decoder.steps] == [256, 128, 64]
    assert [step.convolutions[0].conv.in_channels for step in decoder.steps] == [512, 256, 128]
    assert [step.up.out_channels for step in narrow.steps] == [80, 40, 20]


@pytest.mark.parametrize(
    ("strides", "ladder"),
    [((1, 2, 4, 8), [8, 4, 2, 1]), ((4, 8, 16, 32), [32, 16, 8, 4, 2, 1]), ((14,), [14, 7, 1]), ((2, 8), [8, 4, 2, 1])],
)
def test_the_way_up_goes_in_the_smallest_steps(strides: tuple[int, ...], ladder: list[int]) -> None:
    assert axis_descent([(stride,) for stride in strides]) == [(stride,) for stride in ladder]


def test_strides_that_do_not_divide_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"from a map at stride 6 to one at stride 4 \[pretrain.backbone\]\nFor"):
        axis_descent([(4,), (6,)])


@pytest.mark.parametrize(
    ("strides", "patch", "name"), [((1, 2, 4, 8), 8, "vit_tiny_patch8"), ((2, 4, 8, 16), 16, "vit_tiny")]
)
def test_a_single_map_becomes_a_pyramid(strides: tuple[int, ...], patch: int, name: str) -> None:
    encoder = make(name, 2 * patch, 2)
    pyramid = UNetDecoder(encoder, 1).pyramid
    assert pyramid is not None and pyramid.strides == strides and pyramid.channels == (24, 48, 96, 192)
    last = torch.rand(1, 192, 2, 3)
    maps = pyramid(last)
    assert maps[-1] is last
    for found, channels, stride in zip(maps, pyramid.channels, strides, strict=True):
        assert found.shape == (1, channels, 2 * patch // stride, 3 * patch // stride)


def test_coarser_outputs_come_first() -> None:
    encoder = make("unet_4", 16, 3)
    decoder = UNetDecoder(encoder, 3, supervise=2)
    maps = encoder(torch.rand(1, 2, 16, 24, 32))
    outputs = decoder.outputs(maps)
    assert [tuple(o.shape[1:]) for o in outputs] == [(3, 4, 6, 8), (3, 8, 12, 16), (3, 16, 24, 32)]
    assert torch.equal(decoder(maps), outputs[-1])
    torch.stack([o.square().mean() for o in outputs]).sum().backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None] == []
    with pytest.raises(SettingsError, match=r"3 coarser outputs of a decoder with 3 resolutions \[supervise\]\nUse 2"):
        UNetDecoder(encoder, 3, supervise=3)


def test_the_image_joins_where_it_is_asked_to() -> None:
    encoder = make("resnet18", 32, 2).eval()
    decoder, blind = (UNetDecoder(encoder, 1, sees_image=sees).eval() for sees in (True, False))
    image, other = torch.rand(2, 1, 2, 32, 32)
    with torch.no_grad():
        maps = encoder(image)
        assert not torch.allclose(decoder(maps, image), decoder(maps, other))
        assert torch.equal(blind(maps, image), blind(maps, other)), "what is hidden from the maps stays hidden"
    with pytest.raises(ValueError, match="sees the image"):
        decoder(maps)


@pytest.mark.parametrize(("name", "extents"), [("unet_4", (20, 16, 16)), ("resenc_4", (16, 16, 17))])
def test_maps_that_do_not_lie_on_each_other_are_refused(name: str, extents: tuple[int, ...]) -> None:
    encoder = make(name, 16, 3)
    said = rf"strides do not divide the image: (.|\n)*{' x '.join(map(str, extents))}(.|\n)*\[data.size\]\nUse sizes"
    with pytest.raises(SettingsError, match=said):
        UNetDecoder(encoder, 1)(encoder(torch.rand(1, 2, *extents)))


def test_sizes_that_strides_do_not_divide_are_told_beforehand() -> None:
    """63 pixels give resnet18 the maps of 64: only the image knows."""
    encoder = make("resnet18", 32, 2)
    maps = encoder(torch.rand(1, 2, 63, 64))
    assert UNetDecoder(encoder, 1)(maps).shape == (1, 1, 64, 64)
    with pytest.raises(SettingsError, match=r"resnet18, 32, does not divide 63 pixels \[data.size\]\nUse 32 or 64"):
        check_extents(encoder, (64, 63))
    with pytest.raises(SettingsError, match=r"cover 63 x 64, 64 x 64 pixels"):
        UNetDecoder(encoder, 1, sees_image=True)(maps, torch.rand(1, 2, 63, 64))
    check_extents(encoder, (32, 96))


def test_encoder_and_decoder_are_one_graph() -> None:
    encoder = make("resenc_4", 16, 3)
    decoder = UNetDecoder(encoder, 1)
    compiled = torch.compile(lambda x: decoder(encoder(x)), fullgraph=True, backend="eager")
    x = torch.rand(1, 2, 16, 16, 16)
    torch.testing.assert_close(compiled(x), decoder(encoder(x)))


def test_it_learns_where_things_are() -> None:
    """Bright discs of unknown place, in noise."""
    encoder = create_encoder("unet_4", 1, 2, 32, seed=0)
    torch.manual_seed(0)
    decoder = UNetDecoder(encoder, 1, width=8)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    generator = torch.Generator().manual_seed(0)

    def discs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        axis = torch.arange(32.0)
        row, column = 6 + 20 * torch.rand(2, count, 1, 1, 1, generator=generator)
        disc = ((axis.view(-1, 1) - row).square() + (axis - column).square() < 25).float()
        noise = 0.15 * torch.randn(disc.shape, generator=generator)
        return (0.3 + 0.3 * disc + noise).clamp(0, 1), disc

    for _ in range(40):
        image, disc = discs(8)
        loss = F.binary_cross_entropy_with_logits(decoder(encoder(image)), disc)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, disc = discs(16)
    found = (decoder.eval()(encoder.eval()(image)) > 0).float()
    assert 2 * (found * disc).sum() / (found.sum() + disc.sum()) > 0.9
