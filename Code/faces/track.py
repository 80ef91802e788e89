"""Follows each person through a clip: cuts, tracks, short gaps, steady landmarks, the main person."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from PIL import Image

from .detect import Faces
from .mtcnn import overlaps

SAME_PERSON_IOU = 0.3  # a face that overlaps one of the frame before by more is the same person's
ASSUMED_FPS = 25.0  # images have no times, and are treated as frames of a video with this rate
LOST_SECONDS = 2.0  # a face that was away for longer belongs to somebody new
GAP_SECONDS, GAP_FRAMES = 0.4, 10  # in a shorter gap a face was only missed
# A face that is hidden goes on as it moved for so long, so that people who pass each other stay apart. Its motion is a
# mean over frames, in which the latest one counts for this share.
HIDDEN_SECONDS, LATEST_SHARE = 0.5, 0.3
# Landmarks are averaged over NEIGHBOURS frames on each side, unless these are further apart in time.
NEIGHBOURS, NEIGHBOUR_SECONDS = 2, 0.2
# The mean counts in full if it is within STEADY heights of the face, or STEADY_PIXELS, of what was detected. If it is
# further off, the face moved (a hand-held camera, a nod); from twice the distance on, nothing is averaged.
STEADY, STEADY_PIXELS = 0.0075, 0.5
# Tracks with fewer frames are false alarms, unless the clip has fewer than SHORT_CLIP times as many frames. So are
# tracks with a lower score, see `Track.confidence`.
SHORTEST_TRACK, SHORT_CLIP, LEAST_CONFIDENCE = 3, 5, 0.9
# Gray thumbnails of this side differ at a cut by more than LEAST_CUT gray levels, and by more than CUT_RATIO times the
# usual difference between frames, the median of CUT_MEMORY.
THUMBNAIL_SIDE, LEAST_CUT, CUT_RATIO, CUT_MEMORY = 32, 18.0, 4.0, 8


class CutFinder:
    """Finds cuts. `thumbnail`: of the latest frame, float32 [32, 32], gray levels; empty before the first."""

    def __init__(self) -> None:
        self.thumbnail = np.zeros((0, 0), dtype=np.float32)
        self._usual: deque[float] = deque(maxlen=CUT_MEMORY)

    def __call__(self, image: np.ndarray) -> bool:
        """Whether a shot begins with this frame, uint8 [H, W, 3]. The first frame is no cut."""
        size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        step = max(1, min(image.shape[:2]) // (2 * THUMBNAIL_SIDE))  # enough pixels for a mean, and faster than all
        small = Image.fromarray(np.ascontiguousarray(image[::step, ::step])).convert("L")
        before, self.thumbnail = self.thumbnail, np.asarray(small.resize(size, Image.Resampling.BOX), dtype=np.float32)
        if not before.size:
            return False
        difference = float(np.abs(self.thumbnail - before).mean())
        usual = max(1.0, float(np.median(self._usual))) if self._usual else 1.0
        if difference > max(LEAST_CUT, CUT_RATIO * usual):
            self._usual.clear()
            return True
        self._usual.append(difference)
        return False


@dataclass
class Track:
    """One person's faces in one shot, as they are found."""

    positions: array[int] = field(default_factory=lambda: array("q"))  # of the processed frames, ascending; with gaps
    # 15 numbers per position: box, landmarks, score. A flat array, since there may be millions.
    rows: array[float] = field(default_factory=lambda: array("d"))
    full_scores: array[float] = field(default_factory=lambda: array("d"))  # of the faces that full passes found
    seen: float = 0.0  # seconds, when it was seen last
    motion: np.ndarray = field(default_factory=lambda: np.zeros(2))  # x and y per second

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, position: int, time: float, faces: Faces, index: int, *, full: bool) -> None:
        """Appends one of the faces; `full`: a full pass found it."""
        if self.positions:
            box, before = faces.boxes[index], self.box
            step = (box[:2] + box[2:] - before[:2] - before[2:]) / 2
            self.motion = self.motion + LATEST_SHARE * (step / max(time - self.seen, 1e-3) - self.motion)
        if full:
            self.full_scores.append(faces.scores[index])
        self.positions.append(position)
        self.rows.extend((*faces.boxes[index], *faces.landmarks[index].ravel(), faces.scores[index]))
        self.seen = time

    @property
    def box(self) -> np.ndarray:
        """Its latest box, float64 [4]."""
        return np.array(self.rows[-15:-11])

    def expected(self, time: float) -> np.ndarray:
        """Its box, float64 [4], at a time in seconds."""
        box: np.ndarray = self.box + np.tile(self.motion * min(time - self.seen, HIDDEN_SECONDS), 2)
        return box

    @property
    def table(self) -> np.ndarray:
        """float64 [len, 15]: box, landmarks, score."""
        return np.array(self.rows).reshape(-1, 15)

    @property
    def confidence(self) -> float:
        """The mean score of all faces, or of full passes if that is higher: refinement is less sure of dim faces."""
        mean = float(self.table[:, 14].mean())
        return max(mean, float(np.mean(self.full_scores))) if self.full_scores else mean

    def weight(self, start: int = 0, stop: int | None = None) -> float:
        """Size x time: the sum of the face's areas over the frames at positions [start, stop), pixels."""
        # Views, not copies: a long video calls this for every window. An array cannot grow while it has views, so
        # they must not outlive the call.
        at = np.frombuffer(self.positions, dtype=np.int64)
        first, last = int(np.searchsorted(at, start)), len(at) if stop is None else int(np.searchsorted(at, stop))
        table = np.frombuffer(self.rows).reshape(-1, 15)[first:last]
        return float((table[:, 2:4] - table[:, :2]).clip(min=0).prod(axis=1).sum())


class Tracker:
    """Joins faces to tracks, frame by frame."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []  # in the order in which they begin
        self._alive: list[int] = []  # indices of those that may go on

    def update(self, position: int, time: float, faces: Faces, cut: bool, *, full: bool = True) -> list[int]:
        """Adds the frame at a position among those processed; returns for each of its faces the index of its track.

        Args:
            time: seconds; NaN: from the position, at ASSUMED_FPS.
            cut: whether a shot begins with it. All tracks then end.
            full: whether a full pass found the faces.
        """
        time = position / ASSUMED_FPS if math.isnan(time) else time
        alive = [] if cut else [index for index in self._alive if time - self.tracks[index].seen <= LOST_SECONDS]
        known = [self.tracks[index] for index in alive]
        there = overlaps(np.array([track.box for track in known]).reshape(-1, 4), faces.boxes)
        expected = overlaps(np.array([track.expected(time) for track in known]).reshape(-1, 4), faces.boxes)
        near = np.nonzero(np.maximum(there, expected) > SAME_PERSON_IOU)
        row_of: dict[int, int] = {}  # face -> row of `alive`
        # Greedy: the face nearest to where it was expected first.
        for row, face in sorted(zip(*near, strict=True), key=lambda pair: (-expected[pair], -there[pair])):
            if face not in row_of and row not in row_of.values():
                row_of[int(face)] = int(row)
        now = []
        for face in range(len(faces)):
            now.append(alive[row_of[face]] if face in row_of else len(self.tracks))
            if face not in row_of:
                self.tracks.append(Track())
            self.tracks[now[-1]].add(position, time, faces, face, full=full)
        self._alive = [index for index in alive if index not in now] + now
        return now


@dataclass(frozen=True)
class FaceTrack:
    """One person's faces through a clip, ready to be cut out: T frames, short gaps filled."""

    positions: np.ndarray  # int64 [T], which of the processed frames, ascending
    boxes: np.ndarray  # float64 [T, 4], as detected, or interpolated in a gap
    landmarks: np.ndarray  # float64 [T, 5, 2], likewise
    scores: np.ndarray  # float64 [T], the detector's confidence; NaN where filled
    filled: np.ndarray  # bool [T], the frames in gaps
    smooth_boxes: np.ndarray  # averaged over neighboring frames while the face is still; for alignment
    smooth_landmarks: np.ndarray

    @classmethod
    def of(
        cls, positions: np.ndarray, found: np.ndarray, smooth: np.ndarray, scores: np.ndarray, filled: np.ndarray
    ) -> FaceTrack:
        """Of boxes and landmarks as they were found and smoothed, float64 [T, 14] each."""
        points, smooth_points = (values[:, 4:].reshape(-1, 5, 2) for values in (found, smooth))
        return cls(positions, found[:, :4], points, scores, filled, smooth[:, :4], smooth_points)

    def __len__(self) -> int:
        return len(self.positions)

    def only(self, places: np.ndarray) -> FaceTrack:
        """The path at some of its T places, int64 [t]."""
        return FaceTrack(**{name: values[places] for name, values in vars(self).items()})


def completed(track: Track, times: Sequence[float] | np.ndarray) -> FaceTrack:
    """Fills a track's short gaps and smooths its boxes and landmarks; `times` [P] are those of all frames, or NaN."""
    clock = np.asarray(times, dtype=np.float64)
    clock = np.where(np.isnan(clock), np.arange(len(clock)) / ASSUMED_FPS, clock)
    seen, table = np.array(track.positions), track.table
    positions = [seen[:1]]
    for before, after in pairwise(seen):
        short = after - before <= GAP_FRAMES and clock[after] - clock[before] <= GAP_SECONDS + 1e-6
        positions.append(np.arange(before + 1, after + 1) if short else np.array([after]))
    at = np.concatenate(positions)
    filled = ~np.isin(at, seen)
    values = np.stack([np.interp(clock[at], clock[seen], column) for column in table[:, :14].T], axis=1)  # [T, 14]
    scores = np.full(len(at), np.nan)
    scores[~filled] = table[:, 14]
    return FaceTrack.of(at, values, _steady(values, _average(values, at, clock[at])), scores, filled)


def _average(values: np.ndarray, positions: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Mean [T, V] over up to NEIGHBOURS rows on each side, as many before as after, so that it does not lag."""
    total, weight = values.copy(), np.ones((len(values), 1))
    middle = np.arange(len(values))
    for reach in range(1, NEIGHBOURS + 1):
        middle = middle[(middle >= reach) & (middle < len(values) - reach)]
        low, high = middle - reach, middle + reach
        # Neighbors in the clip, not only in the track, and near in time: not in a thinned video.
        near = (positions[high] - positions[low] == 2 * reach) & (clock[high] - clock[low] <= 2 * NEIGHBOUR_SECONDS)
        middle = middle[near]
        total[middle] += values[middle - reach] + values[middle + reach]
        weight[middle] += 2
    return total / weight


def _steady(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Boxes and landmarks [T, 14]: the means while a face is still, what was detected while it moves."""
    away = np.hypot(*(mean - values)[:, 4:].reshape(-1, 5, 2).mean(axis=1).T)  # [T]
    limit = np.maximum(STEADY * (values[:, 3] - values[:, 1]), STEADY_PIXELS)
    share = (2 - away / limit).clip(0, 1)
    return values + share[:, None] * (mean - values)


def credible(tracks: Sequence[Track], num_frames: int) -> list[int]:
    """Indices of the tracks that are no false alarms."""
    least = min(SHORTEST_TRACK, max(1, num_frames // SHORT_CLIP))
    return [index for index, track in enumerate(tracks) if len(track) >= least and track.confidence >= LEAST_CONFIDENCE]


def ranked(tracks: Sequence[Track], among: Sequence[int], start: int = 0, stop: int | None = None) -> list[int]:
    """Indices of the tracks by size x time over positions [start, stop), the main person first; no absent ones."""
    weights = {index: tracks[index].weight(start, stop) for index in among}
    return sorted((index for index in among if weights[index] > 0), key=lambda index: -weights[index])
