"""How a person looks when neutral: a shift of the logits.

Some faces look surprised or sad to a network when they show nothing. A picture or stretch in which the person is known
to be neutral says which expressions it sees there by mistake; a part of them is taken away from the answer. The class
neutral itself stays (measured in docs/predicting.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.names import expression
from ..data.clips import DataError

PART = 0.5  # of the reference that is taken away; 0.25 to 0.75 are about as good
Reference = float | str | Path  # the first seconds in which the person is visible, or a file
NEUTRAL = expression("neutral")


def neutral_shift(frame_logits: Tensor, labels: Sequence[str]) -> Tensor:
    """What to add to the logits of a person, float [C].

    Args:
        frame_logits: float [T, C], of frames in which the person is neutral, each by itself.
        labels: C class names; where none is neutral, all of them are shifted.
    """
    mean = frame_logits.mean(dim=0)
    moved = torch.tensor([expression(label) != NEUTRAL for label in labels], device=mean.device)
    return -PART * (mean - mean.mean()) * moved


def checked_reference(reference: Reference | None) -> Reference | None:
    """A reference whose numbers are float.

    Raises:
        ValueError: a number is not above 0.
    """
    if not isinstance(reference, (int, float)):
        return reference
    if not 0 < reference < float("inf"):
        raise ValueError(f"neutral is {reference}; expected seconds above 0, or a file")
    return float(reference)


def first_seconds(times: np.ndarray, seconds: float) -> int:
    """How many of the frames that show a person (their times ascend, float64 [T]) are in the first seconds; at least 1.

    Raises:
        DataError: the frames have no times.
    """
    if np.isnan(times).any():
        raise DataError(f"the first {seconds:g} s as neutral: images have no times; name a picture or a video")
    return int(np.searchsorted(times, times[0] + seconds))


def in_words(reference: Reference) -> str:
    """The reference as the outputs name it."""
    return f"the first {reference:g} s" if isinstance(reference, float) else str(reference)
