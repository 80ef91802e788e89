"""The sound of a video, carried over to a new file: copied if the new container can hold it, else encoded anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
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
        self._held: Any = None
        try:
            self._source = open_file(path)
            stream, video = self._source.streams.best("audio"), choose_stream(self._source, path)
            if stream is None:
                return
            if begin is None:
                begin = 0.0 if video.start_time is None else float(video.start_time * video.time_base)
            self._joints = _Joints(stream.time_base, longest_gap(self._source))
            name = stream.codec_context.codec.canonical_name  # a decoder may be called otherwise: mp3float
            if name in COPIED and name in container.supported_codecs:
                target = container.add_stream_from_template(stream)
                self._packets = self._copied(stream, target, begin)
            elif container.default_audio_codec:
                target = container.add_stream(container.default_audio_codec, rate=stream.rate)
                target.layout = "mono" if stream.channels == 1 else "stereo"
                self._packets = self._encoded(stream, target, begin)
            else:
                self.problem = f"{container.format.name} files hold no sound"
        except (self._av.error.FFmpegError, ValueError, AttributeError) as error:
            self.problem = f"its sound cannot be carried over ({getattr(error, 'strerror', None) or error})"

    def until(self, time: float = math.inf) -> Iterator[Any]:
        """Packets to write, up to a time in seconds; without one, all that are left."""
        while True:
            try:
                packet = self._held or next(self._packets, None)
            except (self._av.error.FFmpegError, ValueError) as error:
                self.end(error)
                packet = None
            self._held = packet
            if packet is None or (packet.pts is not None and float(packet.pts * packet.time_base) > time):
                return
            self._held = None
            yield packet

    def end(self, error: Exception) -> None:
        """Delivers no more packets, because of an error."""
        self.problem = f"its sound breaks off ({getattr(error, 'strerror', None) or error})"
        self._packets, self._held = iter(()), None

    def close(self) -> None:
        """Closes the video that the sound comes from."""
        if self._source is not None:
            self._source.close()

    def _copied(self, stream: Any, target: Any, begin: float) -> Iterator[Any]:
        shift = round(begin / stream.time_base)
        for packet in self._source.demux(stream):
            if packet.dts is None or packet.pts is None:  # the empty packet at the end
                continue
            moved = self._joints(packet.dts, packet.duration or 0)
            if moved is None:
                continue
            packet.pts, packet.dts = packet.pts + moved - shift, packet.dts + moved - shift
            if packet.pts + (packet.duration or 0) < 0:  # before the first picture
                continue
            packet.stream = target
            yield packet

    def _encoded(self, stream: Any, target: Any, begin: float) -> Iterator[Any]:
        resampler = self._av.AudioResampler(target.format, target.layout, target.rate, target.codec_context.frame_size)
        shift = round(begin / stream.time_base)
        for frame in self._source.decode(stream):
            if frame.pts is None:
                continue
            moved = self._joints(frame.pts, round(frame.samples / frame.sample_rate / stream.time_base))
            if moved is None or frame.pts + moved < shift:
                continue
            frame.pts += moved - shift
            for part in resampler.resample(frame):
                yield from target.encode(part)
        for part in resampler.resample(None):
            yield from target.encode(part)
        yield from target.encode(None)


class _Joints:
    """Moves the timestamps of sound that start again or leap, as `Clock` does with those of pictures.

    Args:
        time_base: seconds in a unit of the timestamps.
        longest_gap: a gap of more seconds is a leap.
    """

    def __init__(self, time_base: Fraction, longest_gap: float) -> None:
        self._least_restart, self._longest_gap = LEAST_RESTART / time_base, longest_gap / time_base
        self._moved = 0
        self._last: int | None = None
        self._end = 0  # of the latest packet

    def __call__(self, stamp: int, duration: int) -> int | None:
        """By how much a packet has to be moved; None: leave it out."""
        if self._last is not None:
            step = stamp + self._moved - self._last
            if -self._least_restart < step <= 0:
                return None
            if not 0 < step <= self._longest_gap:
                self._moved += self._end - stamp - self._moved
        self._last = stamp + self._moved
        self._end = self._last + max(1, duration)
        return self._moved
