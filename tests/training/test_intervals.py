"""Intervals agree with published methods where these exist, and hold the true value as often as they say."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest

from Code.training.intervals import (
    MIN_CLIPS,
    TOO_FEW,
    Difference,
    difference_text,
    interval_text,
    paired_difference,
    score_interval,
    uar_interval,
)

# Clips of each class: from 5 to 400 clips, balanced and not. CK+ and AFEW have these classes.
LAYOUTS = {
    "5 in 5 classes": (1,) * 5,
    "5 in 2 classes, 4:1": (4, 1),
    "10 in 7 classes": (3, 2, 1, 1, 1, 1, 1),
    "10 in 2 classes, 9:1": (9, 1),
    "20 in 7 classes": (8, 4, 3, 2, 1, 1, 1),
    "50 in 7 classes": (20, 12, 8, 5, 3, 1, 1),
    "50 in 7 classes, balanced": (8, 7, 7, 7, 7, 7, 7),
    "100 in 2 classes, 95:5": (95, 5),
    "100 in 7 classes": (45, 25, 12, 8, 5, 3, 2),
    "327 in 7 classes, CK+": (45, 18, 59, 25, 69, 28, 83),
    "381 in 7 classes, AFEW": (63, 64, 39, 46, 59, 61, 49),
    "400 in 11 classes": (150, 90, 60, 40, 20, 15, 10, 6, 5, 3, 1),
}
FAST = ("5 in 5 classes", "10 in 2 classes, 9:1", "50 in 7 classes", "100 in 7 classes", "381 in 7 classes, AFEW")
LEVELS = (0.2, 0.35, 0.5, 0.7, 0.85, 0.95)  # of WAR or UAR, about
DISAGREEING = (0.15, 0.3, 0.5)  # share of clips that one network has right and the other wrong, about


@lru_cache(maxsize=200_000)
def interval_of_recalls(wrong_and_right: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    """`uar_interval` of few clips gives few different results."""
    return score_interval(np.array([0.0, 1.0]), wrong_and_right, 0.0, 1.0)


@lru_cache(maxsize=200_000)
def interval_of_gains(worse_same_better: tuple[tuple[int, int, int], ...]) -> tuple[float, float]:
    return score_interval(np.array([-1.0, 0.0, 1.0]), worse_same_better, -1.0, 1.0)


def coverage_of_rates(layout: tuple[int, ...], draws: int, seed: int) -> tuple[float, float]:
    """How often the intervals of (WAR, UAR) hold the true one, over networks of all levels.

    Each draw is another network: its recalls are spread around a level, so that no single lucky number decides.
    """
    rng, clips = np.random.default_rng(seed), np.array(layout)
    held = np.zeros(2)
    for level in LEVELS:
        recalls = rng.beta(6 * level, 6 * (1 - level), (draws, len(clips)))
        for truth, right in zip(recalls, rng.binomial(clips, recalls), strict=True):
            counts = tuple((int(n - k), int(k)) for n, k in zip(clips, right, strict=True))
            war, uar = (truth * clips).sum() / clips.sum(), truth.mean()
            # Of one proportion: the same in each class, as Wilson's interval supposes.
            single = int(rng.binomial(clips.sum(), war))
            low, high = interval_of_recalls(((int(clips.sum()) - single, single),))
            held[0] += low <= war <= high
            low, high = interval_of_recalls(counts)
            held[1] += low <= uar <= high
    return tuple(held / (draws * len(LEVELS)))


def coverage_of_differences(layout: tuple[int, ...], draws: int, seed: int) -> tuple[float, float]:
    """The same of paired differences in (WAR, UAR)."""
    rng, clips = np.random.default_rng(seed), np.array(layout)
    held = np.zeros(2)
    for level in DISAGREEING:
        share = rng.beta(8 * level, 8 * (1 - level), (draws, len(clips)))
        better = share * rng.beta(5, 3, (draws, len(clips)))
        for win, loss in zip(better, share - better, strict=True):
            counts = rng.multinomial(clips, np.stack([loss, np.maximum(1 - win - loss, 0), win], axis=1))
            pooled = counts.sum(axis=0, keepdims=True)
            war, uar = ((win - loss) * clips).sum() / clips.sum(), (win - loss).mean()
            for at, (table, truth) in enumerate(((pooled, war), (counts, uar))):
                low, high = interval_of_gains(tuple(map(tuple, table.tolist())))
                held[at] += low <= truth <= high
    return tuple(held / (draws * len(DISAGREEING)))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "draws"),
    [*((name, 100) for name in FAST), *(pytest.param(name, 600, marks=pytest.mark.slow) for name in LAYOUTS)],
)
def test_intervals_hold_as_often_as_they_say(name: str, draws: int) -> None:
    """Nominal 95 %. Rates: 93 to 98 %. Differences: from 93 %, and at most 98 % once enough clips can disagree.

    Two networks that disagree on two or three clips leave few possible results, and no interval of finitely many
    results comes closer than these: they err on the side of saying too little.
    """
    rates = coverage_of_rates(LAYOUTS[name], draws, 1)
    differences = coverage_of_differences(LAYOUTS[name], draws // 2, 1)
    highest = 0.98 + 0.5 / draws
    assert all(0.93 <= value <= highest for value in rates), rates
    assert min(differences) >= 0.93
    if min(LAYOUTS[name]) >= 7:
        assert max(differences) <= highest


@pytest.mark.parametrize("clips", [1, 5, 12, 400])
def test_of_one_proportion_it_is_wilsons_interval(clips: int) -> None:
    for right in {0, 1, clips // 2, clips - 1, clips}:
        expected = binomtest(right, clips).proportion_ci(method="wilson")
        found = score_interval(np.array([0.0, 1.0]), [[clips - right, right]], 0.0, 1.0)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-7)


@pytest.mark.parametrize(("better", "worse", "clips"), [(1, 0, 44), (12, 3, 60), (0, 0, 10), (7, 7, 30), (9, 0, 9)])
def test_of_one_pair_it_is_tangos_interval(better: int, worse: int, clips: int) -> None:
    def z(gain: float) -> float:
        """Tango (1998), equations 3 to 5: the constrained share of `worse` in closed form."""
        a, b = 2 * clips, -better - worse + (2 * clips - better + worse) * gain
        c = -worse * gain * (1 - gain)
        share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        spread = clips * (2 * share + gain * (1 - gain))
        return float((better - worse - clips * gain) / np.sqrt(max(spread, 1e-300)))

    limit, value = 1.959963984540054, (better - worse) / clips
    first, second = np.repeat([1.0, 0.0, 0.0], [better, worse, clips - better - worse]), np.zeros(clips)
    second[better : better + worse] = 1
    found = paired_difference(first, second, np.zeros(clips))
    assert found.value == pytest.approx(value)
    if value > -1:
        low = brentq(lambda gain: z(gain) - limit, -1 + 1e-9, value - 1e-9)
        assert found.low == pytest.approx(low, abs=1e-6)
    if value < 1:
        high = brentq(lambda gain: z(gain) + limit, value + 1e-9, 1 - 1e-9)
        assert found.high == pytest.approx(high, abs=1e-6)
    else:
        assert found.high == 1


def test_intervals_are_never_empty_nor_outside() -> None:
    for confusion in ([[5]], [[0, 5], [0, 0]], [[3, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 3], [2, 0]], [[60, 40], [1, 0]]):
        low, high = uar_interval(np.diagonal(confusion), np.sum(confusion, axis=1))
        assert 0 <= low < high <= 1
    for gain in (1.0, 0.0, -1.0):
        for balanced in (False, True):
            found = paired_difference([gain] * 5, [0] * 5, [0, 0, 1, 1, 2], balanced=balanced)
            assert -1 <= found.low <= gain <= found.high <= 1 and found.high - found.low > 0.3


def test_the_mirror_image_has_the_mirrored_interval() -> None:
    confusion = np.array([[7, 3, 0], [1, 1, 0], [2, 0, 20]])
    low, high = uar_interval(np.diagonal(confusion), np.sum(confusion, axis=1))
    wrong = np.array([[3, 7, 0], [1, 1, 0], [20, 0, 2]])
    assert uar_interval(np.diagonal(wrong), np.sum(wrong, axis=1)) == pytest.approx((1 - high, 1 - low), abs=1e-7)


def test_shares_of_seeds_and_rare_classes_count() -> None:
    a, b = np.ones(400), np.repeat([1.0, 0.0], [360, 40])
    found = paired_difference(a, b, np.zeros(400))
    assert found.value == pytest.approx(0.1) and found.clear
    assert (found.low, found.high) == pytest.approx((0.074, 0.133), abs=0.003)
    assert not paired_difference(a, a, np.zeros(400)).clear
    # UAR weighs a class of 10 like one of 90.
    classes = np.repeat([0, 1], [90, 10])
    assert paired_difference(classes * 1.0, np.zeros(100), classes, balanced=True).value == pytest.approx(0.5)
    # Half of two seeds right on every clip: no clip differs from another, but others could.
    half = paired_difference(np.full(50, 0.5), np.zeros(50), np.zeros(50))
    assert half.value == 0.5 and half.low < 0.48 and half.high > 0.52


def test_few_clips_have_no_interval_on_paper() -> None:
    assert interval_text((0.301, 0.954), 4) == TOO_FEW and MIN_CLIPS == 5
    assert interval_text((0.301, 0.954), 5) == "95 % interval 30.1 to 95.4 %"
    assert difference_text(Difference(0.1, -0.012, 0.2, 5)) == "-1.20 to +20.00"
    assert difference_text(Difference(1.0, 0.2, 1.0, 4)) == TOO_FEW and not Difference(1.0, 0.2, 1.0, 4).clear
