"""The network computes what the published code computes: numbers in golden/published_k3.npz.

The file holds, for weights known by a rule and 4 clips of 3 frames, features, attention, logits, losses and
gradients of both attentions of the published FAN, batch norm in evaluation mode and dropout off.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from Code.network.fan import FAN, FANOutput
from Code.network.weights import load_published, published_weights

GOLDEN = np.load(Path(__file__).parent / "golden" / "published_k3.npz")
NAMES = {0: "self", 1: "relation"}


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The rule of the golden numbers: every tensor from a generator of its own, seeded by its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        values = rng.normal(0, 0.1, shape)
    elif len(shape) == 4:
        values = rng.normal(0, np.sqrt(2 / (shape[1] * shape[2] * shape[3])), shape)
    elif len(shape) == 2:
        values = rng.normal(0, np.sqrt(1 / shape[1]), shape)
    elif name.endswith("bn2.weight"):
        values = rng.uniform(0.2, 0.4, shape)
    elif name.endswith("weight"):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)


def golden_fan(at_type: int) -> FAN:
    fan = FAN(at_type, 7)
    shapes = {name: tuple(value.shape) for name, value in published_weights(fan).items()}
    load_published(fan, {name: torch.from_numpy(golden_weight(name, shapes[name])) for name in shapes})
    return fan.eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    pixels = torch.from_numpy(GOLDEN["frames_7x7"]).permute(0, 1, 4, 2, 3)  # [4, 3, 3, 7, 7]
    return pixels.repeat_interleave(32, dim=3).repeat_interleave(32, dim=4) / 255


@pytest.fixture(scope="module", params=[0, 1], ids=["self", "relation"])
def passed(request: pytest.FixtureRequest, frames: torch.Tensor) -> tuple[FAN, FANOutput, torch.Tensor]:
    """A network after its backward pass, what it said, and its loss."""
    fan = golden_fan(request.param)
    out = fan(frames)
    loss = cross_entropy(out.logits, torch.from_numpy(GOLDEN["target"]))
    loss.backward()
    return fan, out, loss


def assert_close(ours: torch.Tensor, name: str, tolerance: float) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), GOLDEN[name], rtol=0, atol=tolerance)


def test_features(frames: torch.Tensor) -> None:
    with torch.no_grad():
        features = golden_fan(0).encode(frames.flatten(0, 1))
    assert_close(features.reshape(4, 3, 512), "features", 1e-4)


def test_attention(passed: tuple[FAN, FANOutput, torch.Tensor]) -> None:
    fan, out, _ = passed
    assert_close(out.alpha, "alpha", 1e-4)
    assert_close(out.clip_features[:, -512:], "global_feature", 1e-4)
    if fan.at_type == 0:
        assert out.beta is None
    else:
        assert out.beta is not None
        assert_close(out.beta, "beta", 1e-4)


def test_logits_and_loss(passed: tuple[FAN, FANOutput, torch.Tensor]) -> None:
    fan, out, loss = passed
    assert_close(out.logits, f"logits_{NAMES[fan.at_type]}", 1e-4)
    assert_close(loss, f"loss_{NAMES[fan.at_type]}", 1e-4)


def test_gradients(passed: tuple[FAN, FANOutput, torch.Tensor]) -> None:
    fan, _, _ = passed
    attention = NAMES[fan.at_type]
    head = [key for key in GOLDEN.files if key.startswith(f"grad_{attention}:")]
    assert len(head) == 2 + fan.at_type
    for key in head:
        ours = fan.head.get_parameter(key.split(":")[1]).grad
        assert ours is not None
        error = np.linalg.norm(ours.numpy() - GOLDEN[key]) / np.linalg.norm(GOLDEN[key])
        assert error < 1e-3, f"{key}: relative error {error:.1e}"
    assert fan.backbone.network.conv1.weight.grad is not None
    norm = float(fan.backbone.network.conv1.weight.grad.norm())
    assert norm == pytest.approx(float(GOLDEN[f"gradnorm_{attention}:conv1.weight"]), rel=1e-3)


def test_evaluation_uses_the_formula_of_training(frames: torch.Tensor) -> None:
    """The published code evaluated relation-attention with another formula than it trained with."""
    fan = golden_fan(1)
    padded = torch.cat([frames, torch.full_like(frames[:, :2], 0.5)], dim=1)  # [4, 5, 3, 224, 224]
    with torch.no_grad():
        out = fan(padded, torch.tensor([3, 3, 3, 3]))
    assert_close(out.logits, "logits_relation", 1e-4)
