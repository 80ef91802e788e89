"""Videos with the answers drawn on them: boxes, running expressions, weights, and the sound."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..common.errors import require
from ..common.files import flush
from ..data.clips import DataError
from ..results.figures import CYCLE, font_file
from .decoder import file_url
from .inputs import WRITTEN_SUFFIXES
from .prediction import Prediction, said
from .sound import Sound
from .track import ASSUMED_FPS

TIME_BASE = Fraction(1, 60_000)
MAIN, TEXT, SHADE = (255, 140, 0), (255, 255, 255), (0, 0, 0)


class VideoWriter:
    """Writes pictures of one size as a video: H.264 where PyAV has it, else MPEG-4.

    Args:
        path: its suffix, one of `WRITTEN_SUFFIXES`, names the container; written under another name until it is whole.
        size: (width, height) of the pictures; odd ones lose a row or column.
        sound: a video whose sound goes into the new file.
        begin: its timestamp that is 0 in the new file, see `Sound`.

    Attributes:
        problem: why its sound is missing or incomplete; empty if all is well.

    Raises:
        DataError: if the container or the file cannot be written.
        MissingExtraError: without PyAV.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], *, sound: Path | None = None, begin: float | None = None
    ) -> None:
        av = require("av", "PyAV", "writing a video")
        self._av, self.path = av, path
        if path.suffix.lower() not in WRITTEN_SUFFIXES:
            raise DataError(
                f"{path}: cannot be written as a video; name a file ending in {', '.join(WRITTEN_SUFFIXES)}"
            )
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
        self._size = size[0] // 2 * 2, size[1] // 2 * 2
        self._last = -1
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        try:
            self._container = av.open(file_url(self._partial), "w")
            self._stream = self._container.add_stream(codec, rate=30)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be written as a video ({reason})") from None
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.time_base = TIME_BASE
        self._sound = None if sound is None else Sound(sound, self._container, begin)

    @property
    def problem(self) -> str:
        return "" if self._sound is None else self._sound.problem

    def add(self, image: Image.Image, time: float) -> None:
        """Appends a picture that is shown from a time in seconds on."""
        width, height = self._size
        if min(image.size) < 2:
            raise DataError(f"{self.path}: pictures of {image.width} x {image.height} are too small for a video")
        frame = self._av.VideoFrame.from_ndarray(np.asarray(image)[:height, :width].copy(), format="rgb24")
        self._last = max(self._last + 1, round(time / float(TIME_BASE)))
        frame.pts, frame.time_base = self._last, TIME_BASE
        with self._named():
            self._container.mux(self._stream.encode(frame))
            self._add_sound(time)

    def close(self, *, keep: bool = True) -> None:
        """Finishes the file and gives it its name; or drops it. Whatever goes wrong, no partial file is left.

        Raises:
            DataError: the rest cannot be written.
        """
        try:
            with self._named():
                if keep:
                    self._container.mux(self._stream.encode())
                    self._add_sound(math.inf)
                self._container.close()
                if keep:
                    flush(self._partial)
                    self._partial.replace(self.path)
        finally:
            if self._sound is not None:
                self._sound.close()
            self._partial.unlink(missing_ok=True)

    def _add_sound(self, until: float) -> None:
        """Writes the sound up to a time in seconds. Without the rest of it, the video is still good."""
        if self._sound is not None:
            try:
                for packet in self._sound.until(until):
                    self._container.mux(packet)
            except (self._av.error.FFmpegError, ValueError) as error:
                self._sound.end(error)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turns what the encoder raises in the block into an error that names the file."""
        try:
            yield
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: the video cannot be written ({reason})") from error


def _font(text: str, size: int) -> Any:
    """A font that has the letters of a text, where one is installed: class names may be Chinese."""
    if text.isascii():
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(font_file(text), size)


@dataclass(frozen=True)
class Mark:
    """A person in a frame: their box, float [4], and the text at it."""

    box: np.ndarray
    text: str
    color: tuple[int, int, int] = MAIN


# The longest one that fits is the legend of the bar.
BAR_LEGENDS = ("weight of this frame, as a share of the highest", "weight / highest weight", "weight")


def draw_answer(image: np.ndarray, box: np.ndarray | None, line: str, share: float | None) -> Image.Image:
    """A frame with the face's box, a line of text at the top, and a bar for the frame's weight at the bottom.

    Args:
        image: uint8 [H, W, 3].
        box: float [4]; None: no face.
        line: the running expression.
        share: the frame's weight as a share of the highest one, in [0, 1]; None: it has none.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = max(10, height // 24)
    font = _font(line, unit)
    if box is not None and not np.isnan(box).any():
        _rectangle(draw, box, MAIN, height)
    if line:
        draw.rectangle((0, 0, min(width, draw.textlength(line, font=font) + unit), unit * 1.5), fill=SHADE)
        draw.text((unit / 2, unit * 0.15), line, fill=TEXT, font=font)
    if share is not None:
        high = max(4, height // 60)
        small = max(9, height // 36)
        legend_font: Any = ImageFont.load_default(size=small)
        lengths = [draw.textlength(legend, font=legend_font) + small for legend in BAR_LEGENDS]
        fitting = [place for place, length in enumerate(lengths) if length <= width]
        if fitting and height >= 8 * small:
            top = height - high - round(1.5 * small)
            draw.rectangle((0, top, lengths[fitting[0]], height), fill=SHADE)
            draw.text((small / 2, top + small * 0.1), BAR_LEGENDS[fitting[0]], fill=TEXT, font=legend_font)
        draw.rectangle((0, height - high, width - 1, height - 1), fill=SHADE)
        draw.rectangle((0, height - high, max(1, round(share * (width - 1))), height - 1), fill=MAIN)
    return picture


def draw_people(image: np.ndarray, marks: Sequence[Mark]) -> Image.Image:
    """A frame with a box and a text for each person.

    Args:
        image: uint8 [H, W, 3].
        marks: who is in it; boxes of NaN are not drawn.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = max(9, height // 32)
    font = _font("".join(mark.text for mark in marks), unit)
    high = 1.4 * unit
    drawn: list[tuple[Mark, float, float, float]] = []  # with the place of its text: left, top, width
    for mark in marks:
        if np.isnan(mark.box).any():
            continue
        long = draw.textlength(mark.text, font=font) + 0.6 * unit
        left = min(max(0.0, float(mark.box[0])), max(0.0, width - long))
        places = [max(0.0, float(mark.box[1]) - high), min(float(mark.box[3]), height - high)]  # above it, below it
        free = (top for top in places if not any(_overlap(left, top, long, place, high) for place in drawn))
        drawn.append((mark, left, next(free, places[0]), long))
    for mark, left, top, long in reversed(drawn):  # the first person on top
        _rectangle(draw, mark.box, mark.color, height)
        draw.rectangle((left, top, left + long, top + high), fill=mark.color)
        draw.text((left + 0.3 * unit, top + 0.1 * unit), mark.text, fill=ink_on(mark.color), font=font)
    return picture


def _overlap(left: float, top: float, long: float, place: tuple[Mark, float, float, float], high: float) -> bool:
    _, other_left, other_top, other_long = place
    return left < other_left + other_long and other_left < left + long and abs(top - other_top) < high


def _rectangle(draw: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, int, int], height: int) -> None:
    left, top, right, bottom = (float(value) for value in box)
    corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    draw.rectangle(corners, outline=color, width=max(2, height // 200))


def annotate(
    predictions: Sequence[Prediction], output: Path, progress: Callable[[int], object], *, everybody: bool = False
) -> str:
    """Writes the input's frames with the answers drawn on them, and its sound.

    Of the main person: the face's box, the running expression (the answer of the window whose middle is nearest in
    time) and, as a bar at the bottom, the frame's weight in the whole clip as a share of the highest. Of everybody:
    a box with the person's number and running expression.

    Args:
        predictions: of one input; with curves if it is a video.
        output: a video file to write.
        progress: called with the number of frames written since the last call.
        everybody: draw all of `predictions`, and not only the first.

    Returns:
        Why the sound is missing or incomplete; empty if all is well, or there is none.

    Raises:
        DataError: the file cannot be written.
    """
    main = predictions[0]
    places = [{int(number): place for place, number in enumerate(each.numbers)} for each in predictions]
    known = dict(zip(main.numbers.tolist(), main.times.tolist(), strict=True))  # of face crops, whose files have none
    heaviest = float(main.weights.max())
    writer: VideoWriter | None = None
    size, whole, begin = (0, 0), False, 0.0
    box: np.ndarray | None = None
    share: float | None = None
    marks: list[Mark] = []
    try:
        for count, frame in enumerate(main.read_again()):
            time = known.get(frame.number, math.nan) if math.isnan(frame.time) else frame.time
            time = count / ASSUMED_FPS if math.isnan(time) else time
            begin = time if count == 0 else begin
            if main.was_read(frame.number):  # with --fps, the frames between keep what was drawn before
                place = places[0].get(frame.number)
                box = main.box_at(frame.number)
                share = None if place is None else float(main.weights[place]) / heaviest
                marks = [
                    Mark(each.boxes[at[frame.number]], f"{each.person} {_running(each, time)}", color_of(each.person))
                    for each, at in zip(predictions, places, strict=True)
                    if everybody and frame.number in at
                ]
            if everybody:
                picture = draw_people(frame.image, marks)
            else:
                picture = draw_answer(frame.image, box, _running(main, time), share)
            if writer is None:
                size = picture.size
                writer = VideoWriter(output, size, sound=main.video, begin=main.begin)
            # Pictures of a folder may differ in size, a video's pictures must not.
            writer.add(picture if picture.size == size else picture.resize(size), time - begin)
            progress(1)
        whole = True
    finally:
        if writer is not None:
            writer.close(keep=whole)
    return writer.problem if writer is not None else ""


def ink_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """White or black, whichever can be read on a color."""
    red, green, blue = color
    return SHADE if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else TEXT


def hue_of(person: int) -> str:
    """The color of a person's box, `#rrggbb`."""
    return CYCLE[(person - 1) % len(CYCLE)]


def color_of(person: int) -> tuple[int, int, int]:
    """The same as red, green, blue."""
    text = hue_of(person)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _running(prediction: Prediction, time: float) -> str:
    curve = prediction.curve
    if curve is None:
        share = f"{100 * prediction.probabilities[prediction.expression]:.0f} %"
        return said(f"{prediction.expression} {share}", prediction.uncertain)
    index = curve.at(time)
    expression = curve.expressions[index]
    if not expression:
        return "no face"
    share = f"{100 * float(curve.probabilities[index].max()):.0f} %"
    return said(f"{expression} {share}", bool(curve.uncertain[index]))
