import pytest

from medprior.backbones.factory import check_fit, create_encoder
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


def test_three_dimensions_are_for_plain_transformers_and_convolutions() -> None:
    with pytest.raises(SettingsError, match=r"swin_tiny has no 3D form(.|\n)*resnet18(.|\n)*vit_tiny"):
        create_encoder("swin_tiny", spatial_dims=3)
    with pytest.raises(SettingsError, match="32 pixels at least"):
        create_encoder("resnet18", spatial_dims=3, size=16)
    with pytest.raises(SettingsError, match="2 or 3 spatial dimensions"):
        create_encoder("vit_tiny", spatial_dims=4)


def test_statistics_must_fit_the_channels() -> None:
    with pytest.raises(SettingsError, match="mean holds 3 values for 1 channel"):
        create_encoder("resnet18", mean=[0.1, 0.2, 0.3])


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    assert create_encoder("resnet18", mean=[0.0], std=[0.0]).std.item() > 0


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [("resnet18", 32, "cnn"), ("convnext_atto", 32, "cnn"), ("efficientnet_b0", 32, "cnn"),
     ("vit_tiny_patch8", 32, "vit"), ("vit_small_patch14_dinov2", 28, "vit"),
     ("swin_tiny", 32, "other"), ("eva02_tiny_patch14_224", 28, "other")],
)  # fmt: skip
def test_kinds(name: str, size: int, kind: str) -> None:
    assert create_encoder(name, size=size).kind == kind


def test_encoders_that_a_method_cannot_use_are_refused_with_some_that_it_can() -> None:
    check_fit("any", "swin_tiny", "other", "simclr")
    check_fit("vit", "vit_small", "vit", "mae")
    with pytest.raises(
        SettingsError, match=r"mae needs a plain vision transformer, and swin_tiny is none(.|\n)*vit_tiny"
    ):
        check_fit("vit", "swin_tiny", "other", "mae")
    with pytest.raises(
        SettingsError, match=r"spark needs a convolutional encoder, and vit_tiny is none(.|\n)*resnet18"
    ):
        check_fit("cnn", "vit_tiny", "vit", "spark")
