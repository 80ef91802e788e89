"""Saving a training while it runs: every so many minutes, and when it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from Code.training import distributed, interruption
from Code.training.interruption import Interrupted

NOTHING, SAVE = 0, 1  # wishes; a higher one is a signal's number behind STOP
STOP = 16


class Keeper:
    """Asked after each step and each batch of an evaluation, in every process.

    Args:
        save: writes the checkpoint to go on from; all processes call it after the same step.
        minutes: between two of them; 0 saves only when a stop is asked for.
    """

    def __init__(self, save: Callable[[], Any], minutes: float) -> None:
        self.save, self.seconds = save, 60 * minutes
        self.agreement = distributed.Agreement()
        self.saved_at = time.monotonic()

    def look(self) -> None:
        """Saves and stops where that is due.

        Raises:
            Interrupted: in all processes, once the state is saved.
        """
        self._do(self.agreement.ask(self._wish()))

    def finish(self) -> None:
        """After the last epoch, whose checkpoint is written: a stop that was asked for since the last look.

        Raises:
            Interrupted: in all processes.
        """
        answer = self.agreement.settle(self._wish())
        if answer >= STOP:
            raise Interrupted(answer - STOP)

    def was_saved(self) -> None:
        """A checkpoint was written otherwise; the minutes count from now."""
        self.saved_at = time.monotonic()

    def _wish(self) -> int:
        signal = interruption.requested()
        if signal is not None:
            return STOP + signal
        due = self.seconds > 0 and distributed.world().is_main and time.monotonic() - self.saved_at >= self.seconds
        return SAVE if due else NOTHING

    def _do(self, answer: int) -> None:
        if answer == NOTHING:
            return
        self.save()
        self.was_saved()
        if answer >= STOP:
            raise Interrupted(answer - STOP)
