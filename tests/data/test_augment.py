"""From uint8 frames to the input of the network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from Code.data.augment import FaceAugmentation, FlippedClips, PlainFrames, to_float

NOTHING = {"roll": 0.0, "scale": 0.0, "shift": 0.0, "contrast": 0.0, "brightness": 0.0, "erase": 0.0}


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Conversion


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (2, 4, 3, 8, 8), (2, 4, 1, 8, 8)])
def test_conversion_is_a_division_by_255_and_nothing_else(shape):
    frames = noise(*shape)
    floats = to_float(frames)
    assert floats.dtype == torch.float32 and floats.shape == (*shape[:-3], 3, 8, 8)
    assert torch.equal(floats, (frames.float() / 255).expand(*shape[:-3], 3, 8, 8))


def test_black_is_zero_and_white_is_one():
    assert to_float(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)).unique().tolist() == [1.0]
    assert to_float(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)).unique().tolist() == [0.0]


@pytest.mark.parametrize("size", [2, 8, 20])
def test_conversion_resizes_where_a_size_is_asked_for(size):
    frames = noise(2, 3, 1, 8, 8)
    floats = PlainFrames(size)(frames)
    assert floats.shape == (2, 3, 3, size, size) and floats.min() >= 0 and floats.max() <= 1
    assert float(floats.mean()) == pytest.approx(float(frames.float().mean()) / 255, abs=0.02)


def test_shrinking_takes_every_pixel_into_account():
    dark = torch.zeros(1, 1, 1, 8, 8, dtype=torch.uint8)
    dark[..., 0, 0] = 255  # without antialiasing, interpolation would read rows and columns 1, 2, 5 and 6
    assert PlainFrames(2)(dark)[0, 0, 0, 0, 0] > 0


def test_evaluation_draws_nothing():
    generator = seeded(3)
    before = generator.get_state()
    frames = noise(2, 3, 3, 8, 8)
    assert torch.equal(PlainFrames()(frames, generator), to_float(frames))
    assert torch.equal(generator.get_state(), before)


# Flips


def test_frames_of_a_clip_are_flipped_together_and_about_half_of_the_clips_are():
    frames = noise(200, 3, 3, 4, 6)
    flipped = FlippedClips()(frames, seeded(0))
    plain, mirrored = to_float(frames), to_float(frames.flip(-1))
    kept = [torch.equal(clip, other) for clip, other in zip(flipped, plain, strict=True)]
    turned = [torch.equal(clip, other) for clip, other in zip(flipped, mirrored, strict=True)]
    assert all(one != other for one, other in zip(kept, turned, strict=True))
    assert 75 <= sum(turned) <= 125


def test_flips_follow_the_seed():
    frames = noise(20, 2, 3, 4, 4)
    assert torch.equal(FlippedClips()(frames, seeded(1)), FlippedClips()(frames, seeded(1)))
    assert not torch.equal(FlippedClips()(frames, seeded(1)), FlippedClips()(frames, seeded(2)))


# Augmentation of stills


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 48, 64])
def test_augmented_images_have_the_asked_size_and_stay_in_range(channels, size):
    images = FaceAugmentation(size)(noise(6, 2, channels, 48, 48), seeded(0))
    assert images.shape == (6, 2, 3, size, size) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    if channels == 1:
        assert torch.equal(images[:, :, 0], images[:, :, 2])


def test_augmentation_follows_the_seed():
    frames = noise(8, 1, 1, 48, 48)
    first = FaceAugmentation(32)(frames, seeded(5))
    assert torch.equal(first, FaceAugmentation(32)(frames, seeded(5)))
    assert not torch.equal(first, FaceAugmentation(32)(frames, seeded(6)))


@pytest.mark.parametrize("size", [32, 48, 96])
def test_without_strengths_only_resize_and_flip_are_left(size):
    frames = noise(40, 1, 1, 48, 48)
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


def test_scale_changes_the_size_by_no_more_than_its_strength():
    areas = FaceAugmentation(64, **NOTHING | {"scale": 0.2})(blob(100), seeded(0)).sum((1, 2, 3, 4))
    relative = (areas / (3 * to_float(blob(1))[0, 0, 0].sum())) ** 0.5
    assert 1 / 1.2 - 0.01 < relative.min() < 0.88 and 1.14 < relative.max() < 1 / 0.8 + 0.01


def test_roll_turns_by_no_more_than_its_strength():
    bar = torch.zeros(60, 1, 1, 64, 64, dtype=torch.uint8)
    bar[..., 30:34, 10:54] = 255
    images = FaceAugmentation(64, **NOTHING | {"roll": 20.0})(bar, seeded(0))[:, 0, 0]
    axis = torch.arange(64) - 31.5
    mixed = (images * axis[:, None] * axis[None, :]).sum((1, 2))
    spread = (images * (axis[None, :] ** 2 - axis[:, None] ** 2)).sum((1, 2))
    degrees = torch.rad2deg(torch.atan2(2 * mixed, spread) / 2)
    assert degrees.min() < -14 and degrees.max() > 14 and degrees.abs().max() < 20.5


def test_brightness_adds_one_value_to_an_image():
    gray = torch.randint(100, 150, (50, 1, 1, 48, 48), dtype=torch.uint8, generator=seeded(0))
    change = FaceAugmentation(48, **NOTHING | {"brightness": 0.2})(gray, seeded(0))[:, 0, 0].mean((1, 2))
    change -= to_float(gray)[:, 0, 0].mean((1, 2))
    assert change.min() < -0.14 and change.max() > 0.14 and change.abs().max() < 0.201


def test_contrast_keeps_the_mean_and_scales_the_spread():
    gray = torch.randint(110, 145, (50, 1, 1, 48, 48), dtype=torch.uint8, generator=seeded(0))
    images, plain = FaceAugmentation(48, **NOTHING | {"contrast": 0.4})(gray, seeded(0)), to_float(gray)
    assert torch.allclose(images.mean((1, 2, 3, 4)), plain.mean((1, 2, 3, 4)), atol=1e-4)
    ratio = images.std((1, 2, 3, 4)) / plain.std((1, 2, 3, 4))
    assert 0.599 < ratio.min() < 0.7 and 1.3 < ratio.max() < 1.401


def test_erasing_puts_one_box_of_one_gray_into_an_image():
    frames = noise(60, 1, 1, 48, 48)
    whole = FaceAugmentation(48, **NOTHING)(frames, seeded(0))[:, 0, 0]
    erased = FaceAugmentation(48, **NOTHING | {"erase": 1.0})(frames, seeded(0))[:, 0, 0]
    for before, after in zip(whole, erased, strict=True):
        rows, columns = torch.nonzero(before != after, as_tuple=True)
        box = after[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.unique().numel() == 1
        assert max(box.shape) <= 0.5 * 48 + 1
