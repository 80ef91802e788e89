"""The people in an input, and their faces, cut out. It is read twice, so memory does not grow with its pixels."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .align import PAPER_EYES, Eyes, align_face
from .detect import Detector
from .inputs import Kind
from .keyframes import find_faces
from .settings import DETECT_EVERY, FACES_TABLE
from .track import LEAST_CONFIDENCE, FaceTrack, Track, Tracker, credible, ranked
from .video import Frame, Source

# The detector finds many faces that lie on their side or stand on their head, too, but is less sure of them: in 18
# clips their mean scores were 0.90 to 0.986, and those of upright ones 0.986 to 1. A mean of UPRIGHT needs no check.
UPRIGHT = 0.99
# So many of the first TURN_AMONG frames are searched in all rotations. One is applied if its mean score is at least
# SURE, and its mean log-odds are higher by TURN_GAIN: in 32 clips, the right rotation was ahead by 3.2 or more.
TURN_FRAMES, TURN_AMONG, SURE, TURN_GAIN = 4, 500, 0.97, 1.5
ROTATIONS = {1: "90 degrees to the left", 2: "180 degrees", 3: "90 degrees to the right"}
# So many frames without people are looked at in even light: gray levels around EVEN_LEVEL, where they are not below
# DARKEST before.
SHADE_FRAMES, EVEN_LEVEL, DARKEST = 20, 110, 6
# The table with the times of face crops is looked for in so many folders above theirs.
TABLE_ABOVE = 4


@dataclass(frozen=True)
class Analysis:
    """What was found in P processed frames."""

    names: tuple[str, ...]  # see `Frame`
    numbers: np.ndarray  # int64 [P], in the source
    times: np.ndarray  # float64 [P], seconds; NaN for images
    tracks: list[Track]  # false alarms included
    people: list[int]  # indices of the tracks that are no false alarms
    problems: tuple[str, ...]  # a line for each thing that could not be read

    def with_people(self) -> list[int]:
        """Positions of the frames that show people."""
        return sorted({position for index in self.people for position in self.tracks[index].positions})

    def ranked(self, start: int = 0, stop: int | None = None) -> list[int]:
        """Indices of the tracks of the people at positions [start, stop), the main person first."""
        return ranked(self.tracks, self.people, start, stop)

    def main(self, start: int = 0, stop: int | None = None) -> int | None:
        """Index of the main person's track, with the largest size x time; None if there is nobody."""
        return next(iter(self.ranked(start, stop)), None)


def analyse(
    source: Source,
    detector: Detector,
    *,
    fps: float | None = None,
    detect_every: int = DETECT_EVERY,
    prefetch: bool = False,
    progress: Callable[[int], object] = lambda more: None,
) -> Analysis:
    """The first reading: finds faces and cuts, and joins faces to tracks.

    An input whose faces are not upright is searched again, rotated, and stays so (`Source.quarter_turns`): some cameras
    and editing programs store frames on their side without a display matrix that says so. One that shows people in less
    than half of its frames is searched again in full, evenly lit, if that shows more in some of them.

    Args:
        fps: at most this many frames a second.
        detect_every: see `find_faces`.
        prefetch: decode and detect in threads of their own; for a process that has the machine to itself.
        progress: called with how many more frames of the source are done.

    DataError: nothing of the source can be read.
    """

    def search(every: int, report: Callable[[int], object] = lambda more: None, *, lit: bool = False) -> Analysis:
        read: list[tuple[str, int, float]] = []
        tracker, done = Tracker(), 0
        frames = source.frames(fps=fps)
        if lit:
            frames = (replace(frame, image=evenly_lit(frame.image)) for frame in frames)
        for position, (frame, faces, cut, full) in enumerate(find_faces(frames, detector, every, prefetch=prefetch)):
            tracker.update(position, frame.time, faces, cut, full=full)
            read.append((frame.name, frame.number, frame.time))
            before, done = done, frame.number + 1 if source.is_video else len(read)
            report(done - before)
        return _analysis(source, read, tracker.tracks, credible(tracker.tracks, len(read)))

    analysis = search(detect_every, progress)
    main = analysis.main()
    if not source.quarter_turns and (main is None or analysis.tracks[main].table[:, 14].mean() < UPRIGHT):
        source.quarter_turns = find_turn(source, detector, analysis)
        rotated = search(detect_every) if source.quarter_turns else analysis
        if source.quarter_turns and rotated.people:
            note = f"{source.path}: faces are not upright; rotated by {ROTATIONS[source.quarter_turns]}"
            analysis = replace(rotated, problems=(*rotated.problems, note))
        else:
            source.quarter_turns = 0
    if 2 * len(analysis.with_people()) < len(analysis.names) and _in_shade(source, detector, analysis):
        again = search(1, lit=True)
        if len(again.with_people()) > len(analysis.with_people()):
            return replace(again, problems=analysis.problems)
    return analysis


def evenly_lit(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 [H, W, 3], divided by the mean brightness around each pixel.

    So nearly all faces are found that are dim, lit from the side or behind hair, and none in pictures without a face.
    """
    gray = Image.fromarray(image).convert("L")
    around = np.asarray(gray.filter(ImageFilter.BoxBlur(min(image.shape[:2]) / 10)), dtype=np.float32)
    lit: np.ndarray = (image * (EVEN_LEVEL / np.maximum(around, DARKEST))[..., None]).clip(0, 255).astype(np.uint8)
    return lit


def _in_shade(source: Source, detector: Detector, analysis: Analysis) -> bool:
    """Whether one of some frames without people shows a face when it is evenly lit."""
    without = np.setdiff1d(analysis.numbers, analysis.numbers[analysis.with_people()])
    frames = _some_of(source, without, SHADE_FRAMES)
    return any((detector(evenly_lit(frame.image)).scores >= LEAST_CONFIDENCE).any() for frame in frames)


def _some_of(source: Source, numbers: np.ndarray, count: int) -> Iterator[Frame]:
    """Up to `count` frames, evenly spread over those with these numbers."""
    return source.frames(wanted={int(numbers[round(at)]) for at in np.linspace(0, len(numbers) - 1, count)})


def _analysis(source: Source, read: list[tuple[str, int, float]], tracks: list[Track], people: list[int]) -> Analysis:
    names, numbers, times = zip(*read, strict=True) if read else ((), (), ())
    at = np.array(numbers, dtype=np.int64)
    return Analysis(names, at, np.array(times, dtype=np.float64), tracks, people, tuple(source.problems))


def find_turn(source: Source, detector: Detector, analysis: Analysis) -> int:
    """By how many times 90 degrees, counterclockwise, an input has to be rotated to show upright faces.

    0: it is upright, or a few of its frames, if possible those of the main person, show no face in any rotation.
    """

    def best_score(image: np.ndarray) -> float:
        return float(detector(image).scores.max(initial=0))

    main = analysis.main()
    numbers = analysis.numbers
    if main is not None and 2 * len(analysis.tracks[main]) > len(numbers):  # else it may be a false alarm
        numbers = numbers[np.array(analysis.tracks[main].positions)]
    frames = _some_of(source, numbers[:TURN_AMONG], TURN_FRAMES)
    scores = np.array([[best_score(np.rot90(frame.image, turns)) for turns in range(4)] for frame in frames])
    clipped = scores.clip(1e-3, 1 - 1e-7)
    odds = np.log(clipped / (1 - clipped)).mean(axis=0)
    best = int(odds.argmax())
    return best if scores[:, best].mean() >= SURE and odds[best] > odds[0] + TURN_GAIN else 0


def all_frames(source: Source, fps: float | None) -> Analysis:
    """The frames of an input that are face crops, as they are: nothing is detected; one person is in all of them."""
    read = [(frame.name, frame.number, frame.time) for frame in source.frames(fps=fps)]
    analysis = _analysis(source, read, [], [0])
    times = crop_times(source.path, analysis.names) if source.kind is Kind.FOLDER else None
    return analysis if times is None else replace(analysis, times=times)


def crop_times(folder: Path, names: Sequence[str]) -> np.ndarray | None:
    """When the face crops in a clip's folder were filmed: Prepare_Faces.py writes the times of all frames to a table.

    Seconds, float64 [T], ascending, of the T files with these names; None if no table has all of them.
    """
    folder = folder.absolute()
    root = next((root for root in folder.parents[:TABLE_ABOVE] if (root / FACES_TABLE).is_file()), None)
    if root is None:
        return None
    table = root / FACES_TABLE
    known = _times_in(table, table.stat().st_mtime_ns).get(folder.relative_to(root).as_posix(), {})
    times = np.array([known.get(Path(name).stem.lstrip("0"), math.nan) for name in names])  # the table has no zeros
    return times if np.isfinite(times).all() and (np.diff(times) > 0).all() else None


@lru_cache(maxsize=2)
def _times_in(table: Path, changed: int) -> dict[str, dict[str, float]]:
    """clip -> frame -> seconds; nothing if a table is not one of Prepare_Faces.py, since it only adds to the answer."""
    times: dict[str, dict[str, float]] = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["time"]:
                    times.setdefault(row["clip"], {})[row["frame"].lstrip("0")] = float(row["time"])
    except (OSError, csv.Error, LookupError, TypeError, ValueError):
        return {}
    return times


def whole_track(analysis: Analysis) -> FaceTrack:
    """All frames of `all_frames` as the track of one person; where the face is in them is unknown."""
    count = len(analysis.names)
    unknown = np.full((count, 14), np.nan)
    return FaceTrack.of(np.arange(count), unknown, unknown, np.full(count, np.nan), np.zeros(count, dtype=bool))


class Cutout(NamedTuple):
    """One face: the track, the place among the T frames of its path, and the crop, uint8 [224, 224, 3]."""

    track: int
    place: int
    image: np.ndarray


def cut_out(
    source: Source, analysis: Analysis, paths: Mapping[int, FaceTrack], eyes: Eyes = PAPER_EYES
) -> Iterator[Cutout]:
    """The second reading: cuts out some people's faces, in the order of the frames; `paths` by index of the track."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for track, path in paths.items():
        for place, position in enumerate(path.positions):
            wanted.setdefault(int(analysis.numbers[position]), []).append((track, place))
    for frame in source.frames(wanted=wanted):
        for track, place in wanted[frame.number]:
            path = paths[track]
            image = align_face(frame.image, path.smooth_landmarks[place], path.smooth_boxes[place], eyes)
            yield Cutout(track, place, image)
