"""Encoders of volumes whose slices are thick, and the decoder on their maps."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from medprior.backbones.embedded import embedded_maps, freeze_unreached
from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder, follows_spacing
from medprior.backbones.mapdecoder import MapDecoder
from medprior.backbones.sparse import check_sparse
from medprior.backbones.unet import UNetDecoder, axis_descent, check_extents
from medprior.backbones.vit import VisionTransformer, resized_positions, sincos_positions
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.errors import RunError, SettingsError

THICK = (5.0, 1.0, 1.0)
FOUR = [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]
# encoder, its size, spacing, strides, the shape of a volume
CASES = [
    ("unet_4", 64, THICK, FOUR, (12, 64, 64)),
    ("segresnet_8", 16, THICK, FOUR, (4, 16, 32)),
    ("resenc_2", 32, THICK, FOUR, (6, 32, 32)),
    ("resenc_2", 16, (0.8, 0.8, 2.4), [(1, 1, 1), (2, 2, 1), (4, 4, 2)], (8, 12, 10)),
    ("vit_micro", 64, THICK, [(3, 16, 16)], (12, 64, 64)),
    ("vit_micro_patch8", 16, (1.0, 3.0, 1.0), [(8, 3, 8)], (16, 9, 24)),
    ("vit_micro_patch12mm", 32, (4.0, 1.5, 1.5), [(3, 8, 8)], (9, 32, 16)),
]
IDS = ["-".join(map(str, case[:3])) for case in CASES]


def make(name: str, size: int = 64, spacing: tuple[float, ...] | None = THICK, channels: int = 1) -> Encoder:
    return create_encoder(name, channels, 3, size, seed=0, spacing=spacing)


def woken(encoder: Encoder) -> Encoder:
    """With branches that do not begin at 0."""
    with torch.no_grad():
        for value in encoder.parameters():
            if value.ndim == 1:
                value.add_(0.1)
    return encoder


def make_vit(name: str = "vit_micro", size: int = 64, spacing: tuple[float, ...] = THICK) -> VisionTransformer:
    encoder = make(name, size, spacing)
    assert isinstance(encoder, VisionTransformer)
    return encoder.eval()


@pytest.mark.parametrize(("name", "size", "spacing", "strides", "extents"), CASES, ids=IDS)
def test_maps_and_outlines_have_the_promised_shapes_and_everything_learns(
    name: str, size: int, spacing: tuple[float, ...], strides: list[tuple[int, ...]], extents: tuple[int, ...]
) -> None:
    encoder = woken(make(name, size, spacing, channels=2)).train()
    assert list(encoder.axis_strides) == strides
    assert encoder.strides == tuple(max(stride) for stride in strides)
    check_extents(encoder, extents)
    maps, decoder = encoder(torch.rand(1, 2, *extents)), UNetDecoder(encoder, 3, sees_image=True)
    for found, channels, stride in zip(maps, encoder.channels, strides, strict=True):
        assert found.shape == (1, channels, *[n // by for n, by in zip(extents, stride, strict=True)])
    outlines = decoder(maps, torch.rand(1, 2, *extents))
    assert outlines.shape == (1, 3, *extents) and torch.isfinite(outlines).all()
    (outlines * torch.rand(outlines.shape)).sum().backward()
    for part, value in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert value.grad is not None and torch.isfinite(value.grad).all(), part
        assert part.endswith("bias") or value.grad.abs().max() > 0, part


@pytest.mark.parametrize("name", ["unet_4", "segresnet_8", "resenc_2"])
def test_slices_far_apart_are_not_mixed(name: str) -> None:
    """Written out for (5, 1, 1): at strides up to (1, 2, 2), before the slices are comparable, kernels lie in them."""
    encoder = make(name)
    network = encoder.network
    stages = network.down_layers if name.startswith("segresnet") else network.stages
    sides = [{m.kernel_size for m in stage.modules() if isinstance(m, nn.Conv3d)} - {(1, 1, 1)} for stage in stages]
    assert sides == [{(1, 3, 3)}] * 2 + [{(3, 3, 3)}] * (len(stages) - 2)
    steps = [step.convolutions[0].conv.kernel_size for step in UNetDecoder(encoder, 1).steps]
    assert steps[-3:] == [(3, 3, 3), (1, 3, 3), (1, 3, 3)]


def test_odd_shapes_are_encoded() -> None:
    for name in ("unet_4", "segresnet_8", "resenc_2"):
        encoder = make(name, 16).eval()
        with torch.no_grad():
            for found, stride in zip(encoder(torch.rand(1, 1, 3, 17, 20)), encoder.axis_strides, strict=True):
                assert found.shape[2:] == tuple(-(-n // by) for n, by in zip((3, 17, 20), stride, strict=True))


@pytest.mark.parametrize("name", ["unet_4", "resenc_2", "segresnet_8", "vit_micro_patch8"])
def test_equal_voxels_change_nothing(name: str) -> None:
    """However many mm they measure."""
    plain, told = make(name, 16, None).eval(), make(name, 16, (0.7, 0.7, 0.7)).eval()
    assert plain.axis_strides == told.axis_strides == tuple((stride,) * 3 for stride in plain.strides)
    assert plain.extents == told.extents == (16, 16, 16)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        maps, others = plain(x), told(x)
        torch.manual_seed(0)
        outlines = UNetDecoder(plain, 1)(maps)
        torch.manual_seed(0)
        assert torch.equal(UNetDecoder(told, 1)(others), outlines)


@pytest.mark.parametrize("name", ["unet_4", "vit_micro_patch8", "vit_micro_patch12mm"])
def test_a_folder_knows_the_spacing(name: str, tmp_path: Path) -> None:
    encoder = make(name, 24).eval()
    save_encoder(encoder, tmp_path)
    found = load_encoder(tmp_path).eval()
    assert found.spec == encoder.spec and found.spec["spacing"] == THICK
    assert found.axis_strides == encoder.axis_strides and found.extents == encoder.extents
    x = torch.rand(1, 1, *encoder.extents)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(encoder(x), found(x), strict=True))
    facts = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    assert facts["axis_strides"] == [list(stride) for stride in encoder.axis_strides]


def test_folders_of_earlier_versions_know_none_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    encoder = make("unet_4", 16, None)
    save_encoder(encoder, tmp_path)
    place = tmp_path / "encoder.json"
    facts = json.loads(place.read_text(encoding="utf-8"))
    older = {name: value for name, value in facts.items() if name not in ("spacing", "axis_strides")}
    place.write_text(json.dumps(older), encoding="utf-8")
    found = load_encoder(tmp_path)
    assert found.spec == encoder.spec and found.spec["spacing"] is None
    place.write_text(json.dumps(older | {"spacing": "thick"}), encoding="utf-8")
    with pytest.raises(RunError, match="holds no encoder"):
        load_encoder(tmp_path)
    place.write_text(json.dumps(older | {"spacing": [1.0, 2.0]}), encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot be loaded(.|\n)*1 x 2 mm does not fit 3 axes"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("name", "size", "spacing", "sides", "grid"),
    [
        ("vit_micro", 64, THICK, (3, 16, 16), (4, 4, 4)),
        ("vit_micro_patch8", 64, THICK, (2, 8, 8), (6, 8, 8)),
        ("vit_micro_patch8", 16, (10.0, 1.0, 1.0), (1, 8, 8), (2, 2, 2)),
        ("vit_micro_patch16mm", 64, (4.0, 1.0, 2.0), (4, 16, 8), (4, 4, 4)),
        ("vit_micro_patch6mm", 32, (6.0, 3.0, 3.0), (1, 2, 2), (16, 16, 16)),
    ],
)
def test_patches_are_as_long_in_mm_along_every_axis(
    name: str, size: int, spacing: tuple[float, ...], sides: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    encoder = make_vit(name, size, spacing)
    assert encoder.sides == sides and encoder.patch == max(sides) and encoder.axis_strides == (sides,)
    assert encoder.tokens_grid == encoder.grid_of(encoder.extents) == grid
    torch.testing.assert_close(encoder.positions[0, 1:], sincos_positions(grid, 128))


def test_flat_patches_are_embedded_as_the_networks_convolution_does() -> None:
    encoder = make_vit("vit_micro_patch8", 32)
    x = torch.rand(2, 1, 8, 16, 40)
    with torch.no_grad():
        grid = encoder.grid_of(x.shape[2:])
        assert grid == (4, 2, 5)
        rows = encoder.network.patch_embed.proj(encoder.standardise(x)).flatten(2).transpose(1, 2)
        places = resized_positions(encoder.positions[0, 1:], encoder.tokens_grid, grid)
        torch.testing.assert_close(encoder.stem(x), rows + places, rtol=1e-5, atol=5e-6)
        assert torch.equal(encoder.join(encoder.cut(x), grid), x)


def test_flat_patches_are_dropped_and_hidden() -> None:
    encoder = make_vit("vit_micro_patch8", 16)
    assert encoder.tokens_grid == (2, 2, 2) and encoder.extents == (4, 16, 16)
    x, token = torch.rand(1, 1, 4, 16, 16), torch.rand(128)
    other = x.clone()
    other[..., 2:, 8:, :8] = 0.5  # patch 6, and nothing else
    keep = torch.tensor([[0, 1, 2, 3, 4, 5, 7]])
    hidden = torch.tensor([[False] * 6 + [True, False]])
    with torch.no_grad():
        assert not torch.equal(encoder(x)[0], encoder(other)[0])
        one, two = (encoder.body(encoder.stem(image), keep)[0] for image in (x, other))
        assert torch.equal(one, two) and one.shape == (1, 7, 128)
        one, two = (encoder.hide(encoder.stem(image), hidden, token) for image in (x, other))
        assert torch.equal(one, two)
        silent = embedded_maps(encoder, x, torch.zeros_like)
        assert torch.equal(silent[0], embedded_maps(encoder, other, torch.zeros_like)[0])
    freeze_unreached(encoder)
    assert all(weight.requires_grad for weight in encoder.parameters())


def test_what_flat_patches_and_strides_do_not_divide_is_refused_by_axis() -> None:
    said = r"patches of 3 x 16 x 16, which do not divide 64 along axis 0 \[data.size\]\nUse 63 or 66 along axis 0"
    with pytest.raises(SettingsError, match=said):
        make_vit()(torch.rand(1, 1, 64, 64, 64))
    with pytest.raises(SettingsError, match=r"do not divide 60 along axis 1 \[data.size\]\nUse 48 or 64 along axis 1"):
        make("vit_micro", 60)
    encoder = make("unet_4")
    check_extents(encoder, (6, 8, 16))
    with pytest.raises(
        SettingsError, match=r"unet_4, 2, does not divide 5 pixels along axis 0 \[data.size\]\nUse 4 or"
    ):
        check_extents(encoder, (5, 8, 16))
    with pytest.raises(
        SettingsError, match=r"cover 5 x 16 x 16, 6 x 16 x 16 pixels(.|\n)*sizes that 2 x 8 x 8 divides"
    ):
        UNetDecoder(encoder, 1)(encoder(torch.rand(1, 1, 5, 16, 16)))


@pytest.mark.parametrize(
    ("strides", "ladder"),
    [
        (FOUR, FOUR[::-1]),
        ([(3, 16, 16)], [(3, 16, 16), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1)]),
        ([(4, 8)], [(4, 8), (2, 4), (1, 2), (1, 1)]),
        ([(1, 2), (1, 8)], [(1, 8), (1, 4), (1, 2), (1, 1)]),
    ],
)
def test_the_way_up_goes_along_every_axis_at_once(
    strides: list[tuple[int, ...]], ladder: list[tuple[int, ...]]
) -> None:
    assert axis_descent(strides) == ladder
    with pytest.raises(SettingsError, match="from a map at stride 2 x 8 to one at stride 4"):
        axis_descent([(4, 4), (2, 8)])


def test_a_map_of_flat_patches_becomes_a_pyramid() -> None:
    encoder = make("vit_micro")
    pyramid = UNetDecoder(encoder, 1).pyramid
    assert pyramid is not None
    assert pyramid.axis_strides == ((1, 2, 2), (1, 4, 4), (1, 8, 8), (3, 16, 16)) and pyramid.strides == (2, 4, 8, 16)
    maps = pyramid(torch.rand(1, 128, 2, 1, 3))
    assert [tuple(found.shape[2:]) for found in maps] == [(6, 8, 24), (6, 4, 12), (6, 2, 6), (2, 1, 3)]


def test_weights_of_images_start_thick_slices(tmp_path: Path) -> None:
    """As they were where slices are not mixed, with depth where they are."""
    flat = create_encoder("unet_4", 1, 2, 32, seed=0)
    save_encoder(flat, tmp_path)
    deep = create_encoder("unet_4", 1, 3, 32, spacing=THICK, weights=tmp_path)
    assert deep.loaded is not None and deep.loaded.share == 1
    given, found = (m.network.stages[0][0].conv.weight for m in (flat, deep))
    assert torch.equal(found, given.unsqueeze(2))
    save_encoder(create_encoder("vit_micro_patch8", 1, 2, 32, seed=0), tmp_path / "vit")
    vit = create_encoder("vit_micro_patch8", 1, 3, 32, spacing=THICK, weights=tmp_path / "vit")
    assert vit.loaded is not None and vit.loaded.share == 1
    assert set(vit.loaded.fitted) == {"pos_embed", "patch_embed.proj.weight"}
    positions = vit.network.pos_embed[0, 1:].reshape(3, 4, 4, -1)
    assert torch.equal(positions[0], positions[2]), "those of images, along depth"


def test_positions_are_fitted_to_flat_patches(tmp_path: Path) -> None:
    save_encoder(make("vit_micro_patch8", 32, None), tmp_path)
    encoder = create_encoder("vit_micro_patch8", 1, 3, 64, spacing=THICK, weights=tmp_path)
    assert encoder.loaded is not None and encoder.loaded.fitted == ("pos_embed",)
    assert encoder.loaded.missing == ("patch_embed.proj.weight",), "a cube's weights are none of a flat patch"


@pytest.mark.parametrize("name", ["test_resnet", "swin_unetr_12"])
def test_networks_of_one_stride_say_so(name: str) -> None:
    assert not follows_spacing(name)
    said = rf"{name} has one stride for all axes, and voxels of 5 x 1 x 1 mm ask(.|\n)*\[pretrain.backbone\]\nFor inst"
    with pytest.raises(SettingsError, match=said):
        make(name, 32)


def test_voxels_that_are_nearly_cubes_ask_for_one_stride() -> None:
    encoder = make("test_resnet", 32, (1.5, 1.0, 1.0))
    assert {len(set(stride)) for stride in encoder.axis_strides} == {1} and encoder.extents == (32, 32, 32)


def test_names_that_follow_the_spacing() -> None:
    following = ("unet_4", "resenc", "segresnet", "vit_tiny", "vit_tiny_patch16mm", "vit_small_patch14_dinov2")
    assert all(map(follows_spacing, following))


@pytest.mark.parametrize("name", ["unet_4", "resenc_2", "segresnet_8"])
def test_sparse_encoding_needs_one_stride_for_all_axes(name: str) -> None:
    encoder = make(name, 16)
    said = r"map at stride 1 x 2 x 2(.|\n)*\[pretrain.backbone\]\nFor instance: resnet18"
    with pytest.raises(SettingsError, match=said):
        check_sparse(encoder, (4, 4, 4))
    with pytest.raises(SettingsError, match=said):
        MapDecoder(encoder, 32, 1)


def test_sparse_encoding_is_tried_on_images_of_any_shape() -> None:
    maps = check_sparse(make("unet_4", 16, None), (1, 2, 2))
    assert maps[0].shape == (2, 8, 8, 16, 16)


def test_patches_in_mm_need_a_spacing() -> None:
    said = (
        r"vit_tiny_patch16mm has patches in mm(.|\n)*\nGive the spacing, or name patches in voxels: vit_tiny_patch16$"
    )
    with pytest.raises(SettingsError, match=said):
        create_encoder("vit_tiny_patch16mm", 1, 3, 32)
    with pytest.raises(SettingsError, match=r"1 x 2 mm does not fit 3 axes \[spacing\]"):
        make("unet_4", spacing=(1.0, 2.0))


def test_images_of_oblong_pixels_are_encoded() -> None:
    for name, strides in (("unet_4", [(1, 1), (1, 2), (2, 4), (4, 8)]), ("vit_micro_patch8", [(3, 8)])):
        encoder = create_encoder(name, 1, 2, 32, seed=0, spacing=(3.0, 1.0))
        assert list(encoder.axis_strides) == strides
        assert UNetDecoder(encoder, 2)(encoder(torch.rand(1, 1, 12, 32))).shape == (1, 2, 12, 32)


def test_the_finest_axis_decides_how_wide_a_decoder_is() -> None:
    with torch.device("meta"):
        thick, cube = (UNetDecoder(make("unet", 32, spacing), 1) for spacing in (THICK, None))
    widths = [[step.up.out_channels for step in decoder.steps] for decoder in (thick, cube)]
    assert widths[0] == widths[1] == [256, 128, 64]
    assert [a < b for a, b in pairwise(sum(p.numel() for p in d.parameters()) for d in (thick, cube))] == [True]
