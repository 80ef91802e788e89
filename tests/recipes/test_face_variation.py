"""Augmentation that imitates cameras, codecs and light, and two faces at once."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from Code.data.augment import to_float
from Code.recipes.face_variation import Mixing, VariedFaces, jpeg_losses

STILL = {
    name: 0.0
    for name in (
        *("roll", "scale", "shift", "stretch", "contrast", "brightness", "erase"),
        *("gamma", "light", "small", "blur", "jpeg", "noise", "tint"),
    )
}


def loss_of(logits, batch):
    return F.cross_entropy(logits, batch["labels"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(number: int, side: int = 32) -> Tensor:
    """uint8 [N, 1, 1, side, side], smooth pictures, each another."""
    place = torch.linspace(0, 1, side)
    rows = [(place[:, None] * (0.3 + 0.05 * i) + 0.5 * place[None] ** (i + 1)).clamp(0, 1) for i in range(number)]
    return (torch.stack(rows)[:, None, None] * 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [24, 44, 60])
def test_results_are_three_channels_in_zero_to_one(channels, size):
    frames = torch.randint(0, 256, (9, 1, channels, 32, 32), dtype=torch.uint8, generator=seeded(1))
    images = VariedFaces(size)(frames, seeded(2))
    assert images.shape == (9, 1, 3, size, size) and images.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1


def test_with_every_extent_zero_only_flips_remain():
    frames = gradients(8)
    images = VariedFaces(32, **STILL)(frames, seeded(0))
    plain = to_float(frames)
    same = [
        min(float((a - b).abs().max()), float((a - b.flip(-1)).abs().max())) for a, b in zip(images, plain, strict=True)
    ]
    assert max(same) < 2e-3


def test_the_seed_decides_everything():
    frames = gradients(6)
    one, again, other = (VariedFaces(40)(frames, seeded(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(set(STILL) - {"erase"}))
def test_each_variation_changes_pictures(name):
    frames = torch.randint(0, 256, (8, 1, 1, 32, 32), dtype=torch.uint8, generator=seeded(1))
    extent = getattr(VariedFaces(32), name) or 0.5
    still = VariedFaces(32, **STILL)(frames, seeded(3))
    assert not torch.allclose(VariedFaces(32, **{**STILL, name: extent})(frames, seeded(3)), still, atol=1e-3)


@pytest.mark.parametrize("quality", [10, 30, 50, 75])
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


def test_mixing_blends_or_cuts_and_the_loss_counts_what_is_seen():
    frames = torch.zeros(6, 1, 3, 20, 20)
    frames[:] = torch.arange(6.0)[:, None, None, None, None] / 10
    targets = torch.eye(6)
    logits = torch.randn(6, 6, generator=seeded(0))
    mixing = Mixing(1.0)
    transform, loss = mixing.frames(lambda images, generator: images), mixing.loss(loss_of)
    cut = blended = 0
    for seed in range(20):
        mixed = transform(frames, seeded(seed))
        seen = mixed.mean(dim=(1, 2, 3, 4))  # a mean of the two pictures' values, by area or by opacity
        partner = mixing._other
        assert torch.allclose(
            seen, (mixing._seen * frames + (1 - mixing._seen) * frames[partner]).mean((1, 2, 3, 4)), atol=1e-6
        )
        assert 0.5 <= mixing._seen <= 1
        soft = mixing._seen * targets + (1 - mixing._seen) * targets[partner]
        assert float(loss(logits, {"labels": targets})) == pytest.approx(float(F.cross_entropy(logits, soft)), abs=1e-5)
        constant = bool((mixed.flatten(1).std(dim=1) < 1e-6).all())
        blended, cut = blended + constant, cut + (not constant)
    assert cut and blended


def test_steps_that_are_not_mixed_are_left_alone():
    frames = torch.rand(4, 1, 3, 8, 8, generator=seeded(0))
    mixing = Mixing(0.0)
    assert torch.equal(mixing.frames(lambda images, generator: images)(frames, seeded(1)), frames)
    logits, targets = torch.randn(4, 8), torch.tensor([0, 1, 2, 3])
    assert torch.equal(mixing.loss(loss_of)(logits, {"labels": targets}), F.cross_entropy(logits, targets))
