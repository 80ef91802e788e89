"""The sound of a video, carried over to a new file: copied if the new container can hold it, else encoded anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import require
from .decoder import choose_stream, longest_gap, open_file

# Copied as they are if the container takes them. Others (PCM in .mp4, say) are not played everywhere.
COPIED = frozenset({"aac", "mp3", "opus", "vorbis", "flac", "ac3", "eac3", "alac"})
# What steps back by less is sent twice or out of order, and is left out; by more, the timestamps start again.
LEAST_RESTART = 0.3


class Sound:
    """Sound for a file that is being written, delivered in step with its pictures.

    Args:
        path: the video that it comes from.
        container: PyAV's output container; it gets a stream, so nothing may have been written to it yet.
        begin: timestamp of the first picture that can be decoded; None: the first one in the file.

    Attributes:
        problem: why the new file has no sound, or only a part of it; empty if all is well, or there is none.
    """

    def __init__(self, path: Path, container: Any, begin: float | None = None) -> None:
        self._av = require("av", "PyAV", "reading a video")
        self.problem = ""
        self._source: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None  # read, and to be written later
        try:
            self._source = open_file(path)
            stream, video = self._source.streams.best("audio"), choose_stream(self._source, path)
            if stream is None:
                return
            if begin is None:
                begin = 0.0 if video.start_time is None else float(video.start_time * video.time_base)
            shift = _Shift(stream, begin, longest_gap(self._source))
            name = stream.codec_context.codec.canonical_name  # a decoder may be called otherwise: mp3float
            if name in COPIED and name in container.supported_codecs:
                self._packets = self._copied(stream, container.add_stream_from_template(stream), shift)
            elif container.default_audio_codec:
                target = container.add_stream(container.default_audio_codec, rate=stream.rate)
                target.layout = "mono" if stream.channels == 1 else "stereo"
                self._packets = self._encoded(stream, target, shift)
            else:
                self.problem = f"{container.format.name} files hold no sound"
        except (self._av.error.FFmpegError, ValueError, AttributeError) as error:
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
        except (self._av.error.FFmpegError, ValueError) as error:
            self.problem = f"its sound breaks off ({getattr(error, 'strerror', None) or error})"
            self._packets, self._next = iter(()), None

    def close(self) -> None:
        """Closes the video that the sound comes from."""
        if self._source is not None:
            self._source.close()

    def _copied(self, stream: Any, target: Any, shift: _Shift) -> Iterator[Any]:
        for packet in self._source.demux(stream):
            if packet.dts is None or packet.pts is None:  # the empty packet at the end
                continue
            moved = shift(packet.dts, packet.duration or 0)
            if moved is not None and packet.pts + moved + (packet.duration or 0) >= 0:  # not before the first picture
                packet.pts, packet.dts, packet.stream = packet.pts + moved, packet.dts + moved, target
                yield packet

    def _encoded(self, stream: Any, target: Any, shift: _Shift) -> Iterator[Any]:
        resampler = self._av.AudioResampler(target.format, target.layout, target.rate, target.codec_context.frame_size)
        for frame in self._source.decode(stream):
            if frame.pts is None:
                continue
            moved = shift(frame.pts, round(frame.samples / frame.sample_rate / stream.time_base))
            if moved is not None and frame.pts + moved >= 0:
                frame.pts += moved
                for part in resampler.resample(frame):
                    yield from target.encode(part)
        for part in resampler.resample(None):
            yield from target.encode(part)
        yield from target.encode(None)


class _Shift:
    """By how much timestamps of sound move: the first picture is at 0, and they go on where they start again or leap.

    `Clock` does the same for those of pictures. Times count in units of the stream, `longest_gap` in seconds.
    """

    def __init__(self, stream: Any, begin: float, longest_gap: float) -> None:
        self._least_restart, self._longest_gap = LEAST_RESTART / stream.time_base, longest_gap / stream.time_base
        self._moved = -round(begin / stream.time_base)
        self._last: int | None = None
        self._end = 0  # of the latest packet

    def __call__(self, stamp: int, duration: int) -> int | None:
        """By how much a packet has to be moved; None: leave it out."""
        if self._last is not None:
            step = stamp + self._moved - self._last
            if -self._least_restart < step <= 0:
                return None
            if not 0 < step <= self._longest_gap:
                self._moved = self._end - stamp
        self._last = stamp + self._moved
        self._end = self._last + max(1, duration)
        return self._moved
