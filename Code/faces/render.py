"""Videos with the answers drawn on them: boxes, running expressions, weights, and the sound."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ..common.errors import require
from ..common.files import new_file
from ..common.names import one_line
from ..common.progress import Progress
from ..data.clips import DataError
from ..results.figures import CYCLE, font_for
from .decoder import file_url, longest_gap, open_file, pyav
from .detect import overlap
from .inputs import WRITTEN_SUFFIXES, Kind
from .prediction import Prediction
from .track import ASSUMED_FPS

TIME_BASE = Fraction(1, 60_000)
ORANGE, BLACK = "#ff8c00", "#000000"
SOUND_RATE = 48_000  # samples a second, which all containers take
# What steps back by less is sent twice or out of order, and is left out; by more, the timestamps start again.
LEAST_RESTART = 0.3


class VideoWriter:
    """Writes pictures of one size as a video: H.264 where PyAV has it, else MPEG-4.

    A context manager closes the file when the block ends, and leaves nothing if the block fails. The path's suffix, one
    of `WRITTEN_SUFFIXES`, names the container. Pictures of odd `size` (width, height) lose a row or column. The new
    file gets the sound of the video `sound`, whose timestamp `begin` is 0 in it, see `Sound`.

    DataError: the file cannot be written. MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], *, sound: Path | None = None, begin: float | None = None
    ) -> None:
        self._av, self.path = require("av", "PyAV", "writing a video"), path
        if path.suffix.lower() not in WRITTEN_SUFFIXES:
            ending = ", ".join(WRITTEN_SUFFIXES)
            raise DataError(f"{path}: cannot be written as a video; name a file ending in {ending}")
        self._size = size[0] // 2 * 2, size[1] // 2 * 2
        self._last = -1  # timestamp of the latest picture
        with self._errors_named(), ExitStack() as stack:
            temporary = stack.enter_context(new_file(path))
            self._container = stack.enter_context(self._av.open(file_url(temporary), "w"))
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=30)
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._stream.time_base = TIME_BASE
            self._sound = Sound(sound, self._container, begin, stack) if sound else None
            self._files = stack.pop_all()

    @property
    def problem(self) -> str:
        """Why its sound is missing or incomplete; empty if all is well."""
        return self._sound.problem if self._sound else ""

    def add(self, image: Image.Image, time: float) -> None:
        """Appends a picture that is shown from a time in seconds on."""
        width, height = self._size
        self._last = max(self._last + 1, round(time / float(TIME_BASE)))
        with self._errors_named():
            frame = self._av.VideoFrame.from_ndarray(np.asarray(image)[:height, :width].copy(), format="rgb24")
            frame.pts, frame.time_base = self._last, TIME_BASE
            self._container.mux(self._stream.encode(frame))
            if self._sound:
                self._sound.write(until=time)

    def close(self) -> None:
        """Finishes the file and gives it its name; DataError if the rest cannot be written, and no file is left."""
        with self._errors_named(), self._files:
            self._container.mux(self._stream.encode())
            if self._sound:
                self._sound.write()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes the file; or drops it, if the block has failed."""
        self.close() if error[0] is None else self._files.__exit__(*error)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turns what the encoder raises in the block into an error that names the file."""
        try:
            yield
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: the video cannot be written ({reason})") from error


class Sound:
    """The sound of the video `path`, delivered in step with its pictures to PyAV's output container.

    That gets a stream, so nothing may have been written to it yet. `begin` is the timestamp of the first picture that
    can be decoded; None: pictures have none. `files` closes the video.
    """

    def __init__(self, path: Path, container: Any, begin: float | None, files: ExitStack) -> None:
        self.problem = ""  # why the new file has no sound, or only a part of it
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None  # encoded, and to be written later
        try:
            source = files.enter_context(open_file(path))
            if (stream := source.streams.best("audio")) is not None:
                target = container.add_stream("aac", rate=SOUND_RATE)
                target.layout = "mono" if stream.channels == 1 else "stereo"
                self._packets = self._encoded(stream, target, begin or 0.0)
        except (pyav().error.FFmpegError, ValueError, AttributeError) as error:
            self.problem = f"its sound cannot be carried over ({getattr(error, 'strerror', None) or error})"

    def write(self, until: float = math.inf) -> None:
        """Writes the packets up to a time in seconds. If one cannot be read or written, the sound ends there."""
        try:
            while (packet := self._next or next(self._packets, None)) is not None:
                self._next = packet
                if packet.pts is not None and float(packet.pts * packet.time_base) > until:
                    return
                self._next = None
                self._container.mux(packet)
        except (pyav().error.FFmpegError, ValueError) as error:
            self.problem = f"its sound breaks off ({getattr(error, 'strerror', None) or error})"
            self._packets, self._next = iter(()), None

    def _encoded(self, stream: Any, target: Any, begin: float) -> Iterator[Any]:
        """Packets whose times count from the first picture, and go on where those of the video start again or leap."""
        resampler = pyav().AudioResampler(target.format, target.layout, SOUND_RATE, target.codec_context.frame_size)
        moved, last, end = -begin, -math.inf, -begin
        longest = longest_gap(stream.container)
        for frame in stream.container.decode(stream):
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


def draw_answer(image: np.ndarray, box: np.ndarray | None, line: str, share: float | None) -> Image.Image:
    """A frame, uint8 [H, W, 3], with a box, float [4], a line of text and a bar for its share of the highest weight."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    if box is not None and not np.isnan(box).any():
        _draw_box(draw, box, ORANGE, height)
    _draw_text(draw, (0, 0), line, max(10, height // 24))
    if share is not None:
        high, small = max(4, height // 60), max(9, height // 36)
        _draw_text(draw, (0, height - high - 1.4 * small), "weight / highest weight", small)
        draw.rectangle((0, height - high, width - 1, height - 1), fill=BLACK)
        draw.rectangle((0, height - high, max(1, round(share * (width - 1))), height - 1), fill=ORANGE)
    return picture


class Label(NamedTuple):
    """A person in a frame."""

    box: np.ndarray  # float [4]
    number: int
    text: str


def draw_people(image: np.ndarray, labels: Sequence[Label]) -> Image.Image:
    """A frame, uint8 [H, W, 3], with a box for each person, and their number and text above, below or in the box.

    No text covers another: in a crowd, where there is no room for the text, the number stands alone, or nothing.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = max(9, height // 32)
    taken: list[tuple[float, float, float, float]] = []
    labels = [label for label in labels if not np.isnan(label.box).any()]
    for label in reversed(labels):  # the first person on top, and the texts above all boxes
        _draw_box(draw, label.box, CYCLE[(label.number - 1) % len(CYCLE)], height)
    for label in labels:
        left, top, _, bottom = map(float, label.box)
        for text in (f"{label.number} {label.text}".rstrip(), str(label.number)):
            long, high = _size_of(draw, text, unit)
            x = min(max(0.0, left), max(0.0, width - long))
            rows = (min(max(0.0, y), height - high) for y in (top - high, bottom, top, bottom - high))
            places = ((x, y, x + long, y + high) for y in rows)
            free = (each for each in places if not overlap(np.reshape(taken, (-1, 4)), np.array(each)).any())
            if place := next(free, None):
                taken.append(place)
                _draw_text(draw, place[:2], text, unit, CYCLE[(label.number - 1) % len(CYCLE)])
                break
    return picture


def _draw_box(draw: ImageDraw.ImageDraw, box: np.ndarray, color: str, height: int) -> None:
    corners = np.sort(box.reshape(2, 2), axis=0)
    draw.rectangle(corners.ravel().tolist(), outline=color, width=max(2, height // 200))


def _size_of(draw: ImageDraw.ImageDraw, text: str, unit: int) -> tuple[float, float]:
    """Width and height of a text with its background."""
    return draw.textlength(text, font=_font(text, unit)) + 0.6 * unit, 1.4 * unit


def _draw_text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, unit: int, color: str = BLACK) -> None:
    """Draws a text of letters of `unit` pixels on a background, whose left upper corner is at `place`."""
    (left, top), (long, high) = place, _size_of(draw, text, unit)
    draw.rectangle((left, top, left + long, top + high), fill=color)
    ink = BLACK if sum(ImageColor.getrgb(color)) > 360 else "white"  # which can be read on the color
    draw.text((left + 0.3 * unit, top + 0.1 * unit), text, fill=ink, font=_font(text, unit))


@lru_cache(maxsize=1024)
def _font(text: str, size: int) -> Any:
    """A font that has the letters of a text, where one is installed: class names may be Chinese."""
    if text.isascii():
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(font_for(text).fname, size)


def annotate(predictions: Sequence[Prediction], output: Path, *, everybody: bool = False) -> None:
    """Writes a video, `output`, of one input's frames with its first answer, or `everybody`'s, and the input's sound.

    With curves, the running expression is that of the nearest window. DataError: it cannot be written.
    """
    main = predictions[0]
    source, boxes = main.faces.source, main.faces.box_of(main.track)
    read = set(main.faces.analysis.numbers.tolist())
    known = dict(zip(main.numbers.tolist(), main.times.tolist(), strict=True))  # of face crops, whose files have none
    shares = dict(zip(main.numbers.tolist(), (main.weights / main.weights.max()).tolist(), strict=True))
    boxes_of = [dict(zip(each.numbers.tolist(), each.boxes, strict=True)) for each in predictions]
    shown, begin, writer = -1, 0.0, None
    with ExitStack() as stack, Progress(f"{one_line(output.name)}: drawing", main.num_frames) as bar:
        for count, frame in enumerate(source.frames()):
            time = known.get(frame.number, math.nan) if math.isnan(frame.time) else frame.time
            time = count / ASSUMED_FPS if math.isnan(time) else time
            if frame.number in read:  # with --fps, the frames between keep what was drawn before
                shown = frame.number
            if everybody:
                people = zip(predictions, boxes_of, strict=True)
                labels = [Label(own[shown], each.person, each.text_at(time)) for each, own in people if shown in own]
                picture = draw_people(frame.image, labels)
            else:
                picture = draw_answer(frame.image, boxes.get(shown), main.text_at(time), shares.get(shown))
            if writer is None:
                size, begin = picture.size, time
                sound = source.path if source.kind is Kind.VIDEO else None
                writer = stack.enter_context(VideoWriter(output, size, sound=sound, begin=source.begin))
            # Pictures of a folder may differ in size, a video's pictures must not.
            writer.add(picture if picture.size == size else picture.resize(size), time - begin)
            bar(1)
    if writer and writer.problem:
        print(f"{output}: {writer.problem}", file=sys.stderr)
