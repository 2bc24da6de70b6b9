import pytest

from medprior.backbones.factory import create_encoder, default_backbone, encoder_kind
from medprior.errors import SettingsError


def test_a_wrong_name_meets_the_nearest_right_one() -> None:
    with pytest.raises(SettingsError, match=r'unknown encoder "resnet81"(.|\n)*Nearest: "resnet18"'):
        create_encoder("resnet81")
    with pytest.raises(SettingsError, match='Nearest: "vit_small"'):
        create_encoder("vit_smal")


def test_patches_that_do_not_divide_the_size_are_refused_with_sizes_that_work() -> None:
    with pytest.raises(SettingsError, match=r"patches of 16(.|\n)*Use 48 or 64"):
        create_encoder("vit_tiny", size=60)
    with pytest.raises(SettingsError, match="Use 16"):
        create_encoder("vit_tiny", size=10)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(SettingsError, match="32 pixels at least"):
        create_encoder("resnet18", size=16)


def test_three_dimensions_are_for_vision_transformers_so_far() -> None:
    with pytest.raises(SettingsError, match=r"no 3D form(.|\n)*vit_tiny"):
        create_encoder("resnet18", spatial_dims=3)
    with pytest.raises(SettingsError, match="2 or 3 spatial dimensions"):
        create_encoder("vit_tiny", spatial_dims=4)


def test_statistics_must_fit_the_channels() -> None:
    with pytest.raises(SettingsError, match="mean holds 3 values for 1 channel"):
        create_encoder("resnet18", mean=[0.1, 0.2, 0.3])


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    assert create_encoder("resnet18", mean=[0.0], std=[0.0]).std.item() > 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("resnet50", "cnn"), ("convnext_tiny", "cnn"), ("efficientnet_b0", "cnn"), ("vit_tiny_patch8", "vit"),
     ("vit_small_patch14_dinov2", "vit"), ("swin_tiny", "other"), ("eva02_tiny_patch14_224", "other")],
)  # fmt: skip
def test_kinds(name: str, kind: str) -> None:
    assert encoder_kind(name) == kind


def test_a_method_gets_the_encoder_asked_for_or_the_smallest_that_fits() -> None:
    assert default_backbone("any") == "resnet18"
    assert default_backbone("vit", size=64) == "vit_tiny_patch8"
    assert default_backbone("vit", size=224) == default_backbone("any", None, 3) == "vit_tiny"
    assert default_backbone("vit", "vit_small") == "vit_small"
    with pytest.raises(SettingsError, match=r"plain vision transformer, and swin_tiny is none(.|\n)*vit_tiny"):
        default_backbone("vit", "swin_tiny")
    with pytest.raises(SettingsError, match=r"convolutional encoder, and vit_tiny is none(.|\n)*resnet18"):
        default_backbone("cnn", "vit_tiny")
