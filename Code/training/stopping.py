"""Signals that ask to stop, and when a training is saved: every few minutes, and before it stops.

The signals are SIGINT (Ctrl+C), SIGTERM, and SIGUSR1, which Slurm sends some time before the end. During a training the
first signal is a request: the step is finished and the state saved. Elsewhere it interrupts the work at once, in order
(temporary files are removed). A second signal kills the process. Files that were saved are whole in any case.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ..common.errors import SIGNAL_STATUS, Interrupted
from . import distributed

# A step that waits for data which never arrives must not block the end of the process.
LAST_STEP_SECONDS = 120.0
# torchrun forwards a signal that its processes may have received already; that is not a second request.
ECHO_SECONDS = 2.0


class _Listener:
    """The handler of the signals, and what they asked for."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.request: int | None = None
        self.at = 0.0
        self.deferred = False
        self.limit: threading.Timer | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:  # a forked helper process: its parent decides
            if number == signal.SIGTERM:
                _die(number)
            return
        if self.request is not None:
            if "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self.at < ECHO_SECONDS:
                return
            _say(f"{signal.Signals(number).name}: stopped at once")
            _die(number)
        self.request, self.at = number, time.monotonic()
        if not self.deferred:
            raise Interrupted(number)
        self.limit = threading.Timer(LAST_STEP_SECONDS, _give_up, (number,))
        self.limit.daemon = True
        self.limit.start()
        if int(os.environ.get("RANK", 0)) == 0:
            _say(f"{signal.Signals(number).name}: finishing the step and saving; a second signal stops at once")


def _say(line: str) -> None:
    """Prints a line from a handler, which may have interrupted a print; a stderr that is closed is no error here."""
    with suppress(OSError):
        os.write(2, f"\n{line}\n".encode())


def _die(number: int) -> None:
    """What the signal does without a handler."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _give_up(number: int) -> None:
    """Ends the process, whatever it is waiting for. The last checkpoint is whole."""
    seconds = f"{LAST_STEP_SECONDS:.0f} s"
    _say(f"the step did not finish within {seconds}; stopped without saving it")
    os._exit(128 + number)


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Handles the signals in the block: they raise `Interrupted` in it, except where they are `deferred`."""
    global _listener
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _listener = _listener, _Listener()
    handlers = {number: signal.signal(number, _listener.handle) for number in SIGNAL_STATUS}
    try:
        yield
    finally:
        if _listener.limit is not None:
            _listener.limit.cancel()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _listener = before


@contextmanager
def deferred() -> Iterator[None]:
    """Signals do not interrupt the block; the block has to call `requested`."""
    if _listener is None:
        yield
        return
    _listener.deferred = True
    try:
        yield
    finally:
        _listener.deferred = False


def requested() -> int | None:
    """The signal that arrived in a `deferred` block; None if there was none."""
    return _listener.request if _listener is not None else None


# What a process asks for: nothing, to save, or (from STOP on) to save and stop because of a signal.
NOTHING, SAVE, STOP = 0, 1, 16


class Saver:
    """Decides, after each step and each batch of an evaluation, whether to save and whether to stop.

    Every process of a training has one.

    Args:
        save: writes the checkpoint to resume from. All processes call it after the same step.
        minutes: between two checkpoints; 0 saves only before a stop.
    """

    def __init__(self, save: Callable[[], Any], minutes: float) -> None:
        self.save, self.seconds = save, 60 * minutes
        self.agreement = distributed.Agreement()
        self.saved_at = time.monotonic()

    def check(self) -> None:
        """Saves and stops if it is time to.

        Raises:
            Interrupted: in all processes, after the state is saved.
        """
        answer = self.agreement.ask(self._request())
        if answer == NOTHING:
            return
        self.save()
        self.was_saved()
        if answer >= STOP:
            raise Interrupted(answer - STOP)

    def finish(self) -> None:
        """After the last epoch, whose checkpoint is written: stops if a signal has arrived since the last check.

        Raises:
            Interrupted: in all processes.
        """
        answer = self.agreement.settle(self._request())
        if answer >= STOP:
            raise Interrupted(answer - STOP)

    def was_saved(self) -> None:
        """A checkpoint was written elsewhere; the minutes count from now."""
        self.saved_at = time.monotonic()

    def _request(self) -> int:
        signal = requested()
        if signal is not None:
            return STOP + signal
        due = self.seconds > 0 and distributed.world().is_main and time.monotonic() - self.saved_at >= self.seconds
        return SAVE if due else NOTHING
