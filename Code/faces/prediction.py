"""What the network says about one person in one input, over the whole clip, over time and frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..common.errors import require
from ..common.names import counted
from ..data.clips import DataError
from ..data.images import read_image
from .align import FACE_SIZE, Eyes
from .extract import Analysis, Cutout, cut_out
from .settings import UNCERTAIN_MARGIN
from .track import FaceTrack
from .video import Source

if TYPE_CHECKING:
    import pandas


# Of the tables of frames, before a probability for each label.
FRAME_COLUMNS = (
    *("input", "person", "frame", "time", "left", "top", "right", "bottom"),
    *("filled", "alpha", "weight", "uncertain"),
)


def columns(known: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Columns of a table, then one for each label: `p(label)` if a column has the label's name."""
    return [*known, *(f"p({label})" if label in known else label for label in labels)]


def is_uncertain(probabilities: np.ndarray) -> np.ndarray:
    """Whether the best two of probabilities [..., C] are closer than `UNCERTAIN_MARGIN`: either may be right."""
    best = np.sort(probabilities, axis=-1)[..., -2:]
    return np.asarray((np.ptp(best, axis=-1) < UNCERTAIN_MARGIN) & (best.shape[-1] == 2))


def answer_text(answer: str, uncertain: bool, share: float | None = None) -> str:
    """An answer as people read it: `anger`, `anger 53 %`, or `anger 53 %, uncertain`."""
    return answer + (f" {100 * share:.0f} %" if share is not None else "") + ", uncertain" * uncertain


@dataclass(frozen=True)
class Curve:
    """A long video as a curve: what the network says about each of W windows of time."""

    labels: tuple[str, ...]  # C class names, in the network's order
    starts: np.ndarray  # float64 [W], seconds; a window holds the frames with start <= time < end
    ends: np.ndarray  # float64 [W]
    probabilities: np.ndarray  # float64 [W, C]; NaN where no face is visible
    num_faces: np.ndarray  # int64 [W], the number of frames behind each answer

    @property
    def expressions(self) -> list[str]:
        """The most probable label of each window; empty where no face is visible."""
        best = self.probabilities.argmax(axis=1)
        return [self.labels[at] if count else "" for at, count in zip(best, self.num_faces, strict=True)]

    @property
    def uncertain(self) -> np.ndarray:
        """bool [W], see `is_uncertain`; False where no face is visible."""
        return is_uncertain(self.probabilities)

    def at(self, time: float) -> int:
        """Index of the window whose middle is nearest to a time in seconds; the earlier one of two."""
        return int(np.abs((self.starts + self.ends) / 2 - time).argmin())


def windows(times: np.ndarray, window: float, stride: float | None = None) -> np.ndarray:
    """Starts and ends, float64 [2, W > 0], of windows: at 0, stride, 2 * stride, ... until the end of the video.

    Windows without a single frame, in a pause of the recording, are left out.

    Args:
        times: float64 [P], seconds, ascending; DataError if the frames have none.
        window: length in seconds.
        stride: from one start to the next, in seconds; None: half a window.
    """
    stride = window / 2 if stride is None else stride
    if np.isnan(times).any():
        raise DataError("windows need times, and images have none; give a video")
    count = 1 + max(0, math.ceil((times[-1] - window) / stride + 1e-9))
    starts = np.arange(count) * stride
    spans = np.stack([starts, starts + window])
    first, last = np.searchsorted(times, spans)
    return spans[:, first < last]


@dataclass(frozen=True, repr=False)
class Prediction:
    """What the network says about one person, whose face is visible in T frames of an input."""

    path: str  # the input; "array" for frames in memory
    network: str  # path of the checkpoint that answers
    expression: str  # the most probable label
    probabilities: dict[str, float]  # label -> probability (softmax of the clip's logits), most probable first
    prior: dict[str, float] | None  # label -> the class share that the user stated; None: as the network was trained
    neutral: str | None  # where the person is neutral, if the user said so: "the first 0.5 s", or a file
    labels: tuple[str, ...]  # C class names, in the network's order
    logits: np.ndarray  # float32 [C], in the order of `labels`; shifted by the prior and the neutral reference
    person: int  # number of the person in this input: 1 is the main person, the largest (size x time)
    track: int  # index of the person's track; 0 for aligned frames. A cut starts new tracks
    num_frames: int  # frames of the input that were read, those without a face included
    num_people: int  # people (tracks) in the input; 1 for aligned frames
    frames: tuple[str, ...]  # T names: file names, or the frame numbers of a video, from 0000000
    numbers: np.ndarray  # int64 [T], the frames' numbers in the input
    times: np.ndarray  # float64 [T], seconds since the video's first frame, or of faces.csv for crops; NaN for images
    alpha: np.ndarray  # float32 [T], self-attention; 1 / T for score fusion
    beta: np.ndarray | None  # float32 [T], relation-attention; None if the network has none
    weights: np.ndarray  # float32 [T], how much each frame counts; they sum to 1
    features: np.ndarray  # float32 [T, D], of the backbone
    frame_probabilities: np.ndarray  # float32 [T, C], each frame by itself, by the same classifier
    boxes: np.ndarray  # float64 [T, 4], the face in pixels: left, top, right, bottom; NaN for aligned frames
    landmarks: np.ndarray  # float64 [T, 5, 2], eyes, nose, corners of the mouth; NaN likewise
    filled: np.ndarray  # bool [T], frames in which the detector missed the face, so that its place is interpolated
    curve: Curve | None  # an answer for each window of time, if asked for
    problems: tuple[str, ...]  # what could not be read, a line each; the answer rests on the rest
    faces: InputFaces  # where they are in the input

    def __repr__(self) -> str:
        person = f", person {self.person} of {self.num_people}" if self.num_people > 1 else ""
        seen = f", {self.seconds[0]:.2f} to {self.seconds[1]:.2f} s" if self.has_times else ""
        faces = f"{len(self.frames)} of {counted(self.num_frames, 'frame')}"
        return f"Prediction({self.path!r}: {self.text_at(math.nan)}{person}, {faces}{seen})"

    @property
    def uncertain(self) -> bool:
        """Whether the best two classes are so close that either may be right, see `is_uncertain`."""
        return bool(is_uncertain(np.array(list(self.probabilities.values()))))

    def text_at(self, time: float) -> str:
        """The answer at a time in seconds, or that for the whole clip: `anger 53 %`."""
        if self.curve is None or math.isnan(time):
            return answer_text(self.expression, self.uncertain, self.probabilities[self.expression])
        at = self.curve.at(time)
        label, uncertain = self.curve.expressions[at], bool(self.curve.uncertain[at])
        return answer_text(label, uncertain, float(self.curve.probabilities[at].max())) if label else "no face"

    @property
    def num_faces(self) -> int:
        """T, in how many frames the person's face is visible."""
        return len(self.frames)

    @property
    def has_times(self) -> bool:
        """Whether the frames have times: those of a video do, images do not."""
        return not bool(np.isnan(self.times).any())

    @property
    def seconds(self) -> tuple[float, float]:
        """Times of the first and the last frame that show this person; NaN for images."""
        return float(self.times[0]), float(self.times[-1])

    @property
    def box(self) -> np.ndarray:
        """float64 [4], the face in the frame that counts most."""
        return np.asarray(self.boxes[self.weights.argmax()])

    def most_weighted(self, count: int = 3) -> list[int]:
        """Indices of the frames that count most, the heaviest first; the earlier one of two equal ones first."""
        return [int(index) for index in np.argsort(-self.weights, kind="stable")[:count]]

    def columns(self) -> dict[str, Sequence[Any]]:
        """T values for each column of the table of frames; NaN where a value does not exist."""
        count = len(self.frames)
        values = [[self.path] * count, [self.person] * count, self.frames, self.times, *self.boxes.T, self.filled]
        values += [self.alpha, self.weights, is_uncertain(self.frame_probabilities), *self.frame_probabilities.T]
        return dict(zip(columns(FRAME_COLUMNS, self.labels), values, strict=True))

    def to_frame(self) -> pandas.DataFrame:
        """A pandas.DataFrame with one row for each frame that shows this person, with the columns of --csv-frames.

        MissingExtraError: pandas is not installed.
        """
        table: pandas.DataFrame = require("pandas", "pandas", "to_frame", "pandas").DataFrame(self.columns())
        return table

    def crops(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """The faces as they were cut out, uint8 [len(indices), 224, 224, 3], of some of the T frames; None: of all.

        They are read again, since those of a long video would not fit into memory.
        """
        return crops_of([self], [range(len(self.frames)) if indices is None else indices])[0]


def crops_of(predictions: Sequence[Prediction], indices: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The faces of several people of one input, in one reading, as `Prediction.crops`; `indices` for each of them."""
    paths = {
        each.track: each.faces.paths[each.track].only(np.asarray(chosen, dtype=np.int64))
        for each, chosen in zip(predictions, indices, strict=True)
    }
    crops = {track: np.empty((len(path), FACE_SIZE, FACE_SIZE, 3), dtype=np.uint8) for track, path in paths.items()}
    for track, place, image in predictions[0].faces.images(paths):
        picture = Image.fromarray(image)  # aligned frames may have any size; 224 to 224 is a copy
        crops[track][place] = np.asarray(picture.resize((FACE_SIZE, FACE_SIZE), Image.Resampling.BILINEAR))
    return list(crops.values())


@dataclass(frozen=True)
class InputFaces:
    """The faces of one input, which can be read again: the paths of some people, by track."""

    source: Source
    analysis: Analysis
    paths: dict[int, FaceTrack]
    aligned: bool
    eyes: Eyes

    def box_of(self, track: int) -> dict[int, np.ndarray]:
        """Frame's number -> box, float64 [4], of a person. Where they are away, that of another person of the answer,
        the main person of a window.
        """
        boxes: dict[int, np.ndarray] = {}
        for path in (*self.paths.values(), self.paths[track]):
            boxes |= zip(self.analysis.numbers[path.positions].tolist(), path.boxes, strict=True)
        return boxes

    def images(self, paths: dict[int, FaceTrack], side: int | None = None, *, gray: bool = False) -> Iterator[Cutout]:
        """The faces of `paths`, or of parts of them, in the order of the frames.

        Faces that are cut out are 224 x 224. Aligned frames keep their size, since each resizing changes the answer.
        Image files of aligned frames are read as training and evaluation read them: with this `side`, and `gray`.
        """
        if not self.aligned:
            yield from cut_out(self.source, self.analysis, paths, self.eyes)
            return
        ((track, path),) = paths.items()
        index_of = {int(number): index for index, number in enumerate(self.analysis.numbers[path.positions])}
        files = self.source.files if side else {}
        if files:
            for number, index in index_of.items():
                yield Cutout(track, index, read_image(str(files[number]), side, gray=gray))
        else:
            for frame in self.source.frames(wanted=index_of):
                yield Cutout(track, index_of[frame.number], frame.image)
