"""A classifier fitted to few labeled clips, held near the one that it starts from: maximum a posteriori.

With clip features x_i of class y_i, the weights W and the biases b of the fitted classifier minimize

    sum_i w_i CE(W x_i + b, y_i) + strength / 2 (||W - W0||^2 + ||b - b0||^2),    w_i = N / (C' N_y),

where W0 and b0 are those of the start, N_y is the number of clips of the class of clip i, and C' that of the classes
that occur: classes weigh equally. The problem is convex: one solution, without epochs or learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

STRENGTH = 60.0  # the best one on development sets of 8 to 400 clips
FEWEST = 12  # clips below which nothing is fitted: the noise of the cross-validation is then larger than any gain
FOLDS = 5
NOISE = 0.5  # standard errors by which a fit must be better than the start
Floats = NDArray[np.float64]


def fit_head(
    features: ArrayLike, targets: ArrayLike, weight: ArrayLike, bias: ArrayLike, strength: float = STRENGTH
) -> tuple[Floats, Floats]:
    """The weights float64 [C, D] and biases float64 [C] of the fitted classifier.

    Args:
        features, targets: float [N, D], and int [N] from 0 to C - 1.
        weight, bias: float [C, D] and [C], the start; zeros for a class that is new.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(targets)
    x = np.c_[x, np.ones(len(x))]
    start = np.c_[np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)]  # [C, D + 1]
    counts, right = np.bincount(y, minlength=len(start)), np.eye(len(start))[y]
    share = len(y) / (counts[y] * np.count_nonzero(counts))  # [N]

    def loss(flat: Floats) -> tuple[float, Floats]:
        moved = flat.reshape(start.shape) - start
        logs = log_softmax(x @ (start + moved).T, axis=1)  # [N, C]
        slope = (share[:, None] * (np.exp(logs) - right)).T @ x + strength * moved
        return float(-share @ logs[right > 0] + strength / 2 * (moved**2).sum()), slope.ravel()

    best = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-10})
    fitted: Floats = best.x.reshape(start.shape)
    return fitted[:, :-1], fitted[:, -1]


def fit_helps(
    features: ArrayLike, targets: ArrayLike, persons: Sequence[str], weight: ArrayLike, bias: ArrayLike
) -> tuple[bool, str]:
    """Whether a fit beats the start by `NOISE` standard errors of the cross-validated cross-entropy, and the figures.

    Clips of classes that the other folds lack say nothing, and are left out.

    Args:
        features, targets, weight, bias: see `fit_head`; the start knows all classes.
        persons: N names; clips of one person are never on both sides. "": unknown, a person of its own.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(targets)
    start = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if len(y) < FEWEST:
        return False, f"{len(y)} clips are too few to choose by ({FEWEST} are enough)"
    names = [person or f"clip {index}" for index, person in enumerate(persons)]
    # Round robin in the order of the classes, so that clips of a class are in different folds.
    in_order = dict.fromkeys(names[at] for at in np.argsort(y, kind="stable"))
    number = {name: index for index, name in enumerate(in_order)}
    group = np.array([number[name] for name in names])
    gains = np.full(len(y), np.nan)  # by how much the fit's cross-entropy is lower
    for fold in range(FOLDS):
        held = group % FOLDS == fold
        test = held & np.isin(y, y[~held])
        if test.any() and len(set(y[~held])) > 1:
            heads = start, fit_head(x[~held], y[~held], *start)
            logs = [log_softmax(x[test] @ w.T + b, axis=1)[np.arange(test.sum()), y[test]] for w, b in heads]
            gains[test] = logs[1] - logs[0]
    known = ~np.isnan(gains)
    if known.sum() < FEWEST // 2:
        return False, "the clips show too few people or classes to choose by"
    gain = float(gains[known].mean())
    sums = np.bincount(group[known], gains[known] - gain)
    count = len(set(group[known]))
    error = float(np.sqrt(count / max(1, count - 1) * (sums**2).sum())) / int(known.sum())  # over persons
    words = f"cross-entropy of clips that are not in the fit {gain:+.3f} lower, standard error {error:.3f}"
    return gain > NOISE * error, words
