"""Prefetching: a thread computes the next items of an iterator while the caller works on the current one.

Decoders, Pillow and file writes release the GIL, so they overlap with the detection of faces on a machine with free
cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], size: int) -> Iterator[T]:
    """The same items; a thread makes up to `size` of them before they are asked for.

    An exception comes where it would have come; a consumer that stops early ends the thread.
    """
    end: Any = object()
    thread = ThreadPoolExecutor(1)
    try:
        made = deque(thread.submit(next, items, end) for _ in range(size))
        while (item := made.popleft().result()) is not end:
            made.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
