"""Frames of a video, an image or a folder of images, one at a time, with their number and time."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Code.common.errors import require
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.data.lists import FRAME_SUFFIXES, list_folder

BATCH_FRAMES = 16  # at most, however small they are
# A container that promises more than this many seconds beyond its last readable frame was cut off.
MISSING_SECONDS = 1.0
MISSING_SHARE = 0.1
_TRAILING_NUMBER = re.compile(r"([0-9]{1,9})$")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of an input.

    Attributes:
        name: file name, or the number of the frame in its video, from 0000000.
        number: of the frame in its source: from 0 in a video; of images the number that their names end
            in, or their place in the folder, from 0, if the names do not number them.
        time: seconds since the first frame of the video; NaN for images.
        image: uint8 [H, W, 3], RGB, upright, with square pixels.
    """

    name: str
    number: int
    time: float
    image: np.ndarray


class Source:
    """An input that can be read any number of times: a video, an image, or a folder of images.

    Args:
        path: an image by its suffix, a folder of images (natural order), anything else is a video.
        threads: of the video decoder; 0 lets ffmpeg choose, 1 is for worker processes.

    Attributes:
        path: as given.
        is_video: whether frames have times.
        total: number of frames, an estimate where the container only tells a duration; None: unknown.
        fps: average frames per second of a video; None where unknown.
        size: (width, height) of a video's pictures; None for images.
        problems: what the last reading found wrong with an input of which other frames could be read.

    Raises:
        DataError: one line naming the input: missing, no images in the folder, not readable as a video.
        MissingExtraError: if a video is to be read without PyAV.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self.fps: float | None = None
        self.size: tuple[int, int] | None = None
        self._threads = threads
        self._pixel_aspect = 1.0
        self._files: list[Path] = []
        # A single GIF is more likely a short video than a picture.
        is_image = self.path.suffix.lower() in FRAME_SUFFIXES and self.path.suffix.lower() != ".gif"
        self.is_video = False
        if self.path.is_dir():
            self._files = image_files(self.path)
        elif not self.path.is_file():
            raise DataError(f"{path}: no such file or folder")
        elif not self.path.stat().st_size:
            raise DataError(f"{path}: an empty file")
        elif is_image:
            self._files = [self.path]
        else:
            self.is_video = True
        self.total: int | None = len(self._files)
        if self.is_video:
            with _opened(self.path, self._threads) as container:
                stream = container.streams.video[0]
                rate = stream.average_rate or stream.guessed_rate
                self.fps = float(rate) if rate else None
                self.size = (stream.codec_context.width, stream.codec_context.height)
                self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
                self.total = stream.frames or None
                if self.total is None and container.duration and self.fps:
                    self.total = max(1, round(container.duration / 1e6 * self.fps))

    def frames(self, *, fps: float | None = None, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """Reads from the start, a frame at a time; what is not asked for is not converted.

        Args:
            fps: thins out a video to at most this many frames a second; images, which have no time, stay.
            wanted: only frames with these numbers.

        Raises:
            DataError: while reading, if not one frame can be decoded. What is wrong with single frames
                is told by `problems` afterwards.
        """
        self.problems = []
        if not self.is_video:
            yield from self._read_images(wanted)
            return
        upright = Upright()
        last_slot, end = -1, max(wanted, default=-1) if wanted is not None else math.inf
        for number, time, decoded in self._decode(complete=wanted is None):
            if number > end:
                return
            if fps is not None and not math.isnan(time):
                slot = math.floor(time * fps + 1e-6)
                if slot <= last_slot:
                    continue
                last_slot = slot
            if wanted is None or number in wanted:
                yield Frame(f"{number:07d}", number, time, upright(decoded, self._pixel_aspect))

    def _read_images(self, wanted: Collection[int] | None) -> Iterator[Frame]:
        readable = 0
        for number, file in zip(frame_numbers(self._files), self._files, strict=True):
            if wanted is not None and number not in wanted:
                continue
            try:
                image = read_image(str(file))
            except DataError as error:
                self.problems += error.problems
                continue
            readable += 1
            yield Frame(file.name, number, math.nan, image)
        if not readable and self.problems:
            raise DataError(self.problems)

    def _decode(self, *, complete: bool) -> Iterator[tuple[int, float, Any]]:
        """Number, time and ffmpeg's own frame; broken packets are counted and passed over."""
        av = require("av", "PyAV", "reading a video")
        number, start, time, bad, stopped = 0, math.nan, math.nan, 0, ""
        with _opened(self.path, self._threads) as container:
            packets = container.demux(container.streams.video[0])
            promised = container.duration / 1e6 if container.duration else 0.0
            while True:
                try:
                    packet = next(packets, None)
                    decoded = [] if packet is None else packet.decode()
                except av.error.InvalidDataError:
                    bad += 1
                    if bad > 100 + number:  # nothing but noise follows
                        break
                    continue
                except av.error.FFmpegError as error:
                    stopped = str(error.strerror)
                    break
                if packet is None:
                    break
                for frame in decoded:
                    time = number / (self.fps or math.nan) if frame.time is None else frame.time
                    start = time if number == 0 else start
                    yield number, time - start, frame
                    number += 1
        if not number:
            raise DataError(f"{self.path}: no frame can be decoded; broken, or not a video")
        if bad:
            self.problems.append(f"{self.path}: {bad} parts of the stream cannot be decoded")
        if stopped:
            self.problems.append(f"{self.path}: breaks off after {number} frames ({stopped})")
        elif complete and time - start < promised * (1 - MISSING_SHARE) - MISSING_SECONDS:
            self.problems.append(
                f"{self.path}: breaks off after {time - start:.1f} s, its header promises {promised:.1f} s"
            )


@contextmanager
def _opened(path: Path, threads: int) -> Iterator[Any]:
    av = require("av", "PyAV", "reading a video")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a video ({reason}); broken or not a video") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: no video stream in it; broken or not a video")
        stream = container.streams.video[0]
        try:
            if threads:
                stream.codec_context.thread_count = threads
            else:
                stream.thread_type = "AUTO"
        except AttributeError:  # a stream whose codec nobody knows has no context
            raise DataError(f"{path}: its video codec is not known to ffmpeg") from None
        yield container


class Upright:
    """Turns ffmpeg's frames into pictures; one for all frames of a reading, since preparing takes time."""

    def __init__(self) -> None:
        self._scaler = require("av.video.reformatter", "PyAV", "reading a video").VideoReformatter()

    def __call__(self, decoded: Any, pixel_aspect: float = 1.0) -> np.ndarray:
        """Ffmpeg's frame as uint8 [H, W, 3] RGB, with square pixels, turned as the file says.

        Older television formats store 720 x 576 pixels that are not square; faces must not be squeezed.
        """
        width = max(1, round(decoded.width * pixel_aspect))
        # By default every call starts a thread per core, which takes several times as long as its work.
        scaled = self._scaler.reformat(decoded, width, decoded.height, "rgb24", threads=1)
        # A phone held upright stores its picture lying, and how to turn it (counterclockwise).
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), round(decoded.rotation / 90)))


def image_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order, frame 2 before frame 10; hidden files are left out.

    Raises:
        DataError: if there are none, or an entry cannot be used; what is wrong with it.
    """
    problems: list[str] = []
    try:
        folders, images = list_folder(str(folder), problems)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    if problems:
        raise DataError(problems)
    if not images:
        inside = f"; give one of its {len(folders)} folders instead" if folders else ""
        raise DataError(f"{folder}: no images in this folder ({', '.join(FRAME_SUFFIXES)}){inside}")
    return [folder / name for name in images]


def frame_numbers(files: list[Path]) -> list[int]:
    """What number each image's name ends in; their places from 0 if that does not tell them apart."""
    found = [_TRAILING_NUMBER.search(file.stem) for file in files]
    numbers = [int(match[1]) for match in found if match]
    if len(files) == 1 or len(set(numbers)) < len(files) or max(numbers) >= 10_000_000:
        return list(range(len(files)))
    return numbers


def batches(frames: Iterator[Frame], pixels: int) -> Iterator[list[Frame]]:
    """Runs of frames of one size, within BATCH_FRAMES and so many pixels (a frame larger than that comes alone)."""
    batch: list[Frame] = []
    for frame in frames:
        height, width, _ = frame.image.shape
        room = min(BATCH_FRAMES, pixels // (height * width))
        if batch and (frame.image.shape != batch[0].image.shape or len(batch) >= room):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
