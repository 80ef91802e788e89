"""Ctrl+C, SIGTERM and SIGHUP during a training: the step under way is finished, then the process ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ..common.errors import STOP_SIGNALS, Interrupted

_received: int | None = None


@contextmanager
def deferred_signals() -> Iterator[None]:
    """In the block, a first signal is only noted, for `stop_if_asked`; a second one ends the process at once."""
    global _received
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        global _received
        _received = number
        restore()
        if int(os.environ.get("RANK", 0)) == 0:
            with suppress(OSError):  # the terminal may be closed; and print is not safe in a handler
                os.write(2, f"\n{signal.Signals(number).name}: finishing the step; again: stop at once\n".encode())

    for number, handler in before.items():
        if number == signal.SIGINT or handler is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        _received = None


def stop_if_asked() -> None:
    """Called after every step.

    Raises:
        Interrupted: a signal has arrived.
    """
    if _received is not None:
        raise Interrupted(_received)
