"""Intervals by resampling clips: of a UAR, and of the difference between two networks on the same clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_CHUNK = 500  # resamples at once: memory stays at some MB for thousands of clips


@dataclass(frozen=True)
class Difference:
    """First minus second, with its 95 % percentile interval over resampled clips (all as shares of 1)."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def uar_interval(confusion: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean recall of the classes that occur.

    Clips are drawn again within their class, so that every class keeps its number of clips.

    Args:
        confusion: int [C, C], a row per true class.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    support = counts.sum(axis=1)
    present = support > 0
    hits, clips = counts.diagonal()[present], support[present]
    drawn = np.random.default_rng(seed).binomial(clips, hits / clips, (resamples, len(clips))) / clips
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    classes: ArrayLike,
    *,
    balanced: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """How much better the first network is than the second on the same clips.

    The same resampled clips count for both networks: what makes a clip hard for either cancels out. Clips are
    drawn again within their class.

    Args:
        first, second: float [clips], 1 where a clip is right and 0 where it is wrong, or the share of several
            seeds' networks that have it right.
        classes: int [clips], true classes.
        balanced: compare UAR (the mean over classes) instead of WAR (the mean over clips).
    """
    gain = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    truth = np.asarray(classes)
    if gain.ndim != 1 or truth.shape != gain.shape or not len(gain):
        raise ValueError(f"expected one value per clip of one or more, got {gain.shape} and {truth.shape}")
    groups = [gain[truth == which] for which in np.unique(truth)]
    parts = np.array([1 / len(groups)] * len(groups) if balanced else [len(group) / len(gain) for group in groups])
    value = float(parts @ [group.mean() for group in groups])
    rng = np.random.default_rng(seed)
    drawn: NDArray[np.float64] = np.concatenate(
        [
            sum(
                part * group[rng.integers(0, len(group), (min(_CHUNK, resamples - start), len(group)))].mean(axis=1)
                for part, group in zip(parts, groups, strict=True)
            )
            for start in range(0, resamples, _CHUNK)
        ]
    )
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference(value, float(low), float(high))
