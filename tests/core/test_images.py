"""Normalisation and augmentation of images, and the dropout in which four elements share a random draw."""

import math

import pytest
import torch
from torch import Tensor

from kvformer.models.blocks import Dropout
from kvformer.models.fast.dropout import dropout
from kvformer.training.images import normalise, random_flip_crop


def photos(batch: int = 4, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_normalise_grey_and_colour() -> None:
    random = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (2, 5, 6), dtype=torch.uint8, generator=random)
    output = normalise(grey, torch.tensor([0.1307]), torch.tensor([0.3081]))
    torch.testing.assert_close(output, ((grey.double() / 255 - 0.1307) / 0.3081)[:, None].float())
    colour = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8, generator=random)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    expected = (colour.permute(0, 3, 1, 2).double() / 255 - mean[:, None, None]) / std[:, None, None]
    output = normalise(colour, mean, std)
    torch.testing.assert_close(output, expected.float())
    assert output.is_contiguous() and output.dtype == torch.float32
    assert colour.dtype == torch.uint8, "the data set itself is not changed"


def test_crops_of_whole_pictures_are_unchanged_or_mirrored() -> None:
    images = photos(64)
    torch.manual_seed(0)
    output = random_flip_crop(images, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    pairs = list(zip(output, images, strict=True))
    same = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in pairs])
    mirrored = torch.tensor([torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in pairs])
    assert (same ^ mirrored).all()
    assert 20 < int(mirrored.sum()) < 44


def test_every_picture_has_its_own_parameters() -> None:
    image = photos(1).expand(32, -1, -1, -1)
    torch.manual_seed(1)
    output = random_flip_crop(image)
    assert len({picture.numpy().tobytes() for picture in output}) == 32
    torch.manual_seed(1)
    assert torch.equal(output, random_flip_crop(image)), "it follows torch's generator"


def test_a_crop_is_the_promised_area_of_the_picture() -> None:
    """Pictures of their own coordinates show where each crop lies: inside, with the promised area and ratio."""
    side, batch = 32, 500
    centres = (torch.arange(side) + 0.5) / side
    x, y = centres.expand(side, side), centres[:, None].expand(side, side)
    torch.manual_seed(2)
    output = random_flip_crop(torch.stack([x, y]).expand(batch, -1, -1, -1), scale=(0.5, 0.8), ratio=(0.9, 1.1))
    middle = side // 2
    # Away from the border, bilinear sampling of a linear picture is exact.
    width = (output[:, 0, middle, middle + 4] - output[:, 0, middle, middle - 4]) * side / 8
    height = (output[:, 1, middle + 4, middle] - output[:, 1, middle - 4, middle]) * side / 8
    area, aspect = width.abs() * height, width.abs() / height
    assert 0.5 - 1e-3 <= float(area.min()) < 0.52 and 0.78 < float(area.max()) <= 0.8 + 1e-3
    assert 0.9 - 1e-3 <= float(aspect.min()) < 0.91 and 1.09 < float(aspect.max()) <= 1.1 + 1e-3
    assert 0.4 < float((width < 0).float().mean()) < 0.6, "half of them are mirrored"
    assert float(output.min()) >= 0.0 and float(output.max()) <= 1.0
    left = output[:, 0, middle, middle] - width.abs() / 2
    assert float(left.min()) > -0.03 and float((left + width.abs()).max()) < 1.03
    assert float(left.std()) > 0.03, "crops lie in different places"


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.9])
def test_dropout_keeps_the_right_share_at_the_right_scale(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1000, 1000), 3.0)
    output = dropout(x, probability)
    kept = output != 0
    share, spread = float(kept.float().mean()), math.sqrt(probability * (1 - probability) / x.numel())
    assert abs(share - (1 - probability)) < 5 * spread + 1 / 65536
    torch.testing.assert_close(output[kept], torch.full_like(output[kept], 3.0 / (1 - probability)))


def test_dropout_draws_are_independent_of_their_neighbours() -> None:
    """Four elements share a 64-bit draw; neighbours and places must agree no more than by chance."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.5) != 0).double().view(-1, 4)
    flat = kept.flatten()
    for lag in range(1, 9):
        correlation = float(((flat[lag:] - 0.5) * (flat[:-lag] - 0.5)).mean()) * 4
        assert abs(correlation) < 5 / math.sqrt(len(flat))
    assert (kept.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(len(kept))


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 4, 5), (0, 4)])
def test_dropout_of_any_shape(shape: tuple[int, ...]) -> None:
    x = torch.ones(shape)
    assert dropout(x, 0.3).shape == x.shape
    assert dropout(x, 0.0) is x
    strided = torch.randn(6, 8).t()
    output = dropout(strided, 0.5)
    assert ((output == 0) | torch.isclose(output, 2 * strided)).all()


def test_dropout_gradient_is_its_mask() -> None:
    x = torch.randn(1000, requires_grad=True)
    output = dropout(x, 0.25)
    output.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), output.detach())


def test_dropout_almost_everything() -> None:
    for probability in (0.99999, 1 - 1e-9):
        assert float((dropout(torch.ones(10_000), probability) != 0).float().mean()) < 1e-2


def test_dropout_does_nothing_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.randn(100)
    assert not torch.equal(layer(x), x)
    assert torch.equal(layer.eval()(x), x)


def test_dropout_in_bf16() -> None:
    output = dropout(torch.ones(1000, dtype=torch.bfloat16), 0.5)
    assert output.dtype == torch.bfloat16 and set(output.float().tolist()) == {0.0, 2.0}
