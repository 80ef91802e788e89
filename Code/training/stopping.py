"""Being asked to stop: SIGINT (Ctrl+C), SIGTERM, and SIGUSR1, which Slurm sends some time before the end.

While a training is under way the first signal is a request: the step is finished, the state saved. Elsewhere it
ends what is being done at once, in order (temporary files go). A second signal ends the process there and then;
what was saved is whole all the same.

Saving a training while it runs: every so many minutes, and when it is asked to stop.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from Code.common.errors import SIGNAL_STATUS, Interrupted
from Code.training import distributed

# torchrun hands on a signal that its processes may have got already; that is not a second request.
ECHO_SECONDS = 2.0


class _Listener:
    """What this process has been asked to do."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.request: int | None = None
        self.at = 0.0
        self.deferred = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if os.getpid() != self.owner:  # a forked helper: its parent decides
            if number == signal.SIGTERM:
                _die(number)
            return
        if self.request is not None:
            if "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self.at < ECHO_SECONDS:
                return
            _die(number)
        self.request, self.at = number, time.monotonic()
        if not self.deferred:
            raise Interrupted(number)
        if int(os.environ.get("RANK", 0)) == 0:
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: finishing the step and saving; once more stops at once\n".encode())


def _die(number: int) -> None:
    """As if there were no handler."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Hears the signals in the block, which raises `Interrupted` wherever it is, see `deferred`."""
    global _listener
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _listener = _listener, _Listener()
    handlers = {number: signal.signal(number, _listener.hear) for number in SIGNAL_STATUS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _listener = before


@contextmanager
def deferred() -> Iterator[None]:
    """In the block a signal interrupts nothing; the block has to ask `requested`."""
    if _listener is None:
        yield
        return
    _listener.deferred = True
    try:
        yield
    finally:
        _listener.deferred = False


def requested() -> int | None:
    """The signal that asked for a stop in a `deferred` block; None if there was none."""
    return _listener.request if _listener is not None else None


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
        signal = requested()
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
