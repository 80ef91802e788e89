"""Decodes videos with ffmpeg: chooses the stream, repairs times, deinterlaces, rotates, maps HDR to SDR."""

from __future__ import annotations

import mmap
import struct
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ..common.errors import require
from ..data.clips import DataError

ASSUMED_FPS = 25.0  # where a video does not state its frame rate
# A longer gap between two frames (seconds) is a recording error, not a pause. Broadcast formats such as MPEG-TS may
# restart their clock within a file; for those ffmpeg uses 10 s, too.
LONGEST_GAP, LONGEST_BROADCAST_GAP = 600.0, 10.0
GAP_IN_FRAMES = 20  # a leap is also longer than this many frames, since a time lapse may have one frame an hour
# Times that step back by fewer frames than this, and for fewer frames, are out of order; otherwise they start again.
REORDERED_FRAMES = 3.5
PQ, HLG = 16, 18  # transfer characteristics of HDR video, ITU-T H.273
TEXT_FORMATS = frozenset({"adf", "bin", "idf", "tty", "xbin"})  # ffmpeg draws text files as terminals would show them
COUNTED_PACKETS = 1000  # read at most to find out which streams have more than one picture
# Of several files of these formats that were joined byte by byte, players and ffmpeg read only the first. The second is
# recognized by so many bytes of its start.
FIRST_ONLY, JOINED_BYTES = ("asf", "flv", "mov"), 12


def file_url(path: str | Path) -> str:
    """The name of a file for ffmpeg, which takes `interview:01.mp4` for a URL with the protocol "interview"."""
    return f"file:{path}"


def open_file(path: str | Path) -> Any:
    """Opens a file with PyAV, whatever characters its name has and whatever encoding its tags are in."""
    av = require("av", "PyAV", "reading a video")
    # Before version 19, tags that are not UTF-8 raise an error by default.
    older = int(av.__version__.split(".")[0]) < 19
    # Otherwise `%d.jp2` would stand for 0.jp2, 1.jp2, ...
    options = {"pattern_type": "none"}
    return av.open(file_url(path), options=options, **({"metadata_errors": "replace"} if older else {}))


@contextmanager
def open_video(path: Path, threads: int = 0) -> Iterator[tuple[Any, Any]]:
    """Opens a video file.

    Args:
        path: the file.
        threads: of the decoder; 0 lets ffmpeg choose.

    Yields:
        PyAV's container, and the stream to decode.

    Raises:
        DataError: the file is not a video, or cannot be decoded.
        MissingExtraError: PyAV is not installed.
    """
    av = require("av", "PyAV", "reading a video")
    try:
        container = open_file(path)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a video ({reason}); the file is damaged or not a video") from error
    with container:
        if container.format.name in TEXT_FORMATS:
            raise DataError(f"{path}: a text file, not a video")
        stream = choose_stream(container, path)
        if threads:
            stream.codec_context.thread_count = threads
        else:
            stream.thread_type = "AUTO"
        yield container, stream


def choose_stream(container: Any, path: str | Path, *, live: bool = False) -> Any:
    """Chooses the stream that is the video, and not a cover picture, a preview or a tile of a photo.

    If there are several, one with more than one frame is preferred, then the default stream, then the largest frames.

    Args:
        container: PyAV's.
        path: of the file, for messages.
        live: it is no file, so it cannot be opened again to count frames.

    Raises:
        DataError: there is no such stream, or ffmpeg has no decoder for it.
    """
    if not container.streams.video:
        what = "only audio" if container.streams.audio else "the file is damaged or not a video"
        raise DataError(f"{path}: no video in it, {what}")
    marks = require("av", "PyAV", "reading a video").stream.Disposition
    picture, tile = marks.attached_pic | marks.timed_thumbnails, marks.dependent
    videos = [stream for stream in container.streams.video if not stream.disposition & (picture | tile)]
    if not videos and any(stream.disposition & tile for stream in container.streams.video):
        raise DataError(f"{path}: a photo stored in tiles (HEIC); save it as JPEG")
    if not videos:
        raise DataError(f"{path}: no video in it, only a cover picture")
    decodable = [stream for stream in videos if stream.codec_context is not None]
    if not decodable:
        raise DataError(f"{path}: ffmpeg does not know its codec; convert the video to H.264")

    count = len(decodable) > 1 and not live and any(not stream.frames for stream in decodable)
    stills = _stills(container, decodable) if count else {each.index for each in decodable if each.frames == 1}

    def rank(stream: Any) -> tuple[bool, bool, int]:
        return (
            stream.index not in stills,
            bool(stream.disposition & marks.default),
            stream.codec_context.width * stream.codec_context.height,
        )

    return max(decodable, key=rank)


def _stills(container: Any, streams: Sequence[Any]) -> set[int]:
    """Indices of the streams with at most one picture: covers and posters that are not marked as such."""
    pictures: Counter[int] = Counter()
    with open_file(container.name.removeprefix("file:")) as again:
        try:
            for count, packet in enumerate(again.demux([again.streams[stream.index] for stream in streams])):
                pictures[packet.stream.index] += packet.size > 0
                if count == COUNTED_PACKETS or all(pictures[stream.index] > 1 for stream in streams):
                    break
        except require("av", "PyAV", "reading a video").error.FFmpegError:
            pass  # it is damaged, as reading it will show
    return {stream.index for stream in streams if pictures[stream.index] < 2}


def frame_rate(container: Any, stream: Any) -> float | None:
    """Frames per second of a stream, on average; None: unknown."""
    flags = require("av", "PyAV", "reading a video").format.Flags
    rates = [float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate]
    if container.format.flags & flags.no_timestamps.value:
        # Bare H.264, HEVC and the like: the stream may state a rate, and the average is that of assumed times.
        return next(iter(rates), None)
    return min(rates, default=None)


def is_joined(container: Any, end: int) -> bool:
    """Whether a file that cannot be read in its place is joined behind the end of what was read.

    Args:
        container: of the file.
        end: position of the first byte behind all that was read.
    """
    if not container.format.name.startswith(FIRST_ONLY):
        return False
    name = container.name.removeprefix("file:")
    with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(content[:JOINED_BYTES], max(end, JOINED_BYTES)) >= 0


class Stamps:
    """Chooses one of a frame's two timestamps, as ffmpeg's own programs do.

    It is the time of presentation, unless that steps back more often than the time of decoding, as in AVI files, which
    do not store the former.
    """

    def __init__(self) -> None:
        self._steps_back = [0, 0]
        self._latest: list[int | None] = [None, None]

    def __call__(self, presented: int | None, decoded: int | None) -> int | None:
        """The timestamp of the next frame, or None if it has none."""
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
        seen: latest timestamp so far, as the file states it: in seconds since the first frame, or since zero if that is
            more. Headers count from either.
        begin: the timestamp of the first frame, as the file states it; None: it has none.
        restarts, leaps: repaired times at which timestamps start again or leap.
    """

    def __init__(self, fps: float | None, longest_gap: float = LONGEST_GAP) -> None:
        self.seen = 0.0
        self.restarts: list[float] = []
        self.leaps: list[float] = []
        self._longest_gap = longest_gap
        self._steps: deque[float] = deque(maxlen=15)
        self._step = 1 / (fps or ASSUMED_FPS)  # usual interval between two frames
        self.begin: float | None = None
        self._offset = 0.0  # repaired minus stated time, since the latest repair
        self._last = 0.0  # repaired time of the previous frame
        self._behind = 0  # frames in a row whose time was not later than the previous frame's
        self._count = 0

    def __call__(self, stated: float | None) -> float:
        """Returns the repaired time of the next frame, given its timestamp in seconds; None: it has no timestamp."""
        count, self._count = self._count, self._count + 1
        if count == 0:
            self.begin = stated
            self._last = 0.0
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
        time = stated + self._offset if self._offset else stated
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
        lines = []
        for places, what in ((self.restarts, "start again"), (self.leaps, "leap")):
            if places:
                others = len(places) - 1
                more = f" and {others} more time{'s' if others > 1 else ''}" if others else ""
                lines.append(
                    f"{path}: timestamps {what} after {places[0]:.2f} s{more}; "
                    "repaired: they continue from the previous frame"
                )
        return lines


def longest_gap(container: Any) -> float:
    """The longest plausible gap between two frames in a file of this format, in seconds."""
    flags = require("av", "PyAV", "reading a video").format.Flags
    return LONGEST_BROADCAST_GAP if container.format.flags & flags.ts_discont.value else LONGEST_GAP


def progressive(frames: Iterator[Any]) -> Iterator[Any]:
    """Deinterlaces frames that are marked as interlaced, as on DVD and television; passes on all others unchanged."""
    av = require("av", "PyAV", "reading a video")
    graph: Any = None
    shape: tuple[Any, ...] = ()

    def pulled() -> Iterator[Any]:
        while True:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    for frame in frames:
        found = (frame.width, frame.height, frame.format.name)
        if graph is not None and shape != found:  # recordings of different sizes were joined
            graph.vpush(None)
            yield from pulled()
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield frame
                continue
            graph, shape = _deinterlacer(frame), found
        graph.vpush(frame)
        yield from pulled()
    if graph is not None:
        graph.vpush(None)
        yield from pulled()


def _deinterlacer(frame: Any) -> Any:
    """A filter graph that deinterlaces frames of this size and format; it passes on progressive frames unchanged."""
    graph = require("av.filter", "PyAV", "reading a video").Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or 1
    )
    yadif = graph.add("yadif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(yadif)
    yadif.link_to(sink)
    graph.configure()
    return graph


class Upright:
    """Converts ffmpeg's frames to upright RGB images. Use one instance for all frames: setting it up takes time."""

    def __init__(self) -> None:
        self._scaler = require("av.video.reformatter", "PyAV", "reading a video").VideoReformatter()
        accept_all_side_data()

    def __call__(self, decoded: Any, pixel_aspect: float = 1.0) -> np.ndarray:
        """Converts a frame to uint8 [H, W, 3], RGB, with square pixels, rotated and mirrored as the file states.

        Args:
            decoded: PyAV's frame.
            pixel_aspect: width of a pixel divided by its height; not 1 in older television formats.
        """
        width = max(1, round(decoded.width * pixel_aspect))
        # By default every call starts a thread per core, which takes several times as long as the conversion.
        image = self._scaler.reformat(decoded, width, decoded.height, "rgb24", threads=1).to_ndarray()
        if decoded.color_trc in (PQ, HLG):
            image = np.asarray(Image.fromarray(image).filter(_standard_range(int(decoded.color_trc))))
        return np.ascontiguousarray(turned(image, display_matrix(decoded)))


def accept_all_side_data() -> None:
    """Makes PyAV return a frame's side data even if it does not know all of their kinds.

    Without this, the EXIF data of a JPEG or TIFF frame, and the views of an iPhone's spatial video, are errors.
    """
    kinds = require("av.sidedata.sidedata", "PyAV", "reading a video").Type

    def other(enumeration: Any, value: int) -> Any:
        member = object.__new__(enumeration)
        member._name_, member._value_ = f"OTHER_{value}", value
        return member

    kinds._missing_ = classmethod(other)


def display_matrix(decoded: Any) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of a frame's display matrix, where x' = a x + c y and y' = b x + d y; None if it has none."""
    data = decoded.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    return a, b, c, d


def turned(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Rotates and mirrors an image [H, W, ...] by a display matrix, or by the nearest of the eight possible ones.

    A phone that is held upright stores its frames rotated by 90 degrees; front cameras may mirror them.
    """
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        down, right = d, a
    else:
        image, down, right = image.swapaxes(0, 1), b, c
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


@lru_cache(maxsize=2)
def _standard_range(transfer: int) -> ImageFilter.Color3DLUT:
    """Lookup table from HDR video (PQ or HLG, BT.2020) to SDR (BT.709).

    Reference white, 203 cd/m2 (ITU-R BT.2408), is mapped close to white; highlights above it are compressed. Without
    this, HDR video is pale and dark.
    """
    size, white = 33, 203.0
    grid = np.linspace(0, 1, size)
    signal = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1)[..., ::-1]  # [B, G, R, (R, G, B)]
    to_luminance = np.array([0.2627, 0.6780, 0.0593])
    if transfer == PQ:  # SMPTE ST 2084
        root = signal ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:  # ITU-R BT.2100, for a display of 1000 cd/m2
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1_000 * scene * (scene @ to_luminance)[..., None] ** 0.2
    to_bt709 = np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
    )
    linear = np.maximum(light / white @ to_bt709.T, 0)
    knee = 0.7
    peak = linear.max(axis=-1, keepdims=True)
    soft = np.where(peak > knee, knee + (1 - knee) * (1 - np.exp((knee - peak) / (1 - knee))), peak)
    table = (linear * (soft / np.maximum(peak, 1e-9))) ** (1 / 2.4)
    return ImageFilter.Color3DLUT(size, table.reshape(-1, 3).clip(0, 1))
