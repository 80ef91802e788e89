"""Times of a video's frames: which timestamp counts, and repair of those that start again, leap or are missing."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from statistics import median

from ..common.names import counted

ASSUMED_FPS = 25.0  # where a video does not state its frame rate
# A longer gap between two frames (seconds) is a recording error, not a pause. Broadcast formats such as MPEG-TS may
# restart their clock within a file; for those ffmpeg uses 10 s, too.
LONGEST_GAP, LONGEST_BROADCAST_GAP = 600.0, 10.0
GAP_IN_FRAMES = 20  # a leap is also longer than this many frames, since a time lapse may have one frame an hour
# Times that step back by fewer frames than this, and for fewer frames, are out of order; otherwise they start again.
REORDERED_FRAMES = 3.5


class Stamps:
    """Chooses one of a frame's two timestamps, as ffmpeg's own programs do.

    It is the time of presentation, unless that steps back more often than the time of decoding, as in AVI files.
    """

    def __init__(self) -> None:
        self._steps_back = [0, 0]
        self._latest: list[int | None] = [None, None]

    def __call__(self, presented: int | None, decoded: int | None) -> int | None:
        for which, stamp in enumerate((presented, decoded)):
            if stamp is not None:
                latest = self._latest[which]
                self._steps_back[which] += latest is not None and stamp <= latest
                self._latest[which] = stamp
        better = self._steps_back[0] <= self._steps_back[1]
        return presented if presented is not None and (better or decoded is None) else decoded


class Clock:
    """Repairs the timestamps of a video: seconds since the first frame that always increase and never leap.

    In recordings that were joined, timestamps start again in the middle, and faulty ones leap by hours or days. There
    the times continue one frame interval after the previous frame. A timestamp that is out of order by a few frames is
    moved just behind the previous frame; the frames after it keep their times.

    Args:
        fps: the frame rate that the file states; None: unknown.
        longest_gap: a gap of more seconds is a leap.

    Attributes:
        begin: the timestamp of the first frame, as the file states it; None: it has none.
        seen: latest timestamp so far, as the file states it: in seconds since the first frame, or since zero if that is
            more. Headers count from either.
        restarts, leaps: repaired times at which timestamps start again or leap.
    """

    def __init__(self, fps: float | None, longest_gap: float = LONGEST_GAP) -> None:
        self.begin: float | None = None
        self.seen = 0.0
        self.restarts: list[float] = []
        self.leaps: list[float] = []
        self._longest_gap = longest_gap
        self._steps: deque[float] = deque(maxlen=15)
        self._step = 1 / (fps or ASSUMED_FPS)  # usual interval between two frames
        self._offset = 0.0  # repaired minus stated time, since the latest repair
        self._last = 0.0  # repaired time of the previous frame
        self._behind = 0  # frames in a row whose time was not later than the previous frame's
        self._count = 0

    def __call__(self, stated: float | None) -> float:
        """Returns the repaired time of the next frame, given its timestamp in seconds; None: it has no timestamp."""
        count, self._count = self._count, self._count + 1
        if count == 0:
            self.begin = stated
        elif stated is None:
            # Without any timestamps a product, since a sum of steps would accumulate rounding errors.
            self._last = count * self._step if self.begin is None else self._last + self._step
        else:
            if self.begin is None:  # the first frames have no timestamps
                self.begin = stated - self._last - self._step
            time = stated - self.begin
            self.seen = max(self.seen, time, stated)
            self._last = self._repair(time)
        return self._last

    def _repair(self, stated: float) -> float:
        time = stated + self._offset
        step = time - self._last
        if step > max(self._longest_gap, GAP_IN_FRAMES * self._step):
            self.leaps.append(self._last)
        elif step > 0:
            self._behind = 0
            self._steps.append(step)
            self._step = median(self._steps)
            return time
        else:
            self._behind += 1
            if -step < REORDERED_FRAMES * self._step and self._behind <= REORDERED_FRAMES:
                return self._last + self._step / 8
            self.restarts.append(self._last)
        self._offset += self._last + self._step - time
        return self._last + self._step

    def problems(self, path: Path) -> list[str]:
        """What was repaired, one line each."""
        return [
            f"{path}: timestamps {what} after {times[0]:.2f} s"
            + (f" and {counted(len(times) - 1, 'more time')}" if len(times) > 1 else "")
            + "; repaired: they continue from the previous frame"
            for times, what in ((self.restarts, "start again"), (self.leaps, "leap"))
            if times
        ]
