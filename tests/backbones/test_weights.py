from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from medprior.backbones.factory import create_encoder
from medprior.backbones.weights import load_encoder, resize_positions, save_encoder
from medprior.errors import RunError, SettingsError

CASES = [
    ("resnet18", 2, 64),
    ("convnext_atto", 2, 32),
    ("vit_tiny", 2, 32),
    ("vit_tiny_patch8", 3, 16),
    ("test_resnet", 3, 32),
    ("convnext_atto", 3, 32),
    ("test_efficientnet", 3, 32),
]


@pytest.mark.parametrize(("name", "dims", "size"), CASES)
def test_a_saved_encoder_comes_back_whole(name: str, dims: int, size: int, tmp_path: Path) -> None:
    encoder = create_encoder(name, 2, dims, size, mean=[0.3, 0.4], std=[0.1, 0.2], seed=1)
    x = torch.rand(2, 2, *[size] * dims)
    encoder.train()(x)  # moves the running statistics
    save_encoder(encoder, tmp_path)
    found = load_encoder(tmp_path)
    assert found.spec == encoder.spec
    for a, b in zip(encoder.eval()(x), found.eval()(x), strict=True):
        assert torch.equal(a, b)
    started = create_encoder(name, 2, dims, size, weights=tmp_path)
    assert all(torch.equal(v, started.state_dict()[k]) for k, v in encoder.state_dict().items() if "tracked" not in k)
    own = create_encoder(name, 2, dims, size, weights=tmp_path, mean=[0.7, 0.8])
    assert own.mean.flatten().tolist() == pytest.approx([0.7, 0.8])
    assert own.std.flatten().tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("wrapped", ["bare", "checkpoint", "safetensors"])
def test_foreign_files_are_read_whatever_their_prefix(wrapped: str, tmp_path: Path) -> None:
    model = timm.create_model("resnet18", in_chans=3, num_classes=7)
    state = {f"module.backbone.{k}": v for k, v in model.state_dict().items()}
    state["module.projector.weight"] = torch.rand(3, 3)
    path = tmp_path / ("w.safetensors" if wrapped == "safetensors" else "w.pth")
    if wrapped == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if wrapped == "checkpoint" else state, path)
    encoder = create_encoder("resnet18", 3, weights=path)
    assert torch.equal(encoder.network.layer4[1].conv2.weight, model.layer4[1].conv2.weight)
    report = encoder.loaded
    assert report is not None and report.share == 1 and not report.missing and not report.fitted
    assert {"module.projector.weight", "module.backbone.fc.weight"} <= set(report.unused)


def test_grey_input_gives_what_the_colour_weights_gave(tmp_path: Path) -> None:
    colour = create_encoder("convnext_atto", 3, seed=0).eval()
    save_encoder(colour, tmp_path)
    grey = create_encoder("convnext_atto", 1, weights=tmp_path).eval()
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey(x)[-1], colour(x.expand(-1, 3, -1, -1))[-1], rtol=1e-3, atol=1e-4)
    assert grey.loaded is not None and len(grey.loaded.fitted) == 1
    save_encoder(grey, tmp_path / "grey")
    again = create_encoder("convnext_atto", 3, weights=tmp_path / "grey").eval()
    torch.testing.assert_close(again(x.expand(-1, 3, -1, -1))[-1], grey(x)[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dims", "sizes"), [(2, (32, 64)), (3, (16, 32))])
def test_positions_are_resized_to_the_images(dims: int, sizes: tuple[int, int], tmp_path: Path) -> None:
    save_encoder(create_encoder("vit_tiny_patch8", 1, dims, sizes[0], seed=0), tmp_path)
    larger = create_encoder("vit_tiny_patch8", 1, dims, sizes[1], weights=tmp_path)
    assert larger.loaded is not None and larger.loaded.fitted == ("pos_embed",)
    assert larger(torch.rand(1, 1, *[sizes[1]] * dims))[0].shape[2:] == (sizes[1] // 8,) * dims


def test_resized_positions_keep_prefix_and_slope() -> None:
    slope = torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1)
    table = torch.cat([torch.full((1, 1, 1), 9.0), slope], dim=1)
    found = resize_positions(table, 1 + 64, dims=2)
    assert found is not None and found.shape == (1, 65, 1) and found[0, 0].item() == 9
    rows = found[0, 1:, 0].reshape(8, 8)
    torch.testing.assert_close(rows[2:6, 0], torch.tensor([0.75, 1.25, 1.75, 2.25]), atol=0.1, rtol=0)
    assert resize_positions(torch.zeros(1, 7, 4), 65, dims=2) is None


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    save_encoder(create_encoder("resnet18", seed=0), tmp_path)
    with pytest.raises(SettingsError, match="not for convnext_atto: 0 of"):
        create_encoder("convnext_atto", weights=tmp_path)
    with pytest.raises(SettingsError, match="not for resnet34"):
        create_encoder("resnet34", weights=tmp_path)


def test_damaged_and_absent_files_say_so(tmp_path: Path) -> None:
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(SettingsError, match=r"cannot be read \[.*torn\.pth"):
        create_encoder("resnet18", weights=tmp_path / "torn.pth")
    for absent in ("absent.pth", tmp_path / "absent"):
        with pytest.raises(SettingsError, match="no such weights file"):
            create_encoder("resnet18", weights=absent)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(SettingsError, match="holds no weights"):
        create_encoder("resnet18", weights=tmp_path / "empty.pth")
    with pytest.raises(RunError, match="holds no encoder"):
        load_encoder(tmp_path)
    save_encoder(create_encoder("resnet18"), tmp_path)
    whole = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "encoder.safetensors").write_bytes(whole[:1000])
    with pytest.raises(RunError, match="cannot be loaded"):
        load_encoder(tmp_path)


def test_published_weights_that_cannot_be_had_are_said_to_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for weights in ("imagenet", "hf-hub:nobody/nothing", "no_such_tag"):
        with pytest.raises(SettingsError, match=r"skipped: the weights .* are not available"):
            create_encoder("resnet18", weights=weights)
    with pytest.raises(SettingsError, match="skipped: the weights imagenet of vit_tiny"):
        create_encoder("vit_tiny", spatial_dims=3, weights="imagenet")
