"""Conversion of frames and their augmentation: what changes, what does not, and reproducible randomness."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from Code.data.augment import FlippedClips, PlainFrames, to_float


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (2, 4, 1, 8, 8)])
def test_conversion_is_a_division_by_255_and_draws_nothing(shape):
    frames, generator = noise(*shape), seeded(3)
    before = generator.get_state()
    floats = PlainFrames()(frames, generator)
    assert floats.dtype == torch.float32
    assert torch.equal(floats, (frames.float() / 255).expand(*shape[:-3], 3, 8, 8))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("size", [2, 20])
def test_conversion_resizes_where_a_size_is_asked_for(size):
    frames = noise(2, 3, 1, 8, 8)
    floats = PlainFrames(size)(frames)
    assert floats.shape == (2, 3, 3, size, size) and floats.min() >= 0 and floats.max() <= 1
    assert float(floats.mean()) == pytest.approx(float(frames.float().mean()) / 255, abs=0.02)


def test_half_of_the_clips_are_flipped_all_frames_alike_as_the_seed_says():
    frames = noise(200, 3, 3, 4, 6)
    flipped = FlippedClips()(frames, seeded(0))
    plain, mirrored = to_float(frames), to_float(frames.flip(-1))
    kept = [torch.equal(clip, other) for clip, other in zip(flipped, plain, strict=True)]
    turned = [torch.equal(clip, other) for clip, other in zip(flipped, mirrored, strict=True)]
    assert all(one != other for one, other in zip(kept, turned, strict=True))
    assert 75 <= sum(turned) <= 125
    assert torch.equal(FlippedClips()(frames, seeded(0)), flipped)
    assert not torch.equal(FlippedClips()(frames, seeded(1)), flipped)
