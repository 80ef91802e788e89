"""Reads the frames of a video, an animation, an image or a folder of images, one at a time, with number and time."""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..common.names import counted, natural_key, printable
from ..data.clips import DataError
from ..data.images import open_image, read_image, to_rgb
from ..data.listing import FRAME_SUFFIXES, is_system, list_folder, name_fault
from .clock import Clock, Stamps
from .decoder import Upright, frame_rate, is_joined, longest_gap, open_video, progressive, pyav
from .inputs import VIDEO_SUFFIXES, Kind, clips_in, kind_of, split_files

# Frames that are searched together: more of them leave the caches and take longer.
BATCH_FRAMES, BATCH_PIXELS = 16, 700_000
# A file whose header promises more than this (seconds, and share of the duration) beyond its last frame is truncated.
MISSING_SECONDS, MISSING_SHARE = 1.0, 0.1
# Neighbors of a folder that are compared, and the mean difference (gray levels) of thumbnails in different scenes.
COMPARED, CHANGED = 12, 21.0
_TRAILING_NUMBER = re.compile(r"([0-9]{1,9})$")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of an input.

    Attributes:
        name: file name; in a video the frame's number, from 0000000.
        number: from 0; of image files, the number at the end of their names where these ascend.
        time: seconds since the first frame of the video; NaN for images.
        image: uint8 [H, W, 3], RGB, upright, with square pixels.
    """

    name: str
    number: int
    time: float
    image: np.ndarray


class Source:
    """An input that can be read any number of times: a video, an animation, an image, or a folder of images.

    Args:
        path: see `kind_of`; the images of a folder are read in natural order.
        threads: of the video decoder; 0 lets ffmpeg choose. Worker processes use 1.

    Attributes:
        is_video: whether its frames have times.
        total: number of frames, estimated if the file states only a duration; None: unknown.
        fps: average frame rate of a video; None: unknown.
        problems: what went wrong when the frames were last read, one line each.
        quarter_turns: every frame is rotated counterclockwise by this many times 90 degrees; see `find_turn`.
        begin: timestamp in the file of the first frame of the latest reading, from which times count; None: unknown.

    Raises:
        DataError: the input is missing, is not readable as a video, or is a folder without images.
        MissingExtraError: the input is a video, and PyAV is not installed.
    """

    kind = Kind.FOLDER
    total: int | None = None
    fps: float | None = None
    begin: float | None = None
    quarter_turns = 0

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self._threads = threads
        self._files: list[Path] = []
        if fault := name_fault(str(path)):
            raise DataError(f"{printable(str(path))}: {fault}")
        if not self.path.exists():
            raise DataError(f"{path}: no such file or folder")
        self.kind = kind_of(self.path)
        if self.kind is not Kind.FOLDER and not self.path.is_file():
            raise DataError(f"{path}: not a regular file; give a file or a folder")
        if not self.path.stat().st_size and self.kind is not Kind.FOLDER:
            raise DataError(f"{path}: an empty file")
        if self.kind is Kind.VIDEO:
            with open_video(self.path, threads) as (container, stream):
                self.fps = frame_rate(container, stream)
                self.total = stream.frames or None
                if self.total is None and container.duration and self.fps:
                    self.total = max(1, round(container.duration / 1e6 * self.fps))
        elif self.kind is Kind.ANIMATION:
            with open_image(str(self.path)) as image:
                self.total = getattr(image, "n_frames", 1)
        else:
            self._files = image_files(self.path) if self.kind is Kind.FOLDER else [self.path]
            self.total = len(self._files)

    @property
    def is_video(self) -> bool:
        """Whether the frames have times."""
        return self.kind in (Kind.VIDEO, Kind.ANIMATION)

    @property
    def files(self) -> dict[int, Path]:
        """The image files of a folder, or a single one, by their frames' numbers; empty for videos and photos."""
        return {} if self.kind is Kind.PHOTO else dict(zip(frame_numbers(self._files), self._files, strict=True))

    def frames(self, *, fps: float | None = None, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """Yields frames from the start, one at a time.

        Args:
            fps: at most this many frames a second of a video; images have no times, so all of them are read.
            wanted: numbers of the frames to yield; the others are not converted.

        Raises:
            DataError: not a single frame can be decoded. Problems with some of the frames are in `problems` afterwards.
        """
        for frame in self._read(fps, wanted):
            turned = np.rot90(frame.image, self.quarter_turns)
            yield replace(frame, image=np.ascontiguousarray(turned)) if self.quarter_turns else frame

    def _read(self, fps: float | None, wanted: Collection[int] | None) -> Iterator[Frame]:
        """`frames` without `quarter_turns`."""
        self.problems = []
        if not self.is_video:
            yield from self._read_pictures(wanted)
            return
        decoded = self._decode(complete=wanted is None) if self.kind is Kind.VIDEO else self._read_animation()
        failed: list[str] = []
        readable = False
        last_slot, end = -1, math.inf if wanted is None else max(wanted, default=-1)
        for number, time, convert in decoded:
            if number > end:
                break
            if fps is not None:
                slot = math.floor(time * fps + 1e-6)
                if slot <= last_slot:
                    continue
                last_slot = slot
            if wanted is None or number in wanted:
                try:
                    image = convert()
                except (ValueError, OSError) as error:  # a pixel format that ffmpeg cannot convert
                    failed.append(str(getattr(error, "strerror", None) or error))
                    continue
                readable = True
                yield Frame(f"{number:07d}", number, time, image)
        if failed:
            what = counted(len(failed), "frame")
            self.problems.append(f"{self.path}: {what} cannot be converted to RGB ({failed[0]})")
            if not readable:
                raise DataError(self.problems[-1])

    def _read_pictures(self, wanted: Collection[int] | None) -> Iterator[Frame]:
        readable = False
        for number, file in zip(frame_numbers(self._files), self._files, strict=True):
            if wanted is not None and number not in wanted:
                continue
            try:
                image = read_photo(file) if self.kind is Kind.PHOTO else read_image(str(file))
            except DataError as error:
                self.problems += error.problems
                continue
            readable = True
            yield Frame(file.name, number, math.nan, image)
        if not readable and self.problems:
            raise DataError(self.problems)

    def _read_animation(self) -> Iterator[tuple[int, float, Callable[[], np.ndarray]]]:
        """Yields number, time and image of an animation's frames, up to the first that is damaged."""
        with self._animation() as image:
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
                    self.problems.append(f"{self.path}: ends early, after {counted(number, 'frame')} ({error})")
                    return
                yield number, time, partial(np.asarray, picture)
                milliseconds = image.info.get("duration", 0)
                time += milliseconds / 1000 if milliseconds > 10 else 0.1  # as browsers do

    def _animation(self) -> AbstractContextManager[Image.Image]:
        return open_image(str(self.path))

    def _decode(self, *, complete: bool) -> Iterator[tuple[int, float, Callable[[], np.ndarray]]]:
        """Yields number, time and image of a video's frames; each image is converted when it is called for.

        Damaged packets are counted and skipped. If all frames are read (`complete`), a truncated file is a problem.
        """
        error = pyav().error
        stamps = Stamps()
        number, bad, damaged, end, stopped = 0, 0, 0, 0, ""
        with open_video(self.path, self._threads) as (container, stream):
            promised = container.duration / 1e6 if container.duration else 0.0
            clock, upright = Clock(self.fps, longest_gap(container)), Upright(stream)

            def decoded() -> Iterator[Any]:
                nonlocal bad, damaged, end, stopped
                packets = container.demux(stream)
                while bad <= 100 + number:  # the rest is noise
                    try:
                        packet = next(packets)
                        frames = packet.decode()
                    except StopIteration:
                        return
                    except error.InvalidDataError:
                        bad += 1
                        continue
                    except error.FFmpegError as failure:
                        stopped = str(failure.strerror)
                        return
                    end = max(end, (packet.pos or 0) + packet.size)
                    for frame in frames:
                        damaged += frame.is_corrupt
                        frame.pts = stamps(frame.pts, frame.dts)
                        yield frame

            for frame in progressive(decoded()):
                time = clock(frame.time)
                self.begin = clock.begin
                yield number, time, partial(upright, frame)
                number += 1
            joined = complete and is_joined(container, end)
        if not number:
            raise DataError(f"{self.path}: no frame can be decoded; the file is damaged or not a video")
        missing = complete and not stopped and clock.seen < promised * (1 - MISSING_SHARE) - MISSING_SECONDS
        faults = (
            (upright.ignored, f"pixels {upright.ignored or 0:g} times as wide as high; taken as square"),
            (bad, f"{counted(bad, 'part')} of the stream cannot be decoded"),
            (damaged, f"{counted(damaged, 'frame')} damaged"),
            (joined, "only the first of several joined files is read; join them with ffmpeg"),
            (stopped, f"ends early, after {counted(number, 'frame')} ({stopped})"),
            (missing, f"ends early, after {clock.seen:.1f} s; its header says {promised:.1f} s"),
        )
        self.problems += clock.problems(self.path) + [f"{self.path}: {what}" for met, what in faults if met]


class OpenAnimation(Source):
    """A GIF, WebP or PNG animation that was opened with Pillow."""

    kind = Kind.ANIMATION

    def __init__(self, image: Image.Image) -> None:
        self.path, self.problems, self.total = Path("animation"), [], image.n_frames  # type: ignore[attr-defined]
        self._image = image

    def _animation(self) -> AbstractContextManager[Image.Image]:
        return nullcontext(self._image)  # it stays open: it is the caller's


class ArraySource(Source):
    """The frames of one clip, or a single picture, in memory; they have no times.

    Args:
        array: uint8 [H, W, 3] or [T, H, W, 3], RGB; or float likewise, in [0, 1].

    Raises:
        DataError: another type, shape or range.
    """

    def __init__(self, array: np.ndarray) -> None:
        frames = array[None] if array.ndim == 3 else array
        if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise DataError(f"an array of shape {list(array.shape)}; expected [H, W, 3] or [T, H, W, 3], RGB")
        low, high = float(frames.min()), float(frames.max())
        if frames.dtype != np.uint8 and not np.issubdtype(frames.dtype, np.floating):
            raise DataError(f"an array of {frames.dtype}; expected uint8, or float in [0, 1]")
        if frames.dtype != np.uint8 and not (low >= 0 and high <= 1):  # NaN is refused, too
            raise DataError(f"a float array with values from {low:g} to {high:g}; expected [0, 1], or uint8, 0 to 255")
        self.path = Path("array")
        self.problems = []
        self.total = len(frames)
        self._files = []
        self._frames = frames

    def _read(self, fps: float | None, wanted: Collection[int] | None) -> Iterator[Frame]:
        for number, image in enumerate(self._frames):
            if wanted is None or number in wanted:
                pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
                yield Frame(f"{number:07d}", number, math.nan, pixels)


def read_photo(path: Path) -> np.ndarray:
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


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder in natural order, frame 2 before frame 10; hidden files are skipped.

    Raises:
        DataError: there are none, the folder contains videos, or a file cannot be used.
    """
    problems: list[str] = []
    try:
        folders, images = list_folder(str(folder), problems)
        names = sorted(os.listdir(folder), key=natural_key)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    if problems:
        raise DataError(problems)
    films = [name for name in names if name.lower().endswith(VIDEO_SUFFIXES) and not is_system(name)]
    videos, images = split_files(folder, [*films, *images])
    if videos:
        raise DataError(
            f"{folder}: contains {counted(len(videos), 'video')}, so it is not a folder of frames; "
            f"name a video, such as {videos[0]}"
        )
    if not images:
        inside = f"; name one of its {counted(len(folders), 'folder')} instead" if folders else ""
        raise DataError(f"{folder}: no images in this folder ({', '.join(FRAME_SUFFIXES)}){inside}")
    return [folder / name for name in images]


def frame_numbers(files: list[Path]) -> list[int]:
    """The number at the end of each file's name; positions from 0 if these numbers are missing or do not ascend."""
    numbers = _ascending(files)
    return list(range(len(files))) if len(files) <= 1 or not numbers or numbers[-1] >= 10_000_000 else numbers


def _ascending(files: list[Path]) -> list[int] | None:
    """The numbers at the end of the files' names, if all have one and they ascend."""
    numbers = [int(match[1]) for file in files if (match := _TRAILING_NUMBER.search(file.stem))]
    return numbers if len(numbers) == len(files) and all(one < other for one, other in pairwise(numbers)) else None


def inputs_in(
    path: str | os.PathLike[str], pictures: bool | None = None, say: Callable[[str], object] = lambda line: None
) -> list[str] | None:
    """The inputs in a folder of videos or of pictures, or in a tree of folders; None if `path` is one input itself.

    Args:
        pictures: what the images in a folder are: True: pictures; False: the frames of one clip; None: see `why_apart`.
        say: called with a line on what is skipped, and on folders whose images do not follow each other.

    Raises:
        DataError: see `clips_in`.
    """
    clips = clips_in(path, say)
    found: list[str] = []
    for clip in [os.fspath(path)] if clips is None else clips:
        files = image_files(Path(clip)) if pictures is not False and os.path.isdir(clip) else []
        why = why_apart(files) if pictures is None else ""
        if why:
            say(f"{clip}: {why}, so its {len(files)} images are no clip; each is answered (--clip: as one clip)")
        found += list(map(str, files)) if files and (pictures or why) else [clip]
    return None if clips is None and found == [os.fspath(path)] else found


def why_apart(files: list[Path]) -> str:
    """Why images are not the frames of one clip; "" if their names end in ascending numbers, they have one size, and
    most look like the next one. At most `COMPARED` neighbors are compared.
    """
    if len(files) < 2:
        return ""
    if _ascending(files) is None:
        return "the names of the images are no frame numbers"
    sizes, differences = set(), []
    for index in {round(place) for place in np.linspace(0, len(files) - 2, min(COMPARED, len(files) - 1))}:
        small = []
        for file in files[index : index + 2]:
            try:
                with open_image(str(file)) as image:
                    sizes.add(image.size)
                    image.draft("L", (64, 64))
                    gray = image.convert("L").resize((32, 32), Image.Resampling.BOX)
                    small.append(np.asarray(gray, dtype=np.float32))
            except (DataError, OSError, ValueError, SyntaxError):  # damaged; whoever reads it says so
                continue
        differences += [np.abs(small[1] - small[0]).mean() > CHANGED] if len(small) == 2 else []
    if len(sizes) > 1:
        return "the images differ in size"
    apart = len(differences) >= 3 and 5 * sum(differences) > 4 * len(differences)  # two may be far apart in a clip
    return "the images show different things" if apart else ""


def batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Groups frames of the same size in a row, at most BATCH_FRAMES and BATCH_PIXELS; a larger frame is alone."""
    batch: list[Frame] = []
    for frame in frames:
        height, width, _ = frame.image.shape
        most = min(BATCH_FRAMES, BATCH_PIXELS // (height * width))
        if batch and (frame.image.shape != batch[0].image.shape or len(batch) >= most):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
