"""Networks of volumes made from networks of images, and what is left of the images in them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import FITTING, create_encoder
from medprior.backbones.inflate import deepen, first_without_twin, inflate_kernel
from medprior.backbones.vit import VisionTransformer
from medprior.backbones.volumes import is_known
from medprior.backbones.weights import load_weights, save_encoder
from medprior.errors import SettingsError

FAMILIES = ["test_resnet", "resnet10t", "seresnet50", "convnext_atto", "test_convnext2", "test_efficientnet"]


def random_encoder(name: str, dims: int, channels: int = 1) -> Encoder:
    """In float64 and evaluation, with norms and scales that are not those of the beginning."""
    encoder = create_encoder(name, channels, dims, 32, mean=[0.4] * channels, std=[0.3] * channels, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part, value in [*encoder.network.named_parameters(), *encoder.network.named_buffers()]:
            if value.ndim == 1 and value.is_floating_point():
                low = -0.5 if part.endswith(("bias", "mean")) else 0.5
                value.uniform_(low, low + 1, generator=generator)
    return encoder.eval()


def without_borders(encoder: Encoder) -> Encoder:
    """Images go on beyond their edges as they end there, so that equal slices stay equal at every depth."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.padding_mode = "replicate"
    return encoder


def inflated(flat: Encoder, folder: Path, channels: int = 1) -> Encoder:
    save_encoder(flat, folder)
    deep = create_encoder(flat.spec["name"], channels, 3, 32, seed=2).double()
    report = load_weights(deep, folder)
    assert report.share == 1 and report.fitted
    return deep.eval()


def stacked(images: Tensor, depth: int) -> Tensor:
    return images.unsqueeze(2).expand(-1, -1, depth, -1, -1)


@pytest.mark.parametrize("extents", [(32, 32, 32), (48, 32, 32)])
@pytest.mark.parametrize("name", [*FAMILIES, "resnet18", "tf_efficientnet_b0"])
def test_volumes_of_any_shape_give_the_promised_maps(name: str, extents: Sequence[int]) -> None:
    flat, encoder = create_encoder(name, 2).eval(), create_encoder(name, 2, 3, 32, seed=0).eval()
    assert encoder.kind == "cnn" and encoder.mean.shape == (1, 2, 1, 1, 1)
    assert (encoder.channels, encoder.strides) == (flat.channels, flat.strides)
    with torch.inference_mode():
        maps, slices = encoder(torch.rand(1, 2, *extents)), flat(torch.rand(1, 2, *extents[:2]))
        assert encoder.pool(maps).shape == (1, encoder.embed_dim)
    for found, image, channels, stride in zip(maps, slices, encoder.channels, encoder.strides, strict=True):
        assert found.shape == (1, channels, *image.shape[2:], 32 // stride)


@pytest.mark.parametrize("name", ["test_resnet", "resnet10t", "resnet18", "test_efficientnet"])
def test_volumes_may_be_thinner_than_the_coarsest_stride(name: str) -> None:
    encoder = create_encoder(name, 1, 3, 32, seed=0).eval()
    with torch.inference_mode():
        assert encoder(torch.rand(1, 1, 6, 32, 48))[-1].shape[2:] == (1, 1, 2)


@pytest.mark.parametrize("name", [*FAMILIES, "densenet121", "efficientnet_b0"])
def test_layers_have_the_names_they_have_in_2d(name: str) -> None:
    flat, deep = create_encoder(name), create_encoder(name, spatial_dims=3, size=32)
    assert flat.layer_groups() == deep.layer_groups()
    assert list(flat.state_dict()) == list(deep.state_dict())


@pytest.mark.parametrize("name", [*FAMILIES, "densenet121"])
def test_equal_slices_are_seen_as_one_slice_was(name: str, tmp_path: Path) -> None:
    flat = random_encoder(name, 2)
    deep = without_borders(inflated(flat, tmp_path))
    images = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected, found = without_borders(flat)(images), deep(stacked(images, 32))
        for image, volume in zip(expected, found, strict=True):
            torch.testing.assert_close(volume, stacked(image, volume.shape[2]), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(deep.pool(found), flat.pool(expected), rtol=1e-9, atol=1e-9)


def test_the_interior_of_a_volume_does_not_see_its_borders(tmp_path: Path) -> None:
    flat = random_encoder("test_resnet", 2)
    deep = inflated(flat, tmp_path)
    images = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected, found = flat(images), deep(stacked(images, 96))
    for image, volume in list(zip(expected, found, strict=True))[:3]:
        middle = volume.shape[2] // 2
        torch.testing.assert_close(volume[:, :, middle], image, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(volume[:, :, 0], image, rtol=1e-3), "above the first slice there is padding"


def test_colour_weights_of_images_start_grey_volumes(tmp_path: Path) -> None:
    flat = random_encoder("test_resnet", 2, channels=3)
    deep = without_borders(inflated(flat, tmp_path))
    deep.mean.fill_(flat.mean[0, 0, 0, 0])
    deep.std.fill_(flat.std[0, 0, 0, 0])
    images = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = without_borders(flat)(images.expand(-1, 3, -1, -1))[-1]
        torch.testing.assert_close(deep(stacked(images, 32))[-1], stacked(expected, 1), rtol=1e-9, atol=1e-9)


def test_statistics_of_images_are_those_of_volumes(tmp_path: Path) -> None:
    save_encoder(create_encoder("test_resnet", 2, mean=[0.1, 0.2], std=[0.3, 0.4]), tmp_path)
    deep = create_encoder("test_resnet", 2, 3, 32, weights=tmp_path)
    assert deep.mean.flatten().tolist() == pytest.approx([0.1, 0.2])
    assert deep.std.flatten().tolist() == pytest.approx([0.3, 0.4])


LAYERS = {
    "convolution": nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="replicate"),
    "uneven": nn.Conv2d(4, 4, (3, 5), padding=(1, 2), dilation=1, bias=False, padding_mode="replicate"),
    "same": nn.Conv2d(4, 4, 3, padding="same", padding_mode="replicate"),
    "one voxel": nn.Conv2d(4, 2, 1, stride=2),
    "batch norm": BatchNormAct2d(4),
    "layer norm": LayerNorm2d(4),
    "maximum": nn.MaxPool2d(3, 2, 1),
    "average": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average of what there is": nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "squeeze and excitation": SEModule(4, rd_channels=2),
    "with a maximum": SEModule(4, rd_channels=2, add_maxpool=True),
    "mobile squeeze and excitation": SqueezeExcite(4),
    "blocks of 1x1 convolutions": ConvNeXtBlock(4, kernel_size=3, conv_mlp=True, ls_init_value=0.5),
    "blocks of linear layers": ConvNeXtBlock(4, kernel_size=3, ls_init_value=0.5),
    "blocks without scale": ConvNeXtBlock(4, kernel_size=3, ls_init_value=None, use_grn=True),
    "wider blocks": ConvNeXtBlock(4, 8, kernel_size=3, stride=2, ls_init_value=0.5),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_twin_does_to_equal_slices_what_the_layer_does_to_one(layer: nn.Module) -> None:
    layer = layer.double().eval()
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "replicate"
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    before = {name: value.detach().clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        expected = layer(x)
        assert first_without_twin(layer) is None
        twin = deepen(layer).double().eval()
        shapes = {name: value.shape for name, value in twin.state_dict().items()}
        flat = {k: inflate_kernel(v, shapes[k][2]) if v.ndim == 4 else v for k, v in before.items()}
        twin.load_state_dict(flat)
        found = twin(stacked(x, 6))
    torch.testing.assert_close(found, stacked(expected, found.shape[2]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels_last", [True, False])
def test_global_responses_are_those_of_the_whole_volume(channels_last: bool) -> None:
    norm = GlobalResponseNorm(4, channels_last=channels_last)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = torch.randn(2, 4, 5, 6, 7)
    energy = x.square().sum((2, 3, 4), keepdim=True).sqrt()
    share = energy / (energy.mean(1, keepdim=True) + 1e-6)
    weight, bias = (value.reshape(-1, 1, 1, 1) for value in (norm.weight, norm.bias))
    twin = deepen(norm)
    found = twin(x.movedim(1, -1)).movedim(-1, 1) if channels_last else twin(x)
    torch.testing.assert_close(found, x + weight * x * share + bias)


@pytest.mark.parametrize(("length", "stride", "kernel"), [(7, 2, 3), (8, 2, 3), (8, 2, 5), (9, 1, 3), (5, 3, 2)])
def test_tensorflows_padding_is_its_own_along_each_axis(length: int, stride: int, kernel: int) -> None:
    flat = Conv2dSame(1, 1, kernel, stride=stride, bias=False)
    image = torch.randn(1, 1, length, length + 1)
    with torch.no_grad():
        expected, plane = flat(image), flat.weight.detach().clone()
        twin = deepen(flat)
        weight = twin.get_parameter("weight")
        for axis in (2, 3, 4):  # each in turn is the one along which the volume is constant
            weight.zero_().select(axis, kernel // 2).copy_(plane)
            found = twin(torch.stack([image] * (length + 2), dim=axis))
            assert found.shape[axis] == -(-(length + 2) // stride)
            torch.testing.assert_close(found.select(axis, found.shape[axis] // 2), expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_kernels_keep_their_sum_or_their_plane(depth: int) -> None:
    flat = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    average, centre = inflate_kernel(flat, depth), inflate_kernel(flat, depth, "centre")
    assert average.shape == centre.shape == (3, 2, depth, 5, 4)
    for deep in (average, centre):
        torch.testing.assert_close(deep.sum(2), flat)
    assert all(torch.equal(average[:, :, 0], plane) for plane in average.unbind(2))
    assert torch.equal(centre[:, :, depth // 2], flat) and int((centre != 0).any(-1).any(-1)[0, 0].sum()) == 1
    with pytest.raises(SettingsError, match='unknown inflation "center"\nNearest: "centre"'):
        inflate_kernel(flat, depth, "center")  # type: ignore[arg-type]


def test_a_centred_kernel_sees_slices_one_by_one(tmp_path: Path) -> None:
    flat = random_encoder("convnext_atto", 2)
    save_encoder(flat, tmp_path)
    deep = create_encoder("convnext_atto", 1, 3, 32, weights=tmp_path, inflation="centre").eval()
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        first = deep(volume)[0]
        expected = flat.float()(volume[:, :, 2])[0]
    torch.testing.assert_close(first[:, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_fresh_kernels_are_as_loud_as_those_of_images_and_differ_between_slices() -> None:
    flat, deep = (create_encoder("resnet18", 1, dims, 32, seed=0).network for dims in (2, 3))
    assert torch.equal(flat.layer2[0].downsample[0].weight, deep.layer2[0].downsample[0].weight.squeeze(2))
    for a, b in ((flat.conv1, deep.conv1), (flat.layer1[0].conv2, deep.layer1[0].conv2)):
        depth = b.weight.shape[2]
        assert b.weight.std().item() == pytest.approx(a.weight.std().item() / depth**0.5, rel=0.05)
        assert not torch.allclose(b.weight[:, :, 0], b.weight[:, :, 1])
    assert deep.layer1[0].bn2.weight.abs().max() == flat.layer1[0].bn2.weight.abs().max() == 0


@pytest.mark.parametrize("name", ["test_resnet", "convnext_atto", "test_efficientnet"])
def test_a_step_is_one_graph_and_reaches_every_parameter(name: str) -> None:
    encoder = create_encoder(name, 1, 3, 32, seed=0).train()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    encoder.pool(compiled(torch.rand(2, 1, 32, 32, 32))).square().sum().backward()
    assert [part for part, value in encoder.named_parameters() if value.grad is None] == []


def test_patches_of_images_become_patches_of_volumes(tmp_path: Path) -> None:
    flat = create_encoder("vit_tiny_patch8", 1, 2, 64, seed=0).double()  # 8 x 8 patches, as many as 4 x 4 x 4
    assert isinstance(flat, VisionTransformer)
    flat.positions.data.normal_()
    save_encoder(flat, tmp_path)
    deep = create_encoder("vit_tiny_patch8", 1, 3, 64, seed=1).double()
    assert isinstance(deep, VisionTransformer)
    report = load_weights(deep, tmp_path)
    assert report.share == 1 and set(report.fitted) == {"pos_embed", "patch_embed.proj.weight"}
    image = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        tokens = deep.stem(stacked(image, 64)).reshape(1, 8, 64, -1)
        torch.testing.assert_close(tokens, flat.stem(image).unsqueeze(1).expand_as(tokens), rtol=1e-6, atol=1e-6)


def test_as_many_patches_are_no_reason_to_take_a_square_for_a_cube(tmp_path: Path) -> None:
    flat = create_encoder("vit_tiny_patch8", 1, 2, 64, seed=0)
    assert isinstance(flat, VisionTransformer)
    save_encoder(flat, tmp_path)
    deep = create_encoder("vit_tiny_patch8", 1, 3, 32, weights=tmp_path)
    assert isinstance(deep, VisionTransformer)
    assert deep.positions.shape == flat.positions.shape
    planes = deep.positions[0, 1:].reshape(4, 16, -1)
    torch.testing.assert_close(planes, planes[:1].expand_as(planes))


def test_published_weights_of_images_start_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub keeps on disk after a download stands in for the download."""
    import huggingface_hub.constants
    import timm
    from safetensors.torch import save_file

    snapshot = tmp_path / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    published = timm.create_model("test_resnet")
    save_file(published.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    deep = create_encoder("test_resnet", 3, 3, 32, weights="imagenet")
    assert deep.loaded is not None and deep.loaded.share == 1
    assert deep.mean.flatten().tolist() == pytest.approx(published.pretrained_cfg["mean"])
    torch.testing.assert_close(
        deep.network.layer1[0].conv1.weight, inflate_kernel(published.layer1[0].conv1.weight.detach(), 3)
    )
    grey = create_encoder("test_resnet", 1, 3, 32, weights="imagenet", inflation="centre")
    torch.testing.assert_close(
        grey.network.conv1[0].weight[:, :, 1], published.conv1[0].weight.detach().sum(1, keepdim=True)
    )


@pytest.mark.parametrize("name", [name for name in FITTING["cnn"] if not is_known(name)])
def test_what_is_offered_for_convolutional_methods_has_a_3d_form(name: str) -> None:
    assert first_without_twin(create_encoder(name).network) is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnetblur18", r"BlurPool2d \(maxpool.1\)"), ("ecaresnet26t", r"EcaModule \(layer1.0.se\)"),
     ("swin_tiny", "SwinTransformer")],
)  # fmt: skip
def test_layers_without_a_twin_are_named(name: str, layer: str) -> None:
    with pytest.raises(SettingsError, match=rf"no 3D form: its {layer} is for images alone(.|\n)*resnet18.*vit_tiny"):
        create_encoder(name, spatial_dims=3)
