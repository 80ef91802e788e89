"""The progress of long work: a bar on a terminal, and a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO

from tqdm import tqdm

LINE_SECONDS = 10.0


class Progress:
    """A count of what is done. Use it as a context manager and call it with how many more are done.

    Args:
        label: what is being done.
        total: how many there are to do; None: unknown.
        unit: what is counted, in the plural.
        done: how many were done before, in an earlier process.
        show: False shows nothing.
    """

    def __init__(
        self, label: str, total: int | None, *, unit: str = "frames", done: int = 0, show: bool = True
    ) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._show, self._before = show, done
        self._started = self._told = time.monotonic()
        self._bar: tqdm | None = None
        if show and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=done, desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True, file=sys.stderr
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, count: int = 1) -> None:
        """Adds to what is done, and shows it."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = time.monotonic()
        if self._show and now - self._told >= LINE_SECONDS:
            self._told = now
            print(self.line(now - self._started), file=sys.stderr, flush=True)

    def say(self, line: str, file: IO[str] | None = None) -> None:
        """Prints a line above the bar; on stderr if no file is given."""
        if self._bar is not None:
            tqdm.write(line, file=file or sys.stderr)
        else:
            print(line, file=file or sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """`label: 1200 of 5000 frames, 30.1 frames/s, 2 min 6 s left`, `seconds` after the start."""
        speed = (self.done - self._before) / seconds if seconds > 0 else 0.0
        of = "" if self.total is None else f" of {self.total}"
        left = ""
        if self.total is not None and speed > 0:
            minutes, rest = divmod(round(max(self.total - self.done, 0) / speed), 60)
            left = f", {minutes} min {rest} s left"
        return f"{self.label}: {self.done}{of} {self.unit}, {speed:.1f} {self.unit}/s{left}"
