"""Prefetching: a thread computes the next items of an iterator while the caller works on the current one.

Decoders, Pillow and file writes release the GIL, so they overlap with the detection of faces on a machine with free
cores.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], size: int) -> Iterator[T]:
    """The same items; a thread makes up to `size` of them before they are asked for.

    An exception comes where it would have come; a consumer that stops early ends the thread.
    """
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(size)
    stopped = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:  # raised again where the items are used
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (entry := made.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stopped.set()
        thread.join()
