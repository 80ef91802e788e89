"""How far long work is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = 10.0


class Progress:
    """Counts frames; use as a context manager and call with how many are done since the last call.

    Args:
        label: what is being done.
        total: frames to do; None: unknown.
        show: False does nothing at all.
    """

    def __init__(self, label: str, total: int | None, *, show: bool = True) -> None:
        self.label, self.total, self.done = label, total, 0
        self._show = show
        self._started = self._told = time.monotonic()
        self._bar: tqdm | None = None
        if show and sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=label, unit=" frames", leave=False, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, frames: int) -> None:
        """Adds frames and shows where things stand."""
        self.done += frames
        if self._bar is not None:
            self._bar.update(frames)
            return
        now = time.monotonic()
        if self._show and now - self._told >= LINE_SECONDS:
            self._told = now
            print(self.line(now - self._started), file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Prints a line on stderr without spoiling the bar."""
        if self._bar is not None:
            tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """`label: 1200 of 5000 frames, 30.1 frames/s, 2 min 6 s left` after so many seconds."""
        speed = self.done / seconds if seconds > 0 else 0.0
        of = "" if self.total is None else f" of {self.total}"
        left = ""
        if self.total is not None and speed > 0:
            minutes, rest = divmod(round(max(self.total - self.done, 0) / speed), 60)
            left = f", {minutes} min {rest} s left"
        return f"{self.label}: {self.done}{of} frames, {speed:.1f} frames/s{left}"
