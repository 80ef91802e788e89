"""From uint8 frames to the input of the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from Code.data.augment import FlippedClips, PlainFrames, to_float


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


@pytest.mark.parametrize("size", [2, 8, 20])
def test_conversion_resizes_where_a_size_is_asked_for(size):
    frames = noise(2, 3, 1, 8, 8)
    floats = PlainFrames(size)(frames)
    assert floats.shape == (2, 3, 3, size, size) and floats.min() >= 0 and floats.max() <= 1
    assert float(floats.mean()) == pytest.approx(float(frames.float().mean()) / 255, abs=0.02)


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
