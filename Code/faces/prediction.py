"""A long video as a curve: one answer per window of time.

What the network says about one input, and the faces it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from Code.data.clips import DataError
from Code.faces.align import FACE_SIZE, Eyes
from Code.faces.extract import Analysis, cut_out
from Code.faces.track import Path as FacePath
from Code.faces.video import Source


@dataclass(frozen=True)
class Curve:
    """What the network says about W windows of one video.

    Attributes:
        labels: C class names, in the network's order.
        starts, ends: float64 [W], seconds; a window holds the frames with start <= time < end.
        probabilities: float64 [W, C]; NaN where nobody shows a face.
        faces: int64 [W], frames that the answer rests on.
        tracks: int64 [W], whose face it is: the main person of that window; -1: nobody.
    """

    labels: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    probabilities: np.ndarray
    faces: np.ndarray
    tracks: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def expressions(self) -> list[str]:
        """The most probable label of each window; empty where nobody shows a face."""
        return [
            self.labels[int(np.argmax(row))] if count else ""
            for row, count in zip(self.probabilities, self.faces, strict=True)
        ]

    def at(self, time: float) -> int:
        """Index of the window whose middle is nearest to a time in seconds; of equal ones the earlier."""
        return int(np.abs((self.starts + self.ends) / 2 - time).argmin())


def windows(times: np.ndarray, window: float, stride: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where windows begin and end: starts 0, stride, ... until one reaches the end; the last may be shorter.

    Args:
        times: float64 [P], seconds, ascending.
        window: length in seconds.
        stride: from one start to the next, in seconds; None: half a window.

    Returns:
        starts and ends, float64 [W], W > 0.

    Raises:
        DataError: if the frames have no times.
        ValueError: if window or stride is not above zero.
    """
    stride = window / 2 if stride is None else stride
    if not (0 < window < math.inf and 0 < stride < math.inf):
        raise ValueError(f"window {window} and stride {stride} must be above zero")
    if np.isnan(times).any():
        raise DataError("windows need times, and images have none; give a video")
    length = float(times[-1])
    count = 1 + max(0, math.ceil((length - window) / stride + 1e-9))
    starts = np.arange(count) * stride
    # A stride above the window may step beyond the last frame.
    starts = starts[starts <= length]
    return starts, starts + window


@dataclass(frozen=True)
class Prediction:
    """What the network says about one input, of which T frames show the main person's face.

    Attributes:
        path: the input.
        expression: the most probable label.
        probabilities: label -> probability (softmax of the clip's logits), most probable first.
        logits: float32 [C], in the order of the network's labels.
        num_frames: frames of the input that were looked at, those without a face included.
        num_people: people (tracks) in it, the main person included; 1 for aligned frames.
        frames: T names: file names, or frame numbers of a video, from 0000000.
        numbers: int64 [T], their numbers in the source.
        times: float64 [T], seconds since the first frame of the video; NaN for files.
        alpha: float32 [T], self-attention; 1 / T for score fusion.
        beta: float32 [T], relation-attention; None where the network has none.
        weights: float32 [T], what each frame counts; sums to 1.
        features: float32 [T, 512], of the backbone.
        boxes: float64 [T, 4], face in the picture: left, top, right, bottom; NaN where none was searched.
        landmarks: float64 [T, 5, 2], eyes, nose, mouth corners; NaN likewise.
        filled: bool [T], the frames in which the face was missed and its place is between two others.
        curve: an answer per window of time, if one was asked for.
        problems: what could not be read, a line each; the answer rests on the rest.
    """

    path: str
    expression: str
    probabilities: dict[str, float]
    logits: np.ndarray
    num_frames: int
    num_people: int
    frames: tuple[str, ...]
    numbers: np.ndarray
    times: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray | None
    weights: np.ndarray
    features: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    filled: np.ndarray
    curve: Curve | None
    problems: tuple[str, ...]
    _found: Found = field(repr=False)

    def most_weighted(self, count: int = 3) -> list[int]:
        """Indices of the frames that count most, heaviest first; of equal ones the earlier first."""
        return [int(index) for index in np.argsort(-self.weights, kind="stable")[:count]]

    def box_at(self, number: int) -> np.ndarray | None:
        """The box, float64 [4], of whoever the answer is about in a frame, by its number in the source.

        That is the main person, or in their absence the main person of a window; None: nobody, or a frame
        that was not looked at.
        """
        found = self._found
        position = int(np.searchsorted(found.analysis.numbers, number))
        if position == len(found.analysis.numbers) or found.analysis.numbers[position] != number:
            return None
        for track in (found.main, *found.paths):
            path = found.paths[track]
            place = int(np.searchsorted(path.positions, position))
            if place < len(path) and path.positions[place] == position:
                return path.boxes[place]
        return None

    def looked_at(self, number: int) -> bool:
        """Whether a frame, by its number in the source, was looked at: of a thinned video not all are."""
        return bool(np.isin(number, self._found.analysis.numbers))

    def crops(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """The faces as they were cut out, read once more, since a long video's would not fit into memory.

        Args:
            indices: which of the T frames; None: all.

        Returns:
            uint8 [len(indices), 224, 224, 3].
        """
        wanted = range(len(self.frames)) if indices is None else indices
        found = self._found
        images: dict[int, np.ndarray] = {}
        for (_, index), image in found.images([found.main], wanted):
            picture = Image.fromarray(image)  # aligned frames may have any size; 224 to 224 is a copy
            images[index] = np.asarray(picture.resize((FACE_SIZE, FACE_SIZE), Image.Resampling.BILINEAR))
        return np.stack([images[index] for index in wanted])


@dataclass(frozen=True)
class Found:
    """Faces of one input, which can be read again: paths of some people, by track."""

    source: Source
    analysis: Analysis
    paths: dict[int, FacePath]
    main: int
    aligned: bool
    eyes: Eyes

    def images(
        self, tracks: Iterable[int], places: Iterable[int] | None = None
    ) -> Iterable[tuple[tuple[int, int], np.ndarray]]:
        """((track, place in its path), uint8 [H, W, 3]) in the order of the frames; `places` of one track.

        Faces that are cut out are of 224 x 224; aligned frames come as they are, since each resizing changes
        the answer and training knows a single one, from the file to the network's size.
        """
        paths = {track: self.paths[track] for track in tracks}
        kept = None if places is None else np.fromiter(places, dtype=np.int64)
        if self.aligned:
            numbers = self.analysis.numbers
            wanted = {int(number): place for place, number in enumerate(numbers)}
            if kept is not None:
                wanted = {int(numbers[place]): int(place) for place in kept}
            for frame in self.source.frames(wanted=wanted):
                yield (self.main, wanted[frame.number]), frame.image
            return
        if kept is not None:
            paths = {track: path.only(kept) for track, path in paths.items()}
        for track, place, image in cut_out(self.source, self.analysis, paths, self.eyes):
            yield (track, place if kept is None else int(kept[place])), image
