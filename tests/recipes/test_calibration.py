"""Temperature scaling: the probabilities of a network that is too sure, corrected in its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from Code.network.attention import HEADS
from Code.network.checkpoints import CheckpointError
from Code.network.fan import FAN
from Code.network.weights import load_published, published_weights
from Code.recipes.calibration import calibration_error, fit_temperature, with_temperature


@pytest.fixture(scope="module")
def honest() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 20 000 clips, and labels drawn from their own probabilities."""
    torch.manual_seed(0)
    logits = 2 * torch.randn(20_000, 5)
    return logits, torch.multinomial(logits.softmax(dim=1), 1)[:, 0]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_that_a_network_is_off_by_is_found(honest, temperature):
    logits, labels = honest
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_the_calibration_error_is_the_mean_distance_of_certainty_and_accuracy(honest):
    logits, labels = honest
    assert calibration_error(logits.softmax(dim=1), labels) < 0.015
    too_sure = (3 * logits).softmax(dim=1)
    certainty, answer = too_sure.max(dim=1)
    right = (answer == labels).float().numpy()
    bins = np.ceil(certainty.double().numpy() * 15)
    parts = [
        (bins == each).mean() * abs(right[bins == each].mean() - certainty.numpy()[bins == each].mean())
        for each in np.unique(bins)
    ]
    assert calibration_error(too_sure, labels) == pytest.approx(sum(parts), abs=2e-4)
    assert sum(parts) > 0.1


@pytest.mark.parametrize("at_type", sorted(HEADS))
def test_a_file_with_a_temperature_answers_the_same_but_less_surely(at_type):
    torch.manual_seed(at_type)
    fan = FAN(at_type, 4).eval()
    changed = with_temperature({"state_dict": published_weights(fan), "backbone": "resnet18"}, 2.0)
    cooler = FAN(at_type, 4).eval()
    load_published(cooler, changed)
    clip = torch.rand(1, 3, 3, 32, 32)
    with torch.inference_mode():
        before, after = fan(clip), cooler(clip)
    assert torch.allclose(after.logits, before.logits / 2, atol=1e-6)
    assert torch.equal(after.weights, before.weights)


def test_a_file_without_a_classifier_is_refused():
    with pytest.raises(CheckpointError, match="no classifier"):
        with_temperature({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, 2.0)
