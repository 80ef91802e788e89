"""Frames of a video, an image or a folder of images, one at a time, with their time in seconds."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from Code.data.clips import DataError
from Code.data.images import read_image
from Code.data.lists import FRAME_SUFFIXES, list_folder

# Bounds of a batch: 32 frames of 500 x 500, fewer of larger ones (4K comes one by one). The detector
# works on float copies of a whole batch, 12 bytes a pixel and more.
BATCH_PIXELS = 8_000_000
BATCH_FRAMES = 32


class MissingExtraError(RuntimeError):
    """A package that only the face tools need is not installed."""


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Imports a package that not every installation has.

    Raises:
        MissingExtraError: one line that says what needs which package, and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {package} ({error}): pip install -r requirements-faces.txt"
        ) from error


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of an input.

    Attributes:
        name: file name, or the number of the frame in its video, from 0000000.
        time: seconds since the first frame of the video; NaN for files.
        image: uint8 [H, W, 3], RGB, upright.
    """

    name: str
    time: float
    image: np.ndarray


def read_frames(path: str | Path) -> tuple[int | None, Iterator[Frame]]:
    """Opens an input: an image by its suffix, a folder of images (natural order), anything else as a video.

    Returns:
        The number of frames, None where the container does not tell, and the frames, decoded as they
        are asked for.

    Raises:
        DataError: one line naming the input: missing, no images in the folder, not readable as a
            video. The iterator raises it for what shows up later: a broken image or stream.
        MissingExtraError: if a video is to be read without PyAV.
    """
    path = Path(path)
    if path.is_dir():
        files = image_files(path)
        return len(files), (Frame(file.name, math.nan, read_image(str(file))) for file in files)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    # A single GIF is more likely a short video than a picture.
    if path.suffix.lower() in FRAME_SUFFIXES and path.suffix.lower() != ".gif":
        return 1, (Frame(file.name, math.nan, read_image(str(file))) for file in [path])
    return _open_video(path)


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


def _open_video(path: Path) -> tuple[int | None, Iterator[Frame]]:
    av = require("av", "PyAV", "reading a video")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: cannot be read as a video ({error.strerror}); broken or not a video") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: no video stream in it; broken or not a video")
    container.streams.video[0].thread_type = "AUTO"
    return container.streams.video[0].frames or None, _decode(path, container, av.error.FFmpegError)


def _decode(path: Path, container: Any, ffmpeg_error: type[Exception]) -> Iterator[Frame]:
    index, start = 0, None
    with container:
        try:
            for decoded in container.decode(video=0):
                image = decoded.to_ndarray(format="rgb24")
                # A phone held upright stores its picture lying, and how to turn it (counterclockwise).
                image = np.rot90(image, round(decoded.rotation / 90))
                time = math.nan if decoded.time is None else decoded.time
                start = time if start is None else start
                yield Frame(f"{index:07d}", time - start, np.ascontiguousarray(image))
                index += 1
        except ffmpeg_error as error:
            raise DataError(f"{path}: broken after {index} frames ({error})") from error
    if not index:
        raise DataError(f"{path}: holds no frames")


def batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Runs of frames of one size, within BATCH_FRAMES and BATCH_PIXELS."""
    batch: list[Frame] = []
    for frame in frames:
        height, width, _ = frame.image.shape
        room = min(BATCH_FRAMES, BATCH_PIXELS // (height * width))
        if batch and (frame.image.shape != batch[0].image.shape or len(batch) >= room):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
