"""Pictures of an answer: attention over the frames, a curve over time, the video with the answer drawn on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from Code.common.errors import require
from Code.data.clips import DataError
from Code.faces.decoder import file_url
from Code.faces.prediction import Curve, Prediction
from Code.faces.track import ASSUMED_FPS
from Code.faces.video import Source
from Code.results.figures import attention_figure, choose_frames
from Code.results.fonts import font_file

# More frames than this are thinned out before they are drawn; the figure shows a dozen of them anyway.
MOST_FRAMES = 256
TIME_BASE = Fraction(1, 60_000)
MAIN, TEXT, SHADE = (255, 140, 0), (255, 255, 255), (0, 0, 0)


def attention_picture(prediction: Prediction) -> Figure:
    """The faces with their attention bars."""
    total = len(prediction.frames)
    kept = list(range(total)) if total <= MOST_FRAMES else choose_frames(prediction.weights, MOST_FRAMES)
    title = Path(prediction.path).name
    if total > len(kept):
        title += f" ({len(kept)} of {total} faces)"
    labels = sorted(prediction.probabilities)
    return attention_figure(
        prediction.crops(kept),
        prediction.alpha[kept],
        prediction.weights[kept],
        title=title,
        prediction=prediction.expression,
        probabilities=[prediction.probabilities[label] for label in labels],
        labels=labels,
    )


def curve_picture(curve: Curve, title: str) -> Figure:
    """Probabilities over time, a line per expression; gaps where nobody shows a face."""
    figure = Figure(figsize=(9.0, 3.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    middles = (curve.starts + curve.ends) / 2
    marker = "o" if len(curve) < 40 else None
    for index, label in enumerate(curve.labels):
        dash = "-" if index < 7 else "--"
        axes.plot(middles, curve.probabilities[:, index], dash, label=label, marker=marker, ms=3, lw=1.5)
    axes.set(xlabel="time (s)", ylabel="probability", ylim=(-0.02, 1.02))
    axes.set_xlim(float(curve.starts[0]), float(curve.ends[-1]))
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    return figure


class VideoWriter:
    """Writes pictures of one size as a video: H.264 where PyAV has it, else MPEG-4.

    Args:
        path: its suffix names the container; written under another name until it is whole.
        size: (width, height) of the pictures; odd ones lose a row or column.

    Raises:
        DataError: if the container or the file cannot be written.
        MissingExtraError: without PyAV.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        av = require("av", "PyAV", "writing a video")
        self._av, self.path = av, path
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._size = size[0] // 2 * 2, size[1] // 2 * 2
        self._last = -1
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        try:
            self._container = av.open(file_url(self._partial), "w")
            self._stream = self._container.add_stream(codec, rate=30)
        except (av.error.FFmpegError, ValueError) as error:
            raise DataError(f"{path}: cannot be written as a video ({error}); name a file ending in .mp4") from None
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.time_base = TIME_BASE

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

    def close(self, *, keep: bool = True) -> None:
        """Finishes the file and gives it its name; or drops it. Whatever goes wrong, no partial file is left.

        Raises:
            DataError: if the rest cannot be written.
        """
        try:
            with self._named():
                if keep:
                    self._container.mux(self._stream.encode())
                self._container.close()
                if keep:
                    self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turns what the encoder raises in the block into an error that names the file."""
        try:
            yield
        except (self._av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: the video cannot be written ({reason})") from error


def _font(text: str, size: int) -> Any:
    """A font that has the letters of a text, where one is installed: class names may be Chinese."""
    if text.isascii():
        return ImageFont.load_default(size=size)
    usual = findfont("DejaVu Sans")  # comes with matplotlib
    return ImageFont.truetype(font_file(text, usual) or usual, size)


def draw_answer(
    image: np.ndarray,
    box: np.ndarray | None,
    line: str,
    share: float | None,
) -> Image.Image:
    """A picture with the face's box, a line of text above and a bar for the frame's weight below.

    Args:
        image: uint8 [H, W, 3].
        box: float [4]; None: no face.
        line: the running expression.
        share: the frame's weight as a share of the heaviest one, in [0, 1]; None: it has none.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = max(10, height // 24)
    font = _font(line, unit)
    if box is not None and not np.isnan(box).any():
        left, top, right, bottom = (float(value) for value in box)
        draw.rectangle(
            (min(left, right), min(top, bottom), max(left, right), max(top, bottom)),
            outline=MAIN,
            width=max(2, height // 200),
        )
    if line:
        draw.rectangle((0, 0, min(width, draw.textlength(line, font=font) + unit), unit * 1.5), fill=SHADE)
        draw.text((unit / 2, unit * 0.15), line, fill=TEXT, font=font)
    if share is not None:
        high = max(4, height // 60)
        draw.rectangle((0, height - high, width - 1, height - 1), fill=SHADE)
        draw.rectangle((0, height - high, max(1, round(share * (width - 1))), height - 1), fill=MAIN)
    return picture


def annotate(prediction: Prediction, output: Path, progress: Callable[[int], object]) -> None:
    """Writes the input's frames with face box, running expression and frame weight.

    The running expression is the answer of the window whose middle is nearest in time; the bar below is the
    frame's weight in the whole clip, as a share of the heaviest frame.

    Args:
        prediction: with a curve if the input is a video.
        output: a video file to write.
        progress: told how many frames were written since the last call.

    Raises:
        DataError: if it cannot be written.
    """
    curve = prediction.curve
    place_of = {int(number): place for place, number in enumerate(prediction.numbers)}
    heaviest = float(prediction.weights.max())
    source = Source(prediction.path)
    writer: VideoWriter | None = None
    size, whole = (0, 0), False
    box: np.ndarray | None = None
    share: float | None = None
    try:
        for count, frame in enumerate(source.frames()):
            time = count / ASSUMED_FPS if math.isnan(frame.time) else frame.time
            if prediction.looked_at(frame.number):  # frames of a thinned video keep what was drawn before
                place = place_of.get(frame.number)
                box = prediction.box_at(frame.number)
                share = None if place is None else float(prediction.weights[place]) / heaviest
            picture = draw_answer(frame.image, box, _running(prediction, curve, time), share)
            if writer is None:
                size = picture.size
                writer = VideoWriter(output, size)
            # Pictures of a folder may differ in size, a video's pictures must not.
            writer.add(picture if picture.size == size else picture.resize(size), time)
            progress(1)
        whole = True
    finally:
        if writer is not None:
            writer.close(keep=whole)


def _running(prediction: Prediction, curve: Curve | None, time: float) -> str:
    if curve is None:
        label, share = next(iter(prediction.probabilities.items()))
        return f"{label} {100 * share:.0f} %"
    index = curve.at(time)
    expression = curve.expressions[index]
    return f"{expression} {100 * float(curve.probabilities[index].max()):.0f} %" if expression else "no face"
