"""Learning rate schedules.

A schedule is a function of the number of epochs done, with fractions; it returns a factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def per_step(schedule: Callable[[float], float], steps_per_epoch: int) -> Callable[[int], float]:
    """The function that LambdaLR takes, from schedule(epochs done, with fractions) -> factor."""
    return lambda step: schedule(step / steps_per_epoch)


def decay_after(epochs: Sequence[float], factor: float) -> Callable[[float], float]:
    """Multiplies by `factor` after each of these numbers of epochs (AFEW: 60 and 120 of 180)."""
    return lambda done: factor ** sum(done >= at for at in epochs)
