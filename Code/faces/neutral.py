"""How a person looks when neutral: a shift of the answers.

A picture or stretch in which a person is known to be neutral says how this face differs from others; a part of that is
taken away from the features of the person's clips, before they are classified (measured in docs/predicting.md):

    x - PART (neutral feature of the person - mean neutral feature of people)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..common.errors import UsageError
from ..common.names import expression
from ..data.clips import DataError
from ..network.fan import FAN

PART = 0.5  # of the difference that is taken away; 0.5 to 1 are about as good
AUTO = "auto"
# Seconds. In single acted clips there is no neutral second to find: 17 of 30 are right without, 10 with `AUTO`.
STRETCH, LONG = 1.0, 10.0
# The first seconds in which the person is visible, `AUTO`, or what shows them: a file, an array, a picture.
Reference = float | str | Path | np.ndarray | Image.Image
NEUTRAL = expression("neutral")


def neutral_shift(fan: FAN, features: Tensor, info: Mapping[str, Any]) -> Tensor:
    """What the rule does to the logits of the person, float [C]: classifiers are linear.

    Args:
        features: float [T, D], of frames in which the person is neutral.
        info: of `load_fan`. A network that does not say its mean neutral feature takes the face that gives every class
            but neutral the same logit, so that the logit of neutral stays.
    """
    classifier, reference = fan.classifier, fan.attend(features[None]).clip_features[0]
    if info["neutral_feature"] is not None:
        mean = torch.tensor(info["neutral_feature"], device=reference.device)  # [D]
        return -PART * classifier.weight @ (reference - mean.repeat(len(reference) // len(mean)))
    logits = classifier(reference)
    moved = torch.tensor([expression(label) != NEUTRAL for label in info["labels"]], device=logits.device)
    return -PART * (logits - logits.mean()) * moved


def is_in_input(reference: Reference) -> bool:
    """Whether a reference is a part of the input: seconds or `AUTO`."""
    return isinstance(reference, (int, float)) or (isinstance(reference, str) and reference == AUTO)


def neutral_frames(
    fan: FAN, features: Tensor, times: np.ndarray, reference: Reference, labels: Sequence[str]
) -> tuple[slice, str]:
    """Which of the frames that show a person (features [T, D], times float64 [T], ascending) are neutral, and in words.

    `reference` in seconds: the first ones, at least one frame; `AUTO`: the second that looks most neutral.
    ValueError: a number is not above 0. DataError: the frames have no times, or `AUTO` cannot tell.
    """
    if isinstance(reference, (int, float)) and not 0 < reference < float("inf"):
        raise UsageError(f"neutral is {reference}; expected seconds above 0, a file, or {AUTO}")
    if np.isnan(times).any():
        raise DataError("neutral: images have no times in which to find it; name a picture or a video")
    if isinstance(reference, (int, float)):
        return slice(0, int(np.searchsorted(times, times[0] + reference))), f"the first {reference:g} s"
    neutral = [expression(label) == NEUTRAL for label in labels]
    if not any(neutral):
        raise DataError("neutral auto: the network has no class neutral; name a picture or a video")
    if times[-1] - times[0] < LONG:
        raise DataError(
            f"neutral auto: the person is visible for {times[-1] - times[0]:.1f} s, but the most neutral second "
            f"of less than {LONG:g} s may show an expression; name a picture or a video"
        )
    starts = np.arange(times[0], times[-1], STRETCH / 2)
    spans = np.searchsorted(times, np.stack([starts, starts + STRETCH], axis=1))
    parts = [slice(int(first), int(last)) for first, last in spans if first < last]
    shares = [fan.attend(features[None, part]).logits[0].softmax(dim=0)[neutral].sum().item() for part in parts]
    best = parts[int(np.argmax(shares))]
    return best, f"{times[best][0]:.1f} to {times[best][-1]:.1f} s, where the person looks most neutral"
