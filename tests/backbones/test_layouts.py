"""Weights in the layouts of other programs land where they belong: the encoder answers as the module they came from."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from medprior.backbones.encoder import Encoder
from medprior.backbones.factory import create_encoder
from medprior.backbones.layout import layout_names, layout_of, recognise
from medprior.backbones.loadreport import folded
from medprior.backbones.source import encoder_named, read_source
from medprior.backbones.weights import load_weights, save_encoder
from medprior.errors import SettingsError

Maps = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A file as a program writes it, the encoder it is for, and what gives the last map: the module it is of.

    Of `same_names` the module has the encoder's, and its values are compared instead.
    """

    layout: str
    file: Any
    encoder: str
    maps: Any
    dims: int = 2
    size: int = 32
    channels: int = 3
    aside: tuple[str, ...] = ()
    same_names: bool = False


def state_of(module: nn.Module, before: str = "") -> dict[str, Tensor]:
    return {f"{before}{name}": value for name, value in module.state_dict().items()}


def drawn(make: Callable[[], nn.Module], seed: int) -> Any:
    """A module whose norms are not those of every other: their weights and statistics are drawn, too."""
    torch.manual_seed(seed)
    module = make().eval()
    for name, value in module.state_dict().items():
        if value.is_floating_point() and value.ndim <= 1:
            noise = torch.rand_like(value)
            value.copy_(0.5 + noise if name.endswith(("weight", "var")) else 0.2 * (noise - 0.5))
    return module


def renamed(state: dict[str, Tensor], pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        for pattern, stands in pairs:
            name = re.sub(pattern, stands, name)
        found[name] = value
    return found


def moco() -> Case:
    query = drawn(lambda: torchvision.models.resnet18(num_classes=128), 0)
    query.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), query.fc)
    key = drawn(lambda: torchvision.models.resnet18(num_classes=128), 1)
    state = {
        **state_of(query, "module.encoder_q."),
        **state_of(key, "module.encoder_k."),
        "module.queue": torch.rand(9),
    }
    optimizer = torch.optim.SGD(query.parameters(), 0.1, momentum=0.9).state_dict()
    body = nn.Sequential(*list(query.children())[:-2])
    file = {"epoch": 3, "arch": "resnet18", "state_dict": state, "optimizer": optimizer}
    return Case("moco", file, "resnet18", body, size=64, aside=("module.queue", "module.encoder_q.fc.0.weight"))


def vit(seed: int) -> Any:
    return drawn(lambda: timm.create_model("test_vit", img_size=32, num_classes=0), seed)


def patches(model: Any) -> Maps:
    """The patches after the last norm, as a map."""

    def maps(x: Tensor) -> Tensor:
        tokens = model.forward_features(x)[:, model.num_prefix_tokens :]
        return tokens.transpose(1, 2).reshape(len(x), -1, x.shape[2] // 16, x.shape[3] // 16)

    return maps


def moco_v3() -> Case:
    base, momentum = vit(0), vit(1)
    heads = {"module.base_encoder.head.0.weight": torch.rand(4, 4), "module.predictor.0.weight": torch.rand(4, 4)}
    state = {**state_of(base, "module.base_encoder."), **state_of(momentum, "module.momentum_encoder."), **heads}
    return Case("moco_v3", {"state_dict": state}, "test_vit", patches(base), aside=tuple(heads))


def dino() -> Case:
    teacher, student = vit(0), vit(1)
    head = {"head.mlp.0.weight": torch.rand(4, 4), "head.last_layer.weight_g": torch.rand(4, 1)}
    file = {
        "teacher": {**state_of(teacher, "backbone."), **head},
        "student": {**state_of(student, "module.backbone."), **{f"module.{k}": v for k, v in head.items()}},
        "args": argparse.Namespace(arch="vit_small", out_dim=65536),
        "epoch": 100,
    }
    aside = ("teacher.head.last_layer.weight_g", "student.module.backbone.cls_token")
    return Case("dino", file, "test_vit", patches(teacher), aside=aside)


def mae() -> Case:
    model = vit(0)
    decoder = vit(1)
    rest = {f"decoder_{name}": value for name, value in state_of(decoder).items() if name.startswith("blocks.")}
    rest |= {"mask_token": torch.rand(1, 1, 8), "decoder_embed.weight": torch.rand(8, 8)}
    rest |= {"decoder_pos_embed": torch.rand(1, 5, 8), "decoder_pred.weight": torch.rand(8, 8)}
    file = {"model": {**state_of(model), **rest}, "args": argparse.Namespace(mask_ratio=0.75), "epoch": 1}
    return Case("mae", file, "test_vit", patches(model), aside=tuple(rest))


def spark() -> Case:
    model = drawn(lambda: timm.create_model("test_resnet", num_classes=0, global_pool=""), 0)
    rest = {"dense_decoder.dec.0.up_sample.weight": torch.rand(4, 4), "mask_tokens.0": torch.rand(1, 4, 1, 1)}
    state = {**state_of(model, "sparse_encoder.sp_cnn."), **rest}
    file = {"module": state, "is_pretrain": True, "optimizer": {"state": {0: {"exp_avg": torch.rand(3)}}}}
    return Case("spark", file, "test_resnet", model.forward_features, aside=tuple(rest))


def convnext() -> Case:
    model = drawn(lambda: timm.create_model("convnext_atto", num_classes=0, global_pool=""), 0)
    theirs = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
        (r"^head\.norm\.", "norm."),
    ]
    return Case("convnext", {"model": renamed(state_of(model), theirs)}, "convnext_atto", model.forward_features)


class GenesisUnit(nn.Module):
    """A convolution and a norm over the batch under the names of Models Genesis; leaky, as medprior's is."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        # The authors norm by the batch in evaluation, too.
        bn, made = self.bn1, self.conv1(x)
        normed = nn.functional.batch_norm(made, None, None, bn.weight, bn.bias, training=True, eps=bn.eps)
        return nn.functional.leaky_relu(normed, 0.01)


class GenesisDown(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(GenesisUnit(inputs, width), GenesisUnit(width, 2 * width))


class Genesis(nn.Module):
    """The way down of their U-Net, and a part of the way up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down_tr64 = GenesisDown(1, width)
        self.down_tr128 = GenesisDown(2 * width, 2 * width)
        self.down_tr256 = GenesisDown(4 * width, 4 * width)
        self.down_tr512 = GenesisDown(8 * width, 8 * width)
        self.up_tr256 = nn.Sequential(nn.ConvTranspose3d(16 * width, 16 * width, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        for down in (self.down_tr64, self.down_tr128, self.down_tr256):
            x = nn.functional.max_pool3d(down.ops(x), 2)
        return self.down_tr512.ops(x)


def genesis() -> Case:
    model = drawn(lambda: Genesis(4), 0)
    file = {"epoch": 9, "state_dict": state_of(model, "module."), "optimizer_state_dict": {"state": {}}}
    aside = ("module.up_tr256.0.weight", "module.down_tr64.ops.0.conv1.bias", "module.down_tr64.ops.0.bn1.running_var")
    return Case("genesis", file, "unet_4", model, dims=3, size=16, channels=1, aside=aside)


@cache
def swin(merging: str) -> Any:
    """MONAI's own, with a merging of its own or, as "old", that of before 1.6."""
    from monai.networks.nets.swin_unetr import SwinTransformer

    return drawn(
        lambda: SwinTransformer(
            in_chans=1, embed_dim=12, window_size=(7,) * 3, patch_size=(2,) * 3, depths=(2,) * 4,
            num_heads=(3, 6, 12, 24), spatial_dims=3, downsample=old_merging() if merging == "old" else merging,
        ),
        0,
    )  # fmt: skip


def old_merging() -> Any:
    """What MONAI 0.9 to 1.5 did, written from its description: x4 repeats none, x5 and x6 repeat x2 and x3."""
    from monai.networks.nets.swin_unetr import PatchMergingV2

    class Old(PatchMergingV2):
        def forward(self, x: Tensor) -> Tensor:
            even, odd = slice(0, None, 2), slice(1, None, 2)
            parts = [
                x[:, even, even, even], x[:, odd, even, even], x[:, even, odd, even], x[:, even, even, odd],
                x[:, odd, even, odd], x[:, even, odd, even], x[:, even, even, odd], x[:, odd, odd, odd],
            ]  # fmt: skip
            return self.reduction(self.norm(torch.cat(parts, -1)))

    return Old


def last(model: Any) -> Maps:
    return lambda x: model(x)[-1]


def swin_unetr() -> Case:
    model = swin("old")
    rest = {"encoder1.layer.conv1.conv.weight": torch.rand(2, 2), "out.conv.conv.weight": torch.rand(2, 2)}
    file = {"state_dict": {**state_of(model, "swinViT."), **rest}}
    return Case("swin_unetr", file, "swin_unetr_first_12", last(model), dims=3, channels=1, aside=tuple(rest))


def swin_unetr_16() -> Case:
    model = swin("merging")
    file = state_of(model, "module.swinViT.")
    return Case("swin_unetr_16", file, "swin_unetr_12", last(model), dims=3, channels=1)


def swin_unetr_ssl() -> Case:
    model = swin("old")
    state = renamed(state_of(model, "module."), [(r"\.mlp\.linear(\d)\.", r".mlp.fc\1.")])
    rest = {"module.rotation_head.weight": torch.rand(4, 4), "module.norm.weight": torch.rand(4)}
    file = {"state_dict": {**state, **rest}}
    return Case(
        "swin_unetr_ssl", file, "swin_unetr_first_12", model, dims=3, channels=1, aside=tuple(rest), same_names=True
    )


def dae() -> Case:
    model = swin("old")
    state = renamed(state_of(model, "encoder."), [(r"(layers\d)\.0\.", r"\1.0.0.")])
    rest = {"encoder.mask_token": torch.rand(3), "decoder5.layer.weight": torch.rand(3)}
    file = {"model": {**state, **rest}}
    return Case("dae", file, "swin_unetr_first_12", model, dims=3, channels=1, aside=tuple(rest), same_names=True)


CASES = (
    moco, moco_v3, dino, mae, spark, convnext, genesis, swin_unetr, swin_unetr_16, swin_unetr_ssl, dae,
)  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_an_encoder_answers_as_the_module_its_weights_came_from(make: Callable[[], Case], tmp_path: Path) -> None:
    case = make()
    path = tmp_path / "weights.pth.tar"
    torch.save(case.file, path)
    told = layout_of(case.layout).recognised
    place = str(path) if told else f"{case.layout}:{path}"
    zero, one = [0.0] * case.channels, [1.0] * case.channels
    encoder = create_encoder(
        case.encoder, case.channels, case.dims, case.size, weights=place, mean=zero, std=one, seed=5
    ).eval()
    x = torch.randn(1, case.channels, *[case.size] * case.dims, generator=torch.Generator().manual_seed(2))
    if case.same_names:
        own = encoder.network.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in case.maps.state_dict().items())
    else:
        with torch.no_grad():
            torch.testing.assert_close(encoder(x)[-1], case.maps(x), rtol=1e-5, atol=1e-5)
    report = encoder.loaded
    assert report is not None and report.layout == case.layout
    assert report.share == 1 and not report.missing and not report.fitted
    assert set(case.aside) <= set(report.aside)
    assert not report.unused


def names_of(make: Callable[[], Case]) -> set[str]:
    from medprior.backbones.statefile import _tensors

    return set(_tensors(make().file, Path("file")))


def test_no_file_is_recognised_as_of_two_layouts() -> None:
    encoder = create_encoder("test_vit", 3, size=32, seed=0)
    files = {make.__name__: names_of(make) for make in CASES if make is not swin_unetr_16}
    files |= {"medprior": set(encoder.state_dict()), "names": set(encoder.network.state_dict())}
    for expected, names in files.items():
        assert recognise(names).name == expected
        knowing = [name for name in layout_names() if layout_of(name).knows(names)]
        assert knowing == ([] if expected == "names" else [expected])


def test_a_merging_of_other_neighbours_is_refused_and_one_of_another_order_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "swin.pt"
    torch.save(swin_unetr_ssl().file, path)
    with pytest.raises(SettingsError, match=r"fit only one \[.*swin\.pt\]\nName the encoder swin_unetr_first"):
        create_encoder("swin_unetr_12", 1, 3, 32, weights=path)
    torch.save(state_of(swin("mergingv2"), "swinViT."), path)
    as_it_is = create_encoder("swin_unetr_12", 1, 3, 32, weights=f"swin_unetr_v2:{path}").loaded
    ordered = create_encoder("swin_unetr_12", 1, 3, 32, weights=f"swin_unetr_16:{path}").loaded
    assert as_it_is is not None and ordered is not None
    assert not as_it_is.note and "put into the order of swin_unetr_12" in ordered.note


def test_colour_images_of_one_size_start_grey_volumes_of_another(tmp_path: Path) -> None:
    torch.save(moco().file, tmp_path / "moco.pth")
    deep = create_encoder("resnet18", 1, 3, 32, weights=tmp_path / "moco.pth").loaded
    torch.save(dino().file, tmp_path / "dino.pth")
    large = create_encoder("test_vit", 1, 3, 48, weights=tmp_path / "dino.pth").loaded
    assert deep is not None and large is not None
    assert deep.shapes["conv1.weight"] == ((64, 3, 7, 7), (64, 1, 7, 7, 7))
    assert large.shapes["pos_embed"] == ((1, 5, 64), (1, 28, 64))
    assert {"patch_embed.proj.weight", "pos_embed"} == set(large.shapes)
    said = "\n".join(deep.lines())
    assert "MoCo v1 or v2: " in said and "100% of the weights matched" in said
    assert "conv1.weight 64x3x7x7 to 64x1x7x7x7" in said


@pytest.fixture(scope="module")
def spark_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spark") / "spark.pth"
    torch.save(spark().file, path)
    return path


def test_under_95_percent_of_names_or_of_values_is_refused_and_every_name_is_told(
    spark_file: Path, tmp_path: Path
) -> None:
    before = create_encoder("test_resnet", 3, seed=1)
    kept = {name: value.clone() for name, value in before.state_dict().items()}
    state = torch.load(spark_file, weights_only=True)["module"]
    sizes = {name: value.numel() for name, value in state.items() if "sp_cnn" in name}
    largest = max(sizes, key=sizes.__getitem__)
    for gone in ({largest}, {name for name in sizes if name.endswith("running_mean")}):
        torch.save({k: v for k, v in state.items() if k not in gone}, tmp_path / "cut.pth")
        with pytest.raises(SettingsError) as caught:
            load_weights(before, tmp_path / "cut.pth")
        assert "read as SparK with its decoder" in str(caught.value)
        missing = [name.removeprefix("sparse_encoder.sp_cnn.") for name in gone]
        assert all(name in str(caught.value) for name in folded(missing))
    assert all(torch.equal(value, kept[name]) for name, value in before.state_dict().items())
    small = next(name for name in sizes if name.endswith("bn1.bias"))
    torch.save({k: v for k, v in state.items() if k != small}, tmp_path / "cut.pth")
    report = load_weights(before, tmp_path / "cut.pth")
    assert report.missing == (small.removeprefix("sparse_encoder.sp_cnn."),)
    assert report.as_json()["missing"] == list(report.missing) and report.share < 1


def test_a_layout_may_be_said_and_a_wrong_one_is_answered_with_the_nearest(spark_file: Path) -> None:
    found = create_encoder("test_resnet", 3, weights=f"spark:{spark_file}").loaded
    guessed = create_encoder("test_resnet", 3, weights=f"names:{spark_file}").loaded
    assert found is not None and guessed is not None
    assert (found.layout, guessed.layout) == ("spark", "names")
    assert found.matched == guessed.matched
    with pytest.raises(SettingsError, match='unknown layout of weights "sparc"\nNearest: "spark"'):
        create_encoder("test_resnet", 3, weights=f"sparc:{spark_file}")
    with pytest.raises(SettingsError, match="not for test_resnet"):
        create_encoder("test_resnet", 3, weights=f"moco:{spark_file}")


class Running:
    """What a pickle would run."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


def test_code_in_a_file_is_not_run_and_cut_files_are_named(spark_file: Path, tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    torch.save(
        {"state_dict": torch.load(spark_file, weights_only=True)["module"], "x": Running(trap)}, tmp_path / "a.pt"
    )
    save_encoder(create_encoder("test_resnet", 3), tmp_path)
    whole = spark_file.read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    safe = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(safe[: len(safe) // 2])
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in ("a.pt", "cut.pth", "cut.safetensors", "keras.h5"):
        with pytest.raises(SettingsError, match=rf"the weights cannot be read \[.*{re.escape(name)}\]"):
            create_encoder("test_resnet", 3, weights=tmp_path / name)
    assert not trap.exists()


def test_a_folder_stands_for_the_one_encoder_in_it(tmp_path: Path) -> None:
    run = tmp_path / "pretrain" / "mae-test_vit" / "fold-0-seed-0"
    encoder: Encoder = create_encoder("test_vit", 1, size=32, seed=0)
    save_encoder(encoder, run)
    source = read_source(tmp_path)
    assert source.path == run and encoder_named(source) == "test_vit"
    found = create_encoder("test_vit", 1, size=32, weights=str(tmp_path))
    assert found.loaded is not None and found.loaded.layout == "medprior" and found.loaded.share == 1
    assert torch.equal(found.network.pos_embed, encoder.network.pos_embed)
    save_encoder(encoder, tmp_path / "best")
    with pytest.raises(SettingsError, match="several encoders lie in this folder"):
        read_source(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="no encoder lies in this folder"):
        read_source(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("word", "published", "encoder"),
    [
        ("imagenet", "imagenet", None),
        ("resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18"),
        ("hf-hub:timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "resnet18"),
        ("hf-hub:owner/model", "hf-hub:owner/model", None),
    ],
)
def test_published_names_are_told_from_files(word: str, published: str, encoder: str | None) -> None:
    source = read_source(word)
    assert (source.path, source.published, encoder_named(source)) == (None, published, encoder)
