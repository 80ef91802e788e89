"""The sound of a video, encoded anew for a file that is being written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .decoder import longest_gap, open_file, pyav

RATE = 48_000  # samples a second, which all containers take
# What steps back by less is sent twice or out of order, and is left out; by more, the timestamps start again.
LEAST_RESTART = 0.3


class Sound:
    """The sound of the video `path`, delivered in step with its pictures to PyAV's output container.

    That gets a stream, so nothing may have been written to it yet. `begin` is the timestamp of the first picture that
    can be decoded; None: pictures have none.
    """

    def __init__(self, path: Path, container: Any, begin: float | None = None) -> None:
        self.problem = ""  # why the new file has no sound, or only a part of it
        self._source: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None  # encoded, and to be written later
        try:
            self._source = open_file(path)
            if (stream := self._source.streams.best("audio")) is not None:
                target = container.add_stream("aac", rate=RATE)
                target.layout = "mono" if stream.channels == 1 else "stereo"
                self._packets = self._encoded(stream, target, begin or 0.0)
        except (pyav().error.FFmpegError, ValueError, AttributeError) as error:
            self.problem = f"its sound cannot be carried over ({getattr(error, 'strerror', None) or error})"

    def write(self, container: Any, until: float = math.inf) -> None:
        """Writes the packets up to a time in seconds. If one cannot be read or written, the sound ends there."""
        try:
            while (packet := self._next or next(self._packets, None)) is not None:
                self._next = packet
                if packet.pts is not None and float(packet.pts * packet.time_base) > until:
                    return
                self._next = None
                container.mux(packet)
        except (pyav().error.FFmpegError, ValueError) as error:
            self.problem = f"its sound breaks off ({getattr(error, 'strerror', None) or error})"
            self._packets, self._next = iter(()), None

    def close(self) -> None:
        """Closes the video that the sound comes from."""
        if self._source is not None:
            self._source.close()

    def _encoded(self, stream: Any, target: Any, begin: float) -> Iterator[Any]:
        """Packets whose times count from the first picture, and go on where those of the video start again or leap.

        `Clock` does the same for the times of pictures.
        """
        resampler = pyav().AudioResampler(target.format, target.layout, RATE, target.codec_context.frame_size)
        moved, last, end = -begin, -math.inf, -begin
        longest = longest_gap(self._source)
        for frame in self._source.decode(stream):
            if frame.pts is None:
                continue
            time = frame.time + moved
            if -LEAST_RESTART < time - last <= 0:
                continue
            if last > -math.inf and not 0 < time - last <= longest:
                moved, time = moved + end - time, end
            last, end = time, time + frame.samples / frame.sample_rate
            if time >= 0:
                frame.pts = round(time / float(frame.time_base))
                for part in resampler.resample(frame):
                    yield from target.encode(part)
        for part in resampler.resample(None):
            yield from target.encode(part)
        yield from target.encode(None)
