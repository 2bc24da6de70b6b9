"""Encoders of segmentation networks: what they promise, and what they are beside MONAI's own modules."""

import ast
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import medprior
from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import check_fit, create_encoder
from medprior.backbones.sparse import Sparse, check_sparse, resize_cells
from medprior.backbones.unitnets import ResidualBlock
from medprior.backbones.weights import load_weights, save_encoder
from medprior.errors import SettingsError

CNNS = ("unet_4", "resenc_4", "segresnet_8")
NAMES = (*CNNS, "swin_unetr_12")


def make(name: str, dims: int, channels: int = 1, size: int = 32) -> Encoder:
    """In evaluation, with norms and biases that are not those of the beginning."""
    encoder = create_encoder(name, channels, dims, size, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part, value in encoder.network.named_parameters():
            if value.ndim == 1:
                low = -0.5 if part.endswith("bias") else 0.5
                value.uniform_(low, low + 1, generator=generator)
    return encoder.eval()


@pytest.mark.parametrize("extents", [(32, 32), (37, 64), (32, 32, 32), (32, 19, 40)])
@pytest.mark.parametrize("name", NAMES)
def test_images_and_volumes_of_any_shape_give_the_promised_maps(name: str, extents: tuple[int, ...]) -> None:
    encoder = make(name, len(extents), 2)
    with torch.inference_mode():
        maps = encoder(torch.rand(1, 2, *extents))
    assert encoder.kind == ("other" if name.startswith("swin") else "cnn")
    for found, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert found.shape == (1, channels, *[-(-extent // stride) for extent in extents])
        assert torch.isfinite(found).all() and found.std() > 0.01
    assert encoder.pool(maps).shape == (1, encoder.embed_dim)


@pytest.mark.parametrize(
    ("name", "dims", "size", "channels", "strides"),
    [
        ("unet", 3, 32, (64, 128, 256, 512), (1, 2, 4, 8)),
        ("resenc", 3, 48, (32, 64, 128, 256), (1, 2, 4, 8)),
        ("resenc_2", 3, 512, (2, 4, 8, 16, 20, 20), (1, 2, 4, 8, 16, 32)),
        ("resenc_2", 2, 512, (2, 4, 8, 16, 32, 32), (1, 2, 4, 8, 16, 32)),
        ("resenc_2", 3, 16, (2, 4, 8), (1, 2, 4)),
        ("segresnet", 3, 32, (32, 64, 128, 256), (1, 2, 4, 8)),
        ("swin_unetr", 3, 32, (48, 96, 192, 384, 768), (2, 4, 8, 16, 32)),
    ],
)
def test_widths_and_strides_are_those_published(
    name: str, dims: int, size: int, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with torch.device("cpu" if name == "swin_unetr" else "meta"):
        network = create_encoder(name, 1, dims, size)
    assert (network.channels, network.strides) == (channels, strides)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_layers_hold_every_parameter_once_and_gradients_reach_all(name: str, dims: int) -> None:
    encoder = make(name, dims, size=64 if dims == 2 else 32).train()
    groups = encoder.layer_groups()
    names = [part for group in groups for part in group]
    assert sorted(names) == sorted(part for part, _ in encoder.named_parameters())
    assert 4 <= len(groups) <= 26 and encoder.layer_groups()[0][0] == names[0]
    first = next(part for part, p in encoder.named_parameters() if p.ndim == dims + 2)
    assert first in groups[0], "the input convolution belongs to the first layer"
    side = 64 if dims == 2 else 32
    pooled = encoder.pool(encoder(torch.rand(2, 1, *[side] * dims)))
    (pooled * torch.rand(pooled.shape)).sum().backward()
    for part, value in encoder.named_parameters():
        assert value.grad is not None, part
        dead = part.endswith("conv.bias") or "relative_position" in part  # a norm follows; a window may be one position
        assert dead or value.grad.abs().max() > 0, part


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_weights_come_back_from_a_folder_and_from_a_file_with_a_prefix(name: str, dims: int, tmp_path: Path) -> None:
    encoder, x = make(name, dims, 2), torch.rand(1, 2, *[32] * dims)
    save_encoder(encoder, tmp_path)
    torch.save({"model": {f"backbone.{k}": v for k, v in encoder.network.state_dict().items()}}, tmp_path / "all.pth")
    for source in (tmp_path, tmp_path / "all.pth"):
        again = create_encoder(name, 2, dims, 32, weights=source, seed=5).eval()
        assert again.loaded is not None and again.loaded.share == 1 and not again.loaded.fitted
        with torch.inference_mode():
            assert all(torch.equal(a, b) for a, b in zip(encoder(x), again(x), strict=True))


@pytest.mark.parametrize("name", CNNS)
def test_weights_of_images_start_volumes(name: str, tmp_path: Path) -> None:
    """Equal slices are seen as one slice was, where the borders are no other than the inside."""
    flat = make(name, 2).double()
    save_encoder(flat, tmp_path)
    deep = create_encoder(name, 1, 3, 32, seed=2).double().eval()
    report = load_weights(deep, tmp_path)
    assert report.share == 1 and report.fitted
    for module in [*flat.modules(), *deep.modules()]:
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.padding_mode = "replicate"
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        for plane, volume in zip(flat(image), deep(image.unsqueeze(2).expand(-1, -1, 16, -1, -1)), strict=True):
            torch.testing.assert_close(volume, plane.unsqueeze(2).expand_as(volume), rtol=1e-9, atol=1e-9)


def test_windows_of_images_are_none_of_volumes(tmp_path: Path) -> None:
    save_encoder(make("swin_unetr_12", 2), tmp_path)
    with pytest.raises(SettingsError, match=r"these weights are not for swin_unetr_12(.|\n)*relative_position"):
        create_encoder("swin_unetr_12", 1, 3, 32, weights=tmp_path)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", CNNS)
def test_a_sparse_network_is_blind_to_hidden_pixels(name: str, dims: int) -> None:
    encoder = make(name, dims).double().train()
    generator = torch.Generator().manual_seed(2)
    extents = (32, 16, 32)[:dims]
    pixels, other = torch.rand(2, 2, 1, *extents, generator=generator, dtype=torch.float64)
    active = torch.rand(2, 1, *(4, 2, 4)[:dims], generator=generator) < 0.5
    active[(slice(None), 0, *[0] * dims)] = True
    seen = resize_cells(active, extents)
    with torch.no_grad():
        maps = Sparse(active).encode(encoder, pixels)
        twins = Sparse(active).encode(encoder, torch.where(seen, pixels, other))
        dense = Sparse(torch.ones_like(active)).encode(encoder, pixels)
        for found, twin, whole, wanted in zip(maps, twins, dense, encoder(pixels), strict=True):
            torch.testing.assert_close(found, twin, rtol=0, atol=0)
            shown = resize_cells(active, found.shape[2:]).expand_as(found)
            assert (found[~shown] == 0).all() and (found[shown] != 0).any()
            torch.testing.assert_close(whole, wanted, rtol=1e-7, atol=1e-8)
    check_sparse(encoder.float(), (4,) * dims)


def test_attention_is_not_blind_and_refused() -> None:
    with pytest.raises(SettingsError, match="no sparse form"):
        check_sparse(create_encoder("swin_unetr_12", 1, 2, 32, seed=0), (4, 4))


@pytest.mark.parametrize("dims", [2, 3])
def test_segresnet_is_monais(dims: int) -> None:
    from monai.networks.nets.segresnet import SegResNet

    ours, theirs = make("segresnet_8", dims, 2), SegResNet(dims, init_filters=8, in_channels=2)
    names = theirs.load_state_dict(ours.network.state_dict(), strict=False)
    assert not names.unexpected_keys and all(n.startswith(("up_", "conv_final")) for n in names.missing_keys)
    x = torch.rand(2, 2, *(32, 16, 24)[:dims])
    with torch.inference_mode():
        compare(ours.body(x), theirs.eval().encode(x)[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_swin_unetr_is_monais(dims: int) -> None:
    from monai.networks.nets.swin_unetr import SwinUNETR

    ours = make("swin_unetr_12", dims, 2)
    theirs = SwinUNETR(2, 3, feature_size=12, spatial_dims=dims, downsample="mergingv2").swinViT
    theirs.load_state_dict(ours.network.state_dict())
    x = torch.rand(1, 2, *(64, 32, 32)[:dims])
    with torch.inference_mode():
        compare(ours.body(x), theirs.eval()(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_genesis_unet_is_that_of_monais_convolutions(dims: int) -> None:
    from monai.networks.blocks.convolutions import Convolution
    from monai.networks.layers.factories import Pool

    ours = make("unet_4", dims, 2)
    x = z = torch.rand(2, 2, *(32, 16, 24)[:dims])
    wanted: list[Tensor] = []
    with torch.inference_mode():
        for level, stage in enumerate(ours.network.stages):
            z = Pool["MAX", dims](2)(z) if level else z
            for unit in stage:
                style = {"act": ("leakyrelu", {"negative_slope": 0.01}), "norm": ("instance", {"affine": True})}
                sides = (unit.conv.in_channels, unit.conv.out_channels)
                theirs = Convolution(dims, *sides, adn_ordering="NA", bias=False, **style)
                theirs.conv.load_state_dict(unit.conv.state_dict())
                theirs.adn.N.load_state_dict(unit.norm.state_dict())
                z = theirs(z)
            wanted.append(z)
        compare(ours.body(x), wanted)


@pytest.mark.parametrize(("dims", "inputs", "outputs"), [(2, 4, 6), (3, 4, 6), (3, 5, 5)])
def test_a_residual_block_is_monais(dims: int, inputs: int, outputs: int) -> None:
    """At stride 1, without biases: those of nnU-Net are the same plus an average in front of the projection."""
    from monai.networks.blocks.dynunet_block import UnetResBlock

    ours = ResidualBlock(dims, inputs, outputs, 1)
    theirs = UnetResBlock(dims, inputs, outputs, 3, 1, ("instance", {"affine": True}))
    pairs = [(ours.conv1, theirs.conv1, theirs.norm1), (ours.conv2, theirs.conv2, theirs.norm2)]
    pairs += [(ours.skip[0], theirs.conv3, theirs.norm3)] if inputs != outputs else []
    with torch.no_grad():
        for unit, convolution, norm in pairs:
            nn.init.uniform_(unit.norm.weight)
            nn.init.uniform_(unit.norm.bias)
            convolution.conv.weight.copy_(unit.conv.weight)
            norm.load_state_dict(unit.norm.state_dict())
        x = torch.rand(2, inputs, *[12] * dims)
        compare([ours(x)], [theirs(x)])


def compare(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_residual_encoder_averages_where_it_halves() -> None:
    """nnU-Net's skip: windows of 2 are averaged, then projected; odd ends are windows of their own."""
    block = ResidualBlock(3, 2, 3, 2)
    x = torch.rand(1, 2, 5, 4, 1)
    with torch.no_grad():
        halved = torch.stack([x[:, :, :2].mean(2), x[:, :, 2:4].mean(2), x[:, :, 4]], 2).unflatten(3, (2, 2)).mean(4)
        torch.testing.assert_close(block.skip[0](x), halved)
        wanted = nn.functional.leaky_relu(block.skip[1](halved), 0.01)
        torch.testing.assert_close(block(x), wanted)  # the last norm's weight begins at 0


@pytest.mark.parametrize(
    ("name", "close"), [("unett", "unet"), ("resenk", "resenc"), ("segresnt", "segresnet"), ("swin_unet", "swin_unetr")]
)
def test_a_wrong_name_meets_the_nearest_right_one(name: str, close: str) -> None:
    with pytest.raises(SettingsError, match=rf'unknown encoder "{name}"(.|\n)*Nearest: "{close}"(.|\n)*unet, resenc'):
        create_encoder(name)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("segresnet_12", 32, "segresnet cannot be 12 channels wide(.|\n)*multiple of 8, such as segresnet_8"),
        ("swin_unetr_40", 32, "multiple of 12, such as swin_unetr_36"),
        ("unet_0", 32, "unet cannot be 0 channels wide"),
        ("unet", 12, r"unet needs images of 16 pixels at least \[data.size\]"),
        ("swin_unetr", 24, "32 pixels at least"),
    ],
)
def test_impossible_widths_and_sizes_are_refused(name: str, size: int, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        create_encoder(name, 1, 3, size)


def test_there_are_no_published_weights() -> None:
    with pytest.raises(SettingsError, match=r"skipped: there are no weights imagenet of unet_4 \[pretrain.weights\]"):
        create_encoder("unet_4", weights="imagenet")


def test_methods_for_convolutions_take_them() -> None:
    check_fit("cnn", "resenc", create_encoder("resenc_2", size=16).kind, "spark")
    with pytest.raises(SettingsError, match="unet, resenc, segresnet"):
        check_fit("cnn", "swin_unetr", "other", "spark")


def test_monai_is_imported_where_it_is_used_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds: no module of medprior may import it for itself."""
    files = list(Path(medprior.__file__).parent.rglob("*.py"))
    trees = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    named = {node.module for node in trees if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in trees if isinstance(node, ast.Import) for alias in node.names}
    assert "timm" in named and not [name for name in named if name and name.startswith("monai")]
    monkeypatch.setitem(sys.modules, "monai.networks.nets.swin_unetr", None)
    with pytest.raises(SettingsError, match=r"MONAI's, which is not installed(.|\n)*pip install monai"):
        create_encoder("swin_unetr")
