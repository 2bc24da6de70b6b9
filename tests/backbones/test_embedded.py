"""What a network embeds an image in can be changed on the way; what no map depends on is left alone."""

import pytest
import torch
from torch import Tensor, nn

from medprior.backbones.embedded import embedded_maps, freeze_unreached
from medprior.backbones.encoder import Encoder, EncoderSpec, Statistics
from medprior.backbones.factory import create_encoder
from medprior.errors import SettingsError

ENCODERS = [
    ("unet_4", 2, 16, 4),
    ("unet_4", 3, 16, 4),
    ("resenc_4", 3, 8, 4),
    ("segresnet_8", 2, 16, 8),
    ("swin_unetr", 2, 32, 48),
    ("resnet18", 2, 32, 64),
    ("convnext_atto", 2, 32, 40),
    ("vit_micro_patch8", 2, 16, 128),
    ("vit_micro_patch8", 3, 16, 128),
]


def random_images(encoder: Encoder) -> Tensor:
    spec = encoder.spec
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, spec["in_channels"], *[spec["size"]] * encoder.spatial_dims, generator=generator)


@pytest.mark.parametrize(("name", "dims", "size", "width"), ENCODERS)
def test_the_embedding_passes_once_and_is_all_that_the_maps_know(name: str, dims: int, size: int, width: int) -> None:
    encoder = create_encoder(name, 1, dims, size, seed=0).eval()
    pixels, given = random_images(encoder), []

    def blind(embedding: Tensor) -> Tensor:
        given.append(embedding)
        return torch.zeros_like(embedding)

    with torch.no_grad():
        plain, same = encoder(pixels), embedded_maps(encoder, pixels, lambda embedding: embedding)
        for one, other in zip(plain, same, strict=True):
            assert torch.equal(one, other)
        maps, others = embedded_maps(encoder, pixels, blind), embedded_maps(encoder, 1 - pixels, blind)
    assert [len(each) for each in given] == [2, 2]
    assert given[0].shape[1] == width, "channels lie on axis 1"
    assert not torch.equal(given[0], given[1])
    for one, other in zip(maps, others, strict=True):
        assert torch.equal(one, other), "no other way leads from the image to the maps"


class Products(Encoder):
    """A network that begins with no convolution."""

    kind = "other"

    def __init__(self) -> None:
        super().__init__(EncoderSpec("products", 1, 2, 8), nn.Linear(8, 8), (1,), (1,), Statistics((0.5,), (0.25,)))

    def stem(self, x: Tensor) -> Tensor:
        return self.standardise(x)

    def body(self, z: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        return [self.network(z)]


def test_a_network_without_an_embedding_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"products embeds its images by no convolution(.|\n)*swin_unetr"):
        embedded_maps(Products(), torch.rand(1, 1, 8, 8), lambda embedding: embedding)


@pytest.mark.parametrize(("name", "dims", "size", "width"), ENCODERS)
def test_what_is_trained_gets_a_gradient(name: str, dims: int, size: int, width: int) -> None:
    encoder = create_encoder(name, 1, dims, size, seed=0).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    freeze_unreached(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    still = [key for key, weight in encoder.named_parameters() if not weight.requires_grad]
    assert still == (["network.head.norm.weight", "network.head.norm.bias"] if name == "convnext_atto" else [])
    torch.stack([found.sum() for found in encoder(random_images(encoder))]).sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters() if weight.requires_grad)
