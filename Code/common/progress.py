"""Long work: its progress, the cores and processes that share it, and items made ahead of time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0


class Progress(tqdm):
    """A count of what is done. Use it as a context manager and call it with how many more are done.

    Args:
        total: how many there are to do; None: unknown.
        unit: what is counted, in the plural.
        done: how many were done before, in an earlier process.
    """

    monitor_interval = 0  # no thread that refreshes bars

    def __init__(
        self, label: str, total: int | None, *, unit: str = "frames", done: int = 0, show: bool = True
    ) -> None:
        self.is_bar = sys.stderr.isatty()
        super().__init__(
            desc=label,
            total=total,
            unit=f" {unit}",
            initial=done,
            disable=not show,
            leave=False,
            dynamic_ncols=self.is_bar,
            miniters=1,
            mininterval=0.1 if self.is_bar else LINE_SECONDS,
            bar_format=None if self.is_bar else "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {remaining} left",
            file=sys.stderr,
        )

    def __call__(self, count: int = 1) -> None:
        """Adds to what is done, and shows it."""
        self.update(count)

    def say(self, line: str, file: IO[str] | None = None) -> None:
        """Prints a line above the bar; on stderr if no file is given."""
        if self.is_bar:
            tqdm.write(line, file=file or sys.stderr)
        else:
            print(line, file=file or sys.stderr, flush=True)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Shows the bar, or prints the line; tqdm calls it, at its start and end, too."""
        if self.is_bar:
            super().display(msg, pos)
        elif msg is None and self.n > self.initial:
            print(self, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the bar; a line is not removed."""
        if not self.is_bar:
            self.disable = True
        super().close()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_worker() -> None:
    """To be called first in a worker process: it leaves Ctrl+C to its parent, and ends when its parent is gone."""

    def watch() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


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
