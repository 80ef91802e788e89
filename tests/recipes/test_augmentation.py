"""Augmentation of single faces: moved, lit, covered; as cameras and codecs show them; two at once."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from Code.data.augment import to_float
from Code.recipes.augmentation import VARIED, FaceAugmentation, Mixing, jpeg_losses

NOTHING = {"roll": 0.0, "scale": 0.0, "shift": 0.0, "contrast": 0.0, "brightness": 0.0, "erase": 0.0}


def loss_of(logits, batch):
    return F.cross_entropy(logits, batch["labels"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(clips: int, frames: int = 1, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (clips, frames, channels, 48, 48), dtype=torch.uint8, generator=seeded(0))


# Moved, lit and covered


@pytest.mark.parametrize("size", [32, 96])
def test_without_strengths_only_resize_and_flip_are_left(size):
    frames = noise(40)
    images = FaceAugmentation(size, **NOTHING)(frames, seeded(0))[:, 0, :1]
    plain = F.interpolate(to_float(frames)[:, 0, :1], (size, size), mode="bilinear", align_corners=False)
    inner = slice(size // 48, size - size // 48)  # black outside of the image is visible at the border
    distances = torch.stack(
        [(images - other)[..., inner, inner].abs().amax((1, 2, 3)) for other in (plain, plain.flip(-1))]
    )
    assert (distances.amin(0) < 1e-4).all()
    assert 10 <= int((distances[1] < 1e-4).sum()) <= 30


def blob(number: int) -> Tensor:
    """Black images of 64 x 64 with a soft bright spot in the middle."""
    axis = torch.arange(64) - 31.5
    spot = 255 * torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 18)
    return spot.to(torch.uint8).expand(number, 1, 1, 64, 64).contiguous()


def test_shift_moves_by_no_more_than_its_strength_and_in_all_directions():
    images = FaceAugmentation(64, **NOTHING | {"shift": 0.25})(blob(100), seeded(0))[:, 0, 0]
    axis = torch.arange(64) - 31.5
    mass = images.sum((1, 2))
    moved = torch.stack([(images.sum(2) * axis).sum(1) / mass, (images.sum(1) * axis).sum(1) / mass])
    assert 6 < moved.abs().max() < 8.2  # a quarter of half the side is 8 pixels
    assert (moved.amax(1) > 5).all() and (moved.amin(1) < -5).all()


def test_roll_turns_by_no_more_than_its_strength():
    bar = torch.zeros(60, 1, 1, 64, 64, dtype=torch.uint8)
    bar[..., 30:34, 10:54] = 255
    images = FaceAugmentation(64, **NOTHING | {"roll": 20.0})(bar, seeded(0))[:, 0, 0]
    axis = torch.arange(64) - 31.5
    mixed = (images * axis[:, None] * axis[None, :]).sum((1, 2))
    spread = (images * (axis[None, :] ** 2 - axis[:, None] ** 2)).sum((1, 2))
    degrees = torch.rad2deg(torch.atan2(2 * mixed, spread) / 2)
    assert degrees.min() < -14 and degrees.max() > 14 and degrees.abs().max() < 20.5


def test_contrast_keeps_the_mean_and_scales_the_spread_and_brightness_adds():
    gray = torch.randint(110, 145, (50, 1, 1, 48, 48), dtype=torch.uint8, generator=seeded(0))
    plain = to_float(gray)
    images = FaceAugmentation(48, **NOTHING | {"contrast": 0.4})(gray, seeded(0))
    assert torch.allclose(images.mean((1, 2, 3, 4)), plain.mean((1, 2, 3, 4)), atol=1e-4)
    ratio = images.std((1, 2, 3, 4)) / plain.std((1, 2, 3, 4))
    assert 0.599 < ratio.min() < 0.7 and 1.3 < ratio.max() < 1.401
    change = (FaceAugmentation(48, **NOTHING | {"brightness": 0.2})(gray, seeded(0)) - plain).mean((1, 2, 3, 4))
    assert change.min() < -0.14 and change.max() > 0.14 and change.abs().max() < 0.201


def test_erasing_puts_one_box_of_one_gray_into_an_image():
    frames = noise(60)
    whole = FaceAugmentation(48, **NOTHING)(frames, seeded(0))[:, 0, 0]
    erased = FaceAugmentation(48, **NOTHING | {"erase": 1.0})(frames, seeded(0))[:, 0, 0]
    for before, after in zip(whole, erased, strict=True):
        rows, columns = torch.nonzero(before != after, as_tuple=True)
        box = after[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.unique().numel() == 1
        assert max(box.shape) <= 0.5 * 48 + 1


# As in videos


@pytest.mark.parametrize("channels", [1, 3])
def test_results_are_three_channels_in_zero_to_one_and_the_seed_decides_everything(channels):
    one, again, other = (FaceAugmentation(44, **VARIED)(noise(9, 2, channels), seeded(seed)) for seed in (4, 4, 5))
    assert one.shape == (9, 2, 3, 44, 44) and one.dtype == torch.float32
    assert float(one.min()) >= 0 and float(one.max()) <= 1
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("name", VARIED)
def test_each_variation_changes_pictures(name):
    still, varied = (FaceAugmentation(32, **NOTHING | more)(noise(8), seeded(3)) for more in ({}, {name: VARIED[name]}))
    assert not torch.allclose(varied, still, atol=1e-3)


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_losses_are_those_of_a_jpeg_file(quality):
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).resize((44, 40)))
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=quality)
    wanted = np.asarray(Image.open(file)).astype(np.float32)
    images = torch.from_numpy(smooth.copy()).float()[None, None] / 255
    found = jpeg_losses(images, torch.tensor([float(quality)]))[0, 0].numpy() * 255
    lost = np.abs(wanted - smooth).mean()
    assert np.abs(found - wanted).mean() < max(0.6, 0.25 * lost)


# Two faces at once


def test_mixing_blends_or_cuts_and_the_loss_counts_what_is_seen():
    frames = torch.zeros(6, 1, 3, 20, 20)
    frames[:] = torch.arange(6.0)[:, None, None, None, None] / 10
    targets = torch.eye(6)
    logits = torch.randn(6, 6, generator=seeded(0))
    mixing = Mixing(1.0, lambda images, generator: images, loss_of)
    cut = blended = 0
    for seed in range(20):
        mixed = mixing.transform(frames, seeded(seed))
        mean = mixed.mean(dim=(1, 2, 3, 4))  # of the two pictures' values, by area or by opacity
        weight, second = mixing.weight, mixing.second
        assert torch.allclose(mean, (weight * frames + (1 - weight) * frames[second]).mean((1, 2, 3, 4)), atol=1e-6)
        assert 0.5 <= weight <= 1
        soft = weight * targets + (1 - weight) * targets[second]
        expected = pytest.approx(float(F.cross_entropy(logits, soft)), abs=1e-5)
        assert float(mixing.loss(logits, {"labels": targets})) == expected
        constant = bool((mixed.flatten(1).std(dim=1) < 1e-6).all())
        blended, cut = blended + constant, cut + (not constant)
    assert cut and blended
    plain = Mixing(0.0, lambda images, generator: images, loss_of)
    assert torch.equal(plain.transform(frames, seeded(1)), frames)
    assert torch.equal(plain.loss(logits, {"labels": targets}), F.cross_entropy(logits, targets))
