"""The fitted classifier is the one optimum, classes weigh equally, and the start stays where a fit does not help."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from Code.recipes.fit import fit_head, fit_helps

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)), RNG.integers(0, 3, 40)
WEIGHT, BIAS = RNG.normal(size=(3, 6)), RNG.normal(size=3)


def test_the_gradient_is_zero_at_the_fit() -> None:
    weight, bias = (torch.tensor(part, requires_grad=True) for part in fit_head(X, Y, WEIGHT, BIAS, 2.0))
    share = 40 / (3 * np.bincount(Y))
    entropy = torch.nn.functional.cross_entropy(
        torch.tensor(X) @ weight.T + bias, torch.tensor(Y), torch.tensor(share), reduction="sum"
    )
    moved = (weight - torch.tensor(WEIGHT)).square().sum() + (bias - torch.tensor(BIAS)).square().sum()
    (entropy + moved).backward()  # strength / 2 is 1
    for part in (weight, bias):
        assert part.grad is not None and part.grad.abs().max() < 0.01


def test_closed_cases() -> None:
    held = fit_head(X, Y, WEIGHT, BIAS, 1e9)
    np.testing.assert_allclose(held[0], WEIGHT, atol=1e-6)
    # Two mirrored clips and a start of zeros: mirrored weights, biases of zero, and one equation for one number.
    weight, bias = fit_head([[1.0], [-1.0]], [0, 1], np.zeros((2, 1)), np.zeros(2), 1.0)
    assert weight[0, 0] == pytest.approx(-weight[1, 0]) and np.abs(bias).max() < 1e-6
    assert weight[0, 0] == pytest.approx(2 / (1 + np.exp(2 * weight[0, 0])), abs=1e-4)


def clips(count: int, shift: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two classes that the first feature tells apart, of three clips a person."""
    y = np.arange(count) % 2
    x = np.random.default_rng(1).normal(size=(count, 4))
    x[:, 0] += 3 * (2 * y - 1) + shift
    return x, y, [f"person {at // 3}" for at in range(count)]


START = np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]), np.zeros(2)


def test_a_fit_is_chosen_where_it_helps_and_the_start_stays_where_not() -> None:
    helps, why = fit_helps(*clips(24, 4.0), *START)
    assert helps and "lower, standard error" in why
    assert not fit_helps(*clips(24, 0.0), 100 * START[0], START[1])[0]
    x, y, persons = clips(24, 0.0)
    rng = np.random.default_rng(2)
    assert not fit_helps(rng.normal(size=x.shape), rng.permutation(y), persons, 0 * START[0], START[1])[0]


def test_few_clips_or_people_choose_nothing() -> None:
    assert fit_helps(*clips(10, 4.0), *START) == (False, "10 clips are too few to choose by (12 are enough)")
    x, y, _ = clips(24, 4.0)
    helps, why = fit_helps(x, y, ["anna"] * 24, *START)
    assert not helps and "too few people" in why
    assert fit_helps(x, y, [""] * 24, *START)[0]
