"""What can be predicted from: paths, folders of videos, pictures and clips in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.clips import DataError
from ..data.images import upright_rgb
from .inputs import Kind, find_jobs, split_files
from .video import Frame, Source


class ArraySource(Source):
    """The frames of one clip, or a single picture, in memory.

    Args:
        array: uint8 [H, W, 3] or [T, H, W, 3], RGB; or float likewise, in [0, 1].

    Raises:
        DataError: another type, shape or range.
    """

    def __init__(self, array: np.ndarray) -> None:
        frames = array[None] if array.ndim == 3 else array
        if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise DataError(f"an array of shape {list(array.shape)}; expected [H, W, 3] or [T, H, W, 3], RGB")
        if np.issubdtype(frames.dtype, np.floating):
            low, high = float(frames.min()), float(frames.max())
            if not (low >= 0 and high <= 1):  # NaN is refused, too
                raise DataError(
                    f"a float array with values from {low:g} to {high:g}; expected [0, 1], or uint8 from 0 to 255"
                )
        elif frames.dtype != np.uint8:
            raise DataError(f"an array of {frames.dtype}; expected uint8, or float in [0, 1]")
        self.path = Path("array")
        self.problems = []
        self.kind = Kind.FOLDER
        self.fps, self.size, self.is_video, self.total = None, None, False, len(frames)
        self._files = []
        self._frames = frames

    def frames(self, *, fps: float | None = None, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """See `Source.frames`; frames in memory have no times."""
        for number, image in enumerate(self._frames):
            if wanted is None or number in wanted:
                if image.dtype != np.uint8:
                    image = np.rint(image * 255).astype(np.uint8)
                yield Frame(f"{number:07d}", number, math.nan, self.turned(image))


def clips_in(path: str | os.PathLike[str], say: Callable[[str], object] = lambda line: None) -> list[str] | None:
    """The clips in a folder of videos, or in a tree of folders; None if `path` itself is one clip.

    Args:
        say: called with a line for each kind of file that is skipped.

    Raises:
        DataError: there are neither videos nor images in the folder, or the path is empty.
    """
    if not os.fspath(path):
        raise DataError("an empty path; name a file or a folder")
    path = Path(path)
    if not path.is_dir():
        return None
    videos, pictures = split_files(path, [name for name in os.listdir(path) if not name.startswith(".")])
    if pictures and not videos:
        return None  # frames of one clip
    jobs, remarks = find_jobs(path)
    for line in remarks:
        say(line)
    return [job.path for job in jobs]


def sources(given: Any) -> tuple[list[Source | str], bool]:
    """The inputs that a predictor is called with, and whether they are several.

    Paths stay paths, so that a missing or broken one is an error only when its turn comes.

    Args:
        given: a path, an array, a picture of Pillow, or a sequence of them. A folder of videos stands for all of them.

    Raises:
        DataError: an array that is no picture and no clip.
        TypeError: something else.
    """
    if isinstance(given, (str, os.PathLike)):
        clips = clips_in(given)
        return ([os.fspath(given)], False) if clips is None else (list(clips), True)
    if isinstance(given, Image.Image):
        return [ArraySource(np.asarray(upright_rgb(given)))], False
    if isinstance(given, np.ndarray):
        return [ArraySource(given)], False
    if isinstance(given, (Sequence, Iterator)) and not isinstance(given, (bytes, bytearray)):
        return [source for each in given for source in sources(each)[0]], True
    raise TypeError(f"{type(given).__name__}: expected a path, a list of paths, a folder, or an array [T, H, W, 3]")
