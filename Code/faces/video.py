"""Reads the frames of a video, an animation, an image or a folder of images, one at a time, with number and time."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..common.names import counted, printable
from ..data.clips import DataError
from ..data.images import open_image, read_image, to_rgb
from ..data.listing import name_fault
from .decoder import Clock, Upright, decoded, frame_rate, longest_gap, open_video, progressive
from .inputs import Kind, frame_numbers, image_files, kind_of

# A file whose header promises more than this (seconds, and share of the duration) beyond its last frame is truncated.
MISSING_SECONDS, MISSING_SHARE = 1.0, 0.1
# Decoded frames that are kept for the second reading, in bytes: two seconds of 720 x 576 at 25 frames a second.
KEPT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of an input."""

    name: str  # file name; in a video the frame's number, from 0000000
    number: int  # from 0; of image files, the number at the end of their names where these ascend
    time: float  # seconds since the first frame of the video; NaN for images
    image: np.ndarray  # uint8 [H, W, 3], RGB, upright, with square pixels


# Name, number and time of a frame, and what decodes its image.
_Encoded = tuple[str, int, float, Callable[[], np.ndarray]]


class Source:
    """Frames that can be read any number of times, in a file, a folder (`FileSource`) or in memory (`ArraySource`).

    If all of them fit into KEPT_BYTES, it keeps them, so that a short video is decoded once.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        self.total: int | None = None  # number of frames, estimated if the file states only a duration; None: unknown
        # The image files of a folder, or a single one, by their frames' numbers; empty for videos and photos.
        self.files: Mapping[int, Path] = {}
        self.problems: Sequence[str] = ()  # what went wrong when the frames were last read, one line each
        self.quarter_turns = 0  # by how many times 90 degrees all frames are rotated counterclockwise; see `find_turn`
        self.begin: float | None = None  # timestamp in the file at which the latest reading's times are 0; or unknown
        self._kept: Mapping[int, Frame] | None = None

    @property
    def is_video(self) -> bool:
        """Whether the frames have times."""
        return self.kind in (Kind.VIDEO, Kind.ANIMATION)

    def frames(self, *, fps: float | None = None, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """Yields frames from the start, one at a time.

        Args:
            fps: at most this many frames a second of a video; images have no times, so all of them are read.
            wanted: numbers of the frames to yield; the others are not converted.

        DataError: not a single frame can be decoded; if some cannot, `problems` says so.
        """
        if wanted is None:
            frames = self._keeping(fps)
        elif self._kept is not None and self._kept.keys() >= set(wanted):
            frames = (frame for number, frame in self._kept.items() if number in wanted)
        else:
            frames = self._read(fps, wanted)
        for frame in frames:
            turned = np.rot90(frame.image, self.quarter_turns)
            yield replace(frame, image=np.ascontiguousarray(turned)) if self.quarter_turns else frame

    def forget(self) -> None:
        """Drops the frames that were kept; they are decoded again when they are read again."""
        self._kept = None

    def _keeping(self, fps: float | None) -> Iterator[Frame]:
        kept, left = {}, KEPT_BYTES
        for frame in self._read(fps, None):
            left -= frame.image.nbytes
            kept[frame.number] = frame
            if left < 0:
                kept.clear()
            yield frame
        self._kept = kept if left >= 0 else None

    def _read(self, fps: float | None, wanted: Collection[int] | None) -> Iterator[Frame]:
        raise NotImplementedError


class FileSource(Source):
    """A video, an animation, an image, or a folder of images.

    Args:
        path: see `kind_of`; the images of a folder are read in natural order.
        threads: of the video decoder; 0 lets ffmpeg choose. Worker processes use 1.

    DataError: the input is missing, is no image or video that can be opened, or is a folder without images.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        if fault := name_fault(str(path)):
            raise DataError(f"{printable(str(path))}: {fault}")
        if not Path(path).exists():
            raise DataError(f"{path}: no such file or folder")
        super().__init__(Path(path), kind_of(path))
        self.total, self._threads = 1, threads
        if self.kind is not Kind.FOLDER and not (self.path.is_file() and self.path.stat().st_size):
            raise DataError(f"{path}: {'an empty' if self.path.is_file() else 'not a regular'} file")
        if self.kind is Kind.VIDEO:
            with open_video(self.path, threads) as (container, stream):
                rate = frame_rate(container, stream)
                self.total = stream.frames or None
                if self.total is None and container.duration and rate:
                    self.total = max(1, round(container.duration / 1e6 * rate))
        elif self.kind is Kind.FOLDER:
            files = image_files(self.path)
            numbers = frame_numbers(files) if len(files) > 1 else None
            self.files = dict(zip(numbers or range(len(files)), files, strict=True))
            self.total = len(files)
        elif self.kind is not Kind.PHOTO:
            with open_image(str(self.path), whole=False) as image:
                if self.kind is Kind.ANIMATION:
                    self.total = getattr(image, "n_frames", 1)
                else:
                    self.files = {0: self.path}

    def _read(self, fps: float | None, wanted: Collection[int] | None) -> Iterator[Frame]:
        problems: list[str] = []
        self.problems = problems
        readable = failed = False
        last_slot, end = -1, math.inf if wanted is None else max(wanted, default=-1)
        if self.kind is Kind.VIDEO:
            encoded = self._of_video(problems, complete=wanted is None)
        else:
            encoded = self._of_animation(problems) if self.kind is Kind.ANIMATION else self._of_files()
        for name, number, time, decode in encoded:
            if number > end:
                break
            if fps is not None and self.is_video:
                slot = math.floor(time * fps + 1e-6)
                if slot <= last_slot:
                    continue
                last_slot = slot
            if wanted is None or number in wanted:
                try:
                    image = decode()
                except DataError as error:
                    failed = True
                    problems += [line for line in error.problems if line not in problems]
                    continue
                readable = True
                yield Frame(name, number, time, image)
        if failed and not readable:
            raise DataError(problems)

    def _of_files(self) -> Iterator[_Encoded]:
        read = read_photo if self.kind is Kind.PHOTO else read_image
        for number, file in (self.files or {0: self.path}).items():
            yield file.name, number, math.nan, partial(read, str(file))

    def _of_animation(self, problems: list[str]) -> Iterator[_Encoded]:
        """Up to the first frame that is damaged."""
        with open_image(str(self.path)) as image:
            # A PNG may start with a still image for programs that do not show animations.
            first = 1 if image.info.get("default_image") else 0
            time = 0.0
            for number in range(getattr(image, "n_frames", 1) - first):
                try:
                    image.seek(first + number)
                    picture = np.asarray(to_rgb(image))
                except Exception as error:  # a damaged file may raise anything in a decoder
                    if not number:
                        raise
                    problems.append(f"{self.path}: ends early, after {counted(number, 'frame')} ({error})")
                    return
                yield f"{number:07d}", number, time, partial(np.asarray, picture)
                milliseconds = image.info.get("duration", 0)
                time += milliseconds / 1000 if milliseconds > 10 else 0.1  # as browsers do

    def _of_video(self, problems: list[str], *, complete: bool) -> Iterator[_Encoded]:
        """If all frames are read (`complete`), a truncated file is a problem."""

        def note(problem: str) -> None:
            if problem:
                problems.append(f"{self.path}: {problem}")

        number, time = -1, 0.0
        with open_video(self.path, self._threads) as (container, stream):
            promised = container.duration / 1e6 if container.duration else 0.0
            clock = Clock(frame_rate(container, stream), longest_gap(container))
            upright = Upright(stream)
            for number, frame in enumerate(progressive(decoded(container, stream, note))):
                time = clock(frame.time)
                self.begin = clock.begin
                yield f"{number:07d}", number, time, partial(upright, frame)
        if number < 0:
            raise DataError(f"{self.path}: no frame can be decoded; the file is damaged or not a video")
        note(upright.problem)
        note(clock.problem)
        seen = time + max(0.0, clock.begin or 0.0)  # headers count from zero, or from the first frame
        if complete and not clock.problem and seen < promised * (1 - MISSING_SHARE) - MISSING_SECONDS:
            note(f"ends early, after {seen:.1f} s; its header says {promised:.1f} s")


class ArraySource(Source):
    """The frames of one clip, or a single picture, in memory; they have no times.

    The array is uint8 [H, W, 3] or [T, H, W, 3], RGB; or float likewise, in [0, 1]. DataError: it is something else.
    """

    def __init__(self, array: np.ndarray) -> None:
        frames = array[None] if array.ndim == 3 else array
        if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise DataError(f"an array of shape {list(array.shape)}; expected [H, W, 3] or [T, H, W, 3], RGB")
        if frames.dtype != np.uint8:
            low, high = float(frames.min()), float(frames.max())
            if not np.issubdtype(frames.dtype, np.floating) or not (low >= 0 and high <= 1):  # NaN is refused, too
                what = f"an array of {frames.dtype} with values from {low:g} to {high:g}"
                raise DataError(f"{what}; expected uint8, or float in [0, 1]")
        super().__init__(Path("array"), Kind.FOLDER)
        self.total, self._frames = len(frames), frames

    def _read(self, fps: float | None, wanted: Collection[int] | None) -> Iterator[Frame]:
        for number, image in enumerate(self._frames):
            if wanted is None or number in wanted:
                pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
                yield Frame(f"{number:07d}", number, math.nan, pixels)


def read_photo(path: str) -> np.ndarray:
    """Decodes a HEIC or AVIF photo, all of its tiles, to uint8 [H, W, 3], RGB, upright."""
    try:
        try:
            importlib.import_module("PIL.AvifImagePlugin")  # since Pillow 11.3
            image = Image.open(path, formats=("AVIF",))
        except (ImportError, UnidentifiedImageError):
            heif = importlib.import_module("pillow_heif")
            image = heif.open_heif(path, convert_hdr_to_8bit=True).to_pillow()
        with image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except ImportError:
        raise DataError(f"{path}: a HEIC photo; pip install pillow-heif, or save it as JPEG") from None
    except Exception as error:  # a damaged file may raise anything in a decoder
        raise DataError(f"{path}: the photo cannot be decoded ({error}); save it as JPEG") from error
