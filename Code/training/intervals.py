"""Confidence intervals for WAR, UAR and paired differences that also hold for few clips and rare classes.

All of them are score intervals: they hold every value that a score test at 5 % does not reject. The variance of the
test is computed under the tested value, by constrained maximum likelihood, and not from the observed clips. This is
why the intervals stay right where a bootstrap or a t interval collapses: at 5 of 5 clips, or in a class of one clip.

- WAR: one proportion. The interval is Wilson's (1927); `scipy.stats.binomtest` computes the same.
- UAR: the mean of one proportion per class. Score interval for a linear combination of proportions (Martín Andrés,
  Álvarez Hernández & Herranz Tejedor, Statistical Methods in Medical Research 20, 2011), with the factor N / (N - 1)
  of Miettinen & Nurminen (Statistics in Medicine 4, 1985).
- Difference of two networks on the same clips, WAR: Tango's interval for paired proportions (Statistics in Medicine
  17, 1998).
- The same, UAR: the constrained likelihood of Tango's interval in each class, combined as for UAR.

Networks that were trained with several seeds count with the share of them that is right, between 0 and 1; the
likelihood is then that of the observed shares (Owen, Empirical Likelihood, 2001), extended to the ends of the range.

tests/training/test_intervals.py measures how often these intervals hold the true value, from 5 to 400 clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_CLIPS = 5  # pages and tables show no interval of fewer clips
TOO_FEW = "too few clips for an interval"
_Z = NormalDist().inv_cdf(0.975)
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """First minus second with its 95 % interval, all as shares of 1."""

    value: float
    low: float
    high: float
    clips: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; False for fewer than `MIN_CLIPS` clips."""
        return self.clips >= MIN_CLIPS and (self.low > 0 or self.high < 0)


def uar_interval(hits: ArrayLike, support: ArrayLike) -> tuple[float, float]:
    """95 % interval of the mean recall of the classes that occur.

    Args:
        hits: int [C], right clips of each class.
        support: int [C], all clips of each class, at least one together.

    Returns:
        (low, high) in [0, 1].
    """
    right, clips = np.asarray(hits), np.asarray(support)
    return score_interval(np.array([0.0, 1.0]), np.stack([clips - right, right], axis=1)[clips > 0], 0.0, 1.0)


def paired_difference(first: ArrayLike, second: ArrayLike, classes: ArrayLike, *, balanced: bool = False) -> Difference:
    """How much better the first network is than the second on the same clips.

    Args:
        first, second: float [clips], 1 where a clip is right and 0 where it is wrong, or the share of several
            seeds' networks that are right.
        classes: int [clips], true classes.
        balanced: compare UAR (the mean over classes) instead of WAR (the mean over clips).
    """
    gain = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    truth = np.asarray(classes)
    groups = [truth == which for which in np.unique(truth)] if balanced else [truth == truth]
    values, places = np.unique(gain.round(9), return_inverse=True)
    counts = np.array([np.bincount(places[group], minlength=len(values)) for group in groups])
    low, high = score_interval(values, counts, -1.0, 1.0)
    return Difference(float(np.mean([gain[group].mean() for group in groups])), low, high, len(gain))


def score_interval(values: _Floats, counts: ArrayLike, lowest: float, highest: float) -> tuple[float, float]:
    """95 % score interval for the mean over classes of each class's mean value.

    Args:
        values: float [V], the different values that clips have.
        counts: int [C, V], how many clips of each class have each value; no class is empty.
        lowest, highest: the range of values that a clip could have.
    """
    table = np.asarray(counts, dtype=np.float64)
    low = _lower_limit(np.asarray(values, dtype=np.float64), table, lowest)
    high = -_lower_limit(-np.asarray(values, dtype=np.float64), table, -highest)
    return low, high


def _lower_limit(values: _Floats, counts: _Floats, lowest: float) -> float:
    """The smallest mean that the score test does not reject."""
    from scipy.optimize import brentq  # takes half a second; pages of finished runs do not need it

    above = values - lowest  # [V]
    clips = counts.sum(axis=1)  # [C]
    num_classes, total = len(clips), clips.sum()
    observed = float((counts @ above / clips).mean())
    if observed <= 0:
        return lowest
    # With one class the interval is exactly Wilson's or Tango's, which have no correction.
    correction = total / (total - 1) if num_classes > 1 and total > 1 else 1.0

    def constrained(log_tilt: float) -> tuple[float, float]:
        """The mean and its standard error once the data are tilted towards the lowest value."""
        shares = _tilted(above, counts, clips, float(np.exp(log_tilt)))
        means = shares @ above
        variances = np.maximum(shares @ above**2 - means**2, 0)
        return float(means.mean()), float(np.sqrt(correction * (variances / clips).sum()) / num_classes)

    def excess(log_tilt: float) -> float:
        mean, error = constrained(log_tilt)
        return observed - mean - _Z * error - 1e-12

    return lowest + max(constrained(brentq(excess, -20.0, 40.0, xtol=1e-9))[0], 0.0)


def _tilted(above: _Floats, counts: _Floats, clips: _Floats, tilt: float) -> _Floats:
    """The most likely shares of the values in each class once their mean is pulled down: float [C, V].

    They maximize sum(counts * log(shares)) - tilt * mean. The solution is counts / (level + tilt * above), with a
    level >= 0 for each class such that its shares sum to 1. Where even level 0 gives less than 1, the rest belongs to
    the lowest value, which no clip of the class has; it adds nothing to the mean, since `above` is 0 there.
    """
    pull = tilt * above
    # No share exceeds 1, so this is below the solution. The sum is convex in the level: Newton's method rises to it.
    level = np.maximum((counts - pull).max(axis=1), 0.0)
    for _ in range(100):
        bottom = level[:, None] + pull
        shares = np.divide(counts, bottom, out=np.zeros_like(counts), where=counts > 0)
        slope = np.divide(shares, bottom, out=np.zeros_like(counts), where=counts > 0).sum(axis=1)
        step = np.maximum(shares.sum(axis=1) - 1, 0) / np.maximum(slope, 1e-300)
        level += step
        if (step <= 1e-13 * clips).all():
            break
    return shares


def interval_text(interval: Sequence[float], clips: int, digits: int = 1) -> str:
    """`95 % interval 30.1 to 95.4 %`, or why there is none."""
    if clips < MIN_CLIPS:
        return TOO_FEW
    low, high = (f"{100 * end:.{digits}f}" for end in interval)
    return f"95 % interval {low} to {high} %"


def difference_text(difference: Difference, digits: int = 2) -> str:
    """`-1.20 to +4.10` in points, or why there is none."""
    if difference.clips < MIN_CLIPS:
        return TOO_FEW
    return f"{100 * difference.low:+.{digits}f} to {100 * difference.high:+.{digits}f}"
