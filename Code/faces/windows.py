"""A long video as a curve: one answer per window of time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from Code.data.clips import DataError


@dataclass(frozen=True)
class Curve:
    """What the network says about W windows of one video.

    Attributes:
        labels: C class names, in the network's order.
        starts, ends: float64 [W], seconds; a window holds the frames with start <= time < end.
        probabilities: float64 [W, C]; NaN where nobody shows a face.
        faces: int64 [W], frames that the answer rests on.
        tracks: int64 [W], whose face it is: the main person of that window; -1: nobody.
    """

    labels: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    probabilities: np.ndarray
    faces: np.ndarray
    tracks: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def expressions(self) -> list[str]:
        """The most probable label of each window; empty where nobody shows a face."""
        return [
            self.labels[int(np.argmax(row))] if count else ""
            for row, count in zip(self.probabilities, self.faces, strict=True)
        ]

    def at(self, time: float) -> int:
        """Index of the window whose middle is nearest to a time in seconds; of equal ones the earlier."""
        return int(np.abs((self.starts + self.ends) / 2 - time).argmin())


def windows(times: np.ndarray, window: float, stride: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where windows begin and end: starts 0, stride, ... until one reaches the end; the last may be shorter.

    Args:
        times: float64 [P], seconds, ascending.
        window: length in seconds.
        stride: from one start to the next, in seconds; None: half a window.

    Returns:
        starts and ends, float64 [W], W > 0.

    Raises:
        DataError: if the frames have no times.
        ValueError: if window or stride is not above zero.
    """
    stride = window / 2 if stride is None else stride
    if not (0 < window < math.inf and 0 < stride < math.inf):
        raise ValueError(f"window {window} and stride {stride} must be above zero")
    if np.isnan(times).any():
        raise DataError("windows need times, and images have none; give a video")
    length = float(times[-1])
    count = 1 + max(0, math.ceil((length - window) / stride + 1e-9))
    starts = np.arange(count) * stride
    # A stride above the window may step beyond the last frame.
    starts = starts[starts <= length]
    return starts, starts + window
