"""Decodes videos with ffmpeg: which stream, the time of each frame, and frames as upright RGB pictures."""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ..common.errors import require
from ..common.names import counted
from ..data.clips import DataError

PQ, HLG = 16, 18  # transfer characteristics of HDR video, ITU-T H.273
TEXT_FORMATS = ("adf", "bin", "idf", "tty", "xbin")  # ffmpeg draws text files as terminals would show them
MOST_ASPECT = 5.0  # pixels that are said to be wider or higher are square: the header is wrong
ASSUMED_FPS = 25.0  # where a video does not state its frame rate
# A longer gap between two frames is a recording error, not a pause: in seconds, and in frames, since a time lapse may
# have one frame an hour. Broadcast formats such as MPEG-TS may restart their clock within a file, as ffmpeg assumes.
LONGEST_GAP, LONGEST_BROADCAST_GAP, GAP_IN_FRAMES = 600.0, 10.0, 20
# Times that step back by fewer frames than this, and for fewer frames, are out of order; otherwise they start again.
REORDERED_FRAMES = 3.5


def pyav(module: str = "av") -> Any:
    """PyAV, or one of its modules; MissingExtraError: it is not installed."""
    return require(module, "PyAV", "reading a video")


def file_url(path: str | Path) -> str:
    """The name of a file for ffmpeg, which takes `interview:01.mp4` for a URL with the protocol "interview"."""
    return f"file:{path}"


def open_file(path: str | Path) -> Any:
    """Opens a file with PyAV, whatever characters its name has and whatever encoding its tags are in."""
    # Without the option, `%d.jp2` would stand for 0.jp2, 1.jp2, ...
    return pyav().open(file_url(path), options={"pattern_type": "none"}, metadata_errors="replace")


@contextmanager
def open_video(path: Path, threads: int = 0) -> Iterator[tuple[Any, Any]]:
    """Opens a video file: PyAV's container, and the stream to decode; `threads` 0 lets ffmpeg choose.

    DataError: the file is not a video, or cannot be decoded. MissingExtraError: PyAV is not installed.
    """
    try:
        container = open_file(path)
    except (pyav().error.FFmpegError, ValueError) as error:
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


def choose_stream(container: Any, path: str | Path) -> Any:
    """Chooses the stream that is the video, and not a cover picture, a preview or a tile of a photo.

    If there are several, one with more than one frame is preferred, then the default stream, then the largest frames.
    DataError: there is no such stream, or ffmpeg has no decoder for it.
    """
    if not container.streams.video:
        what = "only audio" if container.streams.audio else "the file is damaged or not a video"
        raise DataError(f"{path}: no video in it, {what}")
    marks = pyav().stream.Disposition
    pictures = marks.attached_pic | marks.timed_thumbnails | marks.dependent
    videos = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not videos:
        raise DataError(f"{path}: no video in it, only a cover picture")
    decodable = [stream for stream in videos if stream.codec_context is not None]
    if not decodable:
        raise DataError(f"{path}: ffmpeg does not know its codec; convert the video to H.264")

    def rank(stream: Any) -> tuple[bool, bool, int]:
        size = stream.codec_context.width * stream.codec_context.height
        return stream.frames != 1, bool(stream.disposition & marks.default), size

    return max(decodable, key=rank)


def frame_rate(container: Any, stream: Any) -> float | None:
    """Frames per second of a stream, on average; None: unknown."""
    rates = [float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate]
    if container.format.flags & pyav().format.Flags.no_timestamps.value:
        # Bare H.264, HEVC and the like: the stream may state a rate, and the average is that of assumed times.
        return next(iter(rates), None)
    return min(rates, default=None)


def longest_gap(container: Any) -> float:
    """The longest plausible gap between two frames in a file of this format, in seconds."""
    broadcast = container.format.flags & pyav().format.Flags.ts_discont.value
    return LONGEST_BROADCAST_GAP if broadcast else LONGEST_GAP


def decoded(container: Any, stream: Any, note: Callable[[str], object]) -> Iterator[Any]:
    """A stream's frames; `note` gets a line on what is damaged.

    As in ffmpeg's own programs, a frame's timestamp is its time of presentation, unless that steps back more often than
    the time of decoding, as in AVI files.
    """
    error = pyav().error
    bad = damaged = 0
    steps_back: list[int] = [0, 0]
    latest: list[int | None] = [None, None]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            frames = packet.decode()
        except error.InvalidDataError:
            bad += 1
            continue
        except error.FFmpegError as failure:
            note(f"ends early ({failure.strerror})")
            break
        for frame in frames:
            damaged += frame.is_corrupt
            for which, stamp in enumerate((frame.pts, frame.dts)):
                if stamp is not None:
                    before, latest[which] = latest[which], stamp
                    steps_back[which] += before is not None and stamp <= before
            if frame.pts is None or (frame.dts is not None and steps_back[0] > steps_back[1]):
                frame.pts = frame.dts
            yield frame
    if bad:
        note(f"{counted(bad, 'part')} of the stream cannot be decoded")
    if damaged:
        note(f"{counted(damaged, 'frame')} damaged")


class Clock:
    """Repairs the timestamps of a video: seconds since the first frame that always increase and never leap.

    In recordings that were joined, timestamps start again in the middle, and faulty ones leap by hours or days. There
    the times continue one frame interval after the previous frame. A timestamp that is out of order by a few frames is
    moved just behind the previous frame; the frames after it keep their times.

    `fps` is the frame rate that the file states; a gap of more seconds than `longest_gap` is a leap.
    """

    def __init__(self, fps: float | None, longest_gap: float = LONGEST_GAP) -> None:
        self.begin: float | None = None  # the timestamp of the first frame, as the file states it; None: it has none
        self._repairs: list[str] = []
        self._longest_gap = longest_gap
        self._steps: deque[float] = deque(maxlen=15)
        self._step = 1 / (fps or ASSUMED_FPS)  # usual interval between two frames
        self._offset = 0.0  # repaired minus stated time, since the latest repair
        self._last = 0.0  # repaired time of the previous frame
        self._behind = 0  # frames in a row whose time was not later than the previous frame's
        self._started = False

    def __call__(self, stated: float | None) -> float:
        """Returns the repaired time of the next frame, given its timestamp in seconds; None: it has no timestamp."""
        if not self._started:
            self._started, self.begin = True, stated
        elif stated is None:
            self._last += self._step
        else:
            if self.begin is None:  # the first frames have no timestamps
                self.begin = stated - self._last - self._step
            self._last = self._repaired(stated - self.begin)
        return self._last

    def _repaired(self, stated: float) -> float:
        time = stated + self._offset
        step = time - self._last
        if step > max(self._longest_gap, GAP_IN_FRAMES * self._step):
            self._repairs.append(f"leap after {self._last:.2f} s")
        elif step > 0:
            self._behind = 0
            self._steps.append(step)
            self._step = median(self._steps)
            return time
        else:
            self._behind += 1
            if -step < REORDERED_FRAMES * self._step and self._behind <= REORDERED_FRAMES:
                return self._last + self._step / 8
            self._repairs.append(f"start again after {self._last:.2f} s")
        self._offset += self._last + self._step - time
        return self._last + self._step

    @property
    def problem(self) -> str:
        """What was repaired; empty: nothing."""
        if not self._repairs:
            return ""
        more = f" and {counted(len(self._repairs) - 1, 'more time')}" if len(self._repairs) > 1 else ""
        return f"timestamps {self._repairs[0]}{more}; repaired: they continue from the previous frame"


def progressive(frames: Iterator[Any]) -> Iterator[Any]:
    """Deinterlaces frames that are marked as interlaced, as on DVD and television; passes on all others unchanged."""
    graph, shape = None, None
    for frame in chain(frames, [None]):
        now = frame and (frame.width, frame.height, frame.format.name)
        if graph and now != shape:  # the end, or recordings of different sizes were joined
            yield from _filtered(graph, None)
            graph = None
        if frame is not None and not graph and frame.interlaced_frame:
            graph, shape = pyav("av.filter").Graph(), now
            size = {"width": frame.width, "height": frame.height}
            graph.link_nodes(
                graph.add_buffer(**size, format=frame.format, time_base=frame.time_base or 1),
                graph.add("yadif", "mode=send_frame:deint=interlaced"),  # progressive frames pass unchanged
                graph.add("buffersink"),
            ).configure()
        if frame is not None:
            yield from _filtered(graph, frame) if graph else [frame]


def _filtered(graph: Any, frame: Any) -> Iterator[Any]:
    """The frames that a filter graph has ready when it gets another one; None: the last one has come."""
    graph.vpush(frame)
    with suppress(pyav().error.BlockingIOError, pyav().error.EOFError):
        while True:
            yield graph.vpull()


class Upright:
    """Converts a stream's frames to upright RGB images. Use one instance for all frames: setting it up takes time."""

    def __init__(self, stream: Any) -> None:
        self._scaler = pyav("av.video.reformatter").VideoReformatter()
        self._codec, self._name = stream.codec_context, stream.container.name.removeprefix("file:")
        # What a container states itself counts for all frames, as for players.
        same = stream.sample_aspect_ratio == self._codec.sample_aspect_ratio
        self._container_aspect = None if same else stream.sample_aspect_ratio
        self._hidden = hidden_edges(stream)
        self.problem = ""  # an absurd width of pixels that the stream states, in words
        _accept_all_side_data()

    def __call__(self, decoded: Any) -> np.ndarray:
        """Converts the latest frame to uint8 [H, W, 3], RGB: square pixels, rotated and mirrored as the file states.

        DataError: ffmpeg cannot convert its pixel format.
        """
        aspect = float(self._container_aspect or self._codec.sample_aspect_ratio or 1)  # by the latest header
        if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT:
            self.problem = f"pixels {aspect:g} times as wide as high; taken as square"
            aspect = 1.0
        width, height = max(1, round(decoded.width * aspect)), decoded.height
        try:
            # By default every call starts a thread per core, which takes several times as long as the conversion.
            image = self._scaler.reformat(decoded, width, height, "rgb24", threads=1).to_ndarray()
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self._name}: frames cannot be converted to RGB ({reason})") from error
        left, right, top, bottom = self._hidden
        image = image[top : height - bottom, round(left * aspect) : width - round(right * aspect)]
        if decoded.color_trc in (PQ, HLG):
            hdr = Image.fromarray(np.ascontiguousarray(image))
            image = np.asarray(hdr.filter(_standard_range(int(decoded.color_trc))))
        if (matrix := decoded.side_data.get("DISPLAYMATRIX")) is not None:
            a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
            image = turned(image, (a, b, c, d))
        return np.ascontiguousarray(image)


def hidden_edges(stream: Any) -> tuple[int, ...]:
    """Pixels at the left, right, top and bottom that a container hides: Matroska's PixelCrop, MP4's clean aperture.

    PyAV does not pass them on, and its decoders leave them in the frames. They are in ffmpeg's description of a file.
    """
    logging = pyav("av.logging")
    level = logging.get_level()
    logging.set_level(logging.INFO)  # else the description is empty
    text = stream.container.dumps_format()
    logging.set_level(level)
    own = rf"Stream #0:{stream.index}\D(?:(?!Stream #).)*?"  # up to the next stream
    found = re.search(own + r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", text, re.DOTALL)
    return tuple(map(int, found.groups())) if found else (0, 0, 0, 0)


def _accept_all_side_data() -> None:
    """Makes PyAV return a frame's side data even if it does not know all of their kinds.

    Without this, the EXIF data of a JPEG or TIFF frame, and the views of an iPhone's spatial video, are errors.
    """

    def other(enumeration: Any, value: int) -> Any:
        member = object.__new__(enumeration)
        member._name_, member._value_ = f"OTHER_{value}", value
        return member

    pyav("av.sidedata.sidedata").Type._missing_ = classmethod(other)


def turned(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Rotates and mirrors an image [H, W, ...] by a display matrix, or by the nearest of the eight possible ones.

    The matrix is (a, b, c, d), where x' = a x + c y and y' = b x + d y.
    """
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        down, right = d, a
    else:
        image, down, right = image.swapaxes(0, 1), b, c
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


@lru_cache(maxsize=2)
def _standard_range(transfer: int) -> ImageFilter.Color3DLUT:
    """Lookup table from HDR video (PQ or HLG, BT.2020), which is pale and dark as it is, to SDR (BT.709).

    Reference white, 203 cd/m2 (ITU-R BT.2408), is mapped close to white; highlights above it are compressed.
    """
    size, white, knee = 33, 203.0, 0.7
    grid = np.linspace(0, 1, size)
    signal = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1)[..., ::-1]  # [B, G, R, (R, G, B)]
    if transfer == PQ:  # SMPTE ST 2084
        root = signal ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:  # ITU-R BT.2100, for a display of 1000 cd/m2
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1_000 * scene * (scene @ np.array([0.2627, 0.6780, 0.0593]))[..., None] ** 0.2
    to_bt709 = np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
    )
    linear = np.maximum(light / white @ to_bt709.T, 0)
    peak = linear.max(axis=-1, keepdims=True)
    soft = np.where(peak > knee, knee + (1 - knee) * (1 - np.exp((knee - peak) / (1 - knee))), peak)
    table = (linear * (soft / np.maximum(peak, 1e-9))) ** (1 / 2.4)
    return ImageFilter.Color3DLUT(size, table.reshape(-1, 3).clip(0, 1))
