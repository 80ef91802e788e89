"""Plans composed clips: which still each frame shows, how it is moved and lit, and what spoils it.

The stills are those of one FER+ split whose votes agree. A clip is a sequence of stretches. Some show the clip's
expression: their frames are telling, with importance 1. The others distract, with importance 0. The telling frames of a
neutral clip are neutral, and only spoiled frames distract there, because a moment of another expression would turn it
into a clip of that expression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..common.names import FERPLUS_LABELS
from ..data.clips import DataError
from ..readers.ferplus import SIDE, FERPlusSplit, clean_votes

VERSION = 1  # increase when any pixel changes; validation clips of other versions are composed again
NEUTRAL = FERPLUS_LABELS.index("neutral")
TELLING = ""
# The telling still or another one, `cropped`: only part of the face, `turned`: between sideways and upside down, ...
SPOILED = ("blurred", "occluded", "dark", "bright", "cropped", "turned")
# `neutral`: a similar neutral still; `other`: moments of another expression, at most half as many frames as are telling
DISTRACTORS = ("neutral", "other", *SPOILED)
_NEUTRAL_SHARE = 4.0  # frequency of neutral stretches, relative to others: faces are neutral more often than hidden
_LONGEST = 5  # frames of a distracting stretch
_OTHER_LONGEST = 2  # frames of a moment of another expression
_CANDIDATES = 12  # stills drawn, of which the most similar is used
_CELL = 8  # pixels; faces are compared by the mean brightness of cells of this size


@dataclass(frozen=True)
class Stills:
    """The stills of one split whose labels are certain."""

    images: np.ndarray  # uint8 [N, 48, 48], grayscale
    classes: np.ndarray  # int64 [N], indices into `FERPLUS_LABELS`
    by_class: tuple[np.ndarray, ...]  # per class, the indices of its stills
    looks: np.ndarray  # float32 [N, 36], the coarse pattern of brightness by which stills are compared

    @property
    def digest(self) -> str:
        """A hash of pixels and classes."""
        return hashlib.blake2b(self.images.tobytes() + self.classes.tobytes(), digest_size=8).hexdigest()

    def alike(self, still: int, label: int, rng: np.random.Generator, candidates: int = _CANDIDATES) -> int:
        """A still of class `label` that looks like `still`: the most similar of `candidates` drawn at random.

        FER+ does not name persons. The result has a similar pose, light and build; it rarely shows the same person.
        """
        drawn = rng.choice(self.by_class[label], candidates)
        return int(drawn[np.square(self.looks[drawn] - self.looks[still]).sum(axis=1).argmin()])


def choose_stills(splits: Mapping[str, FERPlusSplit], usage: str, confidence: float) -> Stills:
    """The stills of a split with at least `confidence` of the votes on one emotion, after dropping single votes.

    A picture that is in several splits of FER2013 is used in the last of them only (Training, PublicTest, PrivateTest),
    so that no test picture is trained on. DataError: a class has no such still.
    """
    split, order = splits[usage], list(splits)
    alone = ~split.copies_of(*(splits[name] for name in order[order.index(usage) + 1 :]))
    votes = clean_votes(split.votes)
    total = votes.sum(axis=1)
    emotions = votes[:, : len(FERPLUS_LABELS)]
    top = emotions.max(axis=1)
    kept = (top >= confidence * total) & (2 * top > total) & alone
    images, classes = split.images[kept, 0], emotions[kept].argmax(axis=1)
    by_class = tuple(np.flatnonzero(classes == label) for label in range(len(FERPLUS_LABELS)))
    if absent := [name for name, stills in zip(FERPLUS_LABELS, by_class, strict=True) if not len(stills)]:
        raise DataError(
            f"fer2013new.csv: {usage} has no still of {', '.join(absent)} with {confidence:.0%} of the votes; "
            "is FER+ complete?"
        )
    cells = SIDE // _CELL
    looks = images.reshape(-1, cells, _CELL, cells, _CELL).mean(axis=(2, 4), dtype=np.float32)
    return Stills(images, classes, by_class, looks.reshape(len(images), -1))


@dataclass(frozen=True)
class ComposedSpec:
    """Properties of composed clips. Pairs are the ends of a range that is sampled uniformly for each clip."""

    frames: tuple[int, int] = (16, 16)
    telling: tuple[float, float] = (0.1, 1.0)  # share of frames that show the expression; at least one does
    distractors: tuple[str, ...] = DISTRACTORS  # kinds of the other frames
    confidence: float = 0.6  # minimum share of the votes for the class of a still

    def __post_init__(self) -> None:
        if not self.telling[0] > 0 or self.telling[1] > 1:
            raise DataError(f"--telling {self.telling[0]:g} {self.telling[1]:g}: shares must be above 0 and at most 1")
        if self.distractors == ("other",) and self.telling[0] < 1:
            raise DataError("--distractors other: lasts for a moment and cannot fill a clip; add another kind")


class Frame(NamedTuple):
    """What a frame of a clip shows."""

    still: int  # index of a still
    kind: str  # of `DISTRACTORS`, or `TELLING`
    pose: np.ndarray  # float64 [5]: mirror (1, -1), roll (radians), scale, shift right, down (of half the side)
    light: np.ndarray  # float64 [2]: contrast and brightness, relative to the range [0, 1]
    spoil: np.ndarray  # float64 [6] in [0, 1]: parameters of the kind, see `Code.composed.render`
    noise: int = 0  # seed of its noise

    @property
    def importance(self) -> float:
        """1 where the clip's expression shows, else 0."""
        return float(self.kind == TELLING)


def plan_clip(label: int, length: int, stills: Stills, spec: ComposedSpec, rng: np.random.Generator) -> list[Frame]:
    """Draws the frames of a clip of class `label`."""
    telling = max(1, min(length, round(length * rng.uniform(*spec.telling))))
    stretches = _stretches(label, length, telling, spec, rng)
    own = int(rng.choice(stills.by_class[label]))
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    # Camera and light belong to the clip. They vary a little within a stretch.
    base = rng.uniform((-0.14, 0.92, -0.08, -0.08), (0.14, 1.1, 0.08, 0.08))
    lit = rng.uniform((0.75, -0.1), (1.2, 0.1))
    frames = []
    for kind, count in stretches:
        still, flip = _still_of(kind, label, own, stills, rng)
        sway = rng.uniform(-1, 1, 4) * (0.05, 0.03, 0.03, 0.03)
        walk = np.cumsum(rng.normal(size=(count, 4)), axis=0) * (0.025, 0.01, 0.012, 0.012)
        pose = np.column_stack([np.full(count, mirror * flip), base + sway + walk.clip(-0.15, 0.15)])
        light = lit + rng.normal(size=(count, 2)) * (0.04, 0.015)
        spoil = (rng.uniform(size=6) + rng.normal(size=(count, 6)) * 0.03).clip(0, 1)
        frames += [Frame(still, kind, pose[at], light[at], spoil[at]) for at in range(count)]
    seeds = rng.integers(0, 2**31, length).tolist()
    return [frame._replace(noise=seed) for frame, seed in zip(frames, seeds, strict=True)]


def _stretches(
    label: int, length: int, telling: int, spec: ComposedSpec, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """(kind, number of frames) of every stretch, in the order of the clip."""
    kinds = [kind for kind in spec.distractors if label != NEUTRAL or kind in SPOILED]
    if not kinds:  # a neutral clip without distractors
        telling = length
    stretches = [(TELLING, telling)]
    if telling >= 4 and rng.random() < 0.5:  # the expression shows twice
        first = int(rng.integers(2, telling - 1))
        stretches = [(TELLING, first), (TELLING, telling - first)]
    others_left, left = telling // 2, length - telling
    weights = np.array([_NEUTRAL_SHARE if kind == "neutral" else 1.0 for kind in kinds])
    while left:
        chances = weights * [kind != "other" or others_left > 0 for kind in kinds]
        if not chances.any():
            stretches[0] = TELLING, stretches[0][1] + left
            break
        kind = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
        longest = min(_OTHER_LONGEST, others_left) if kind == "other" else _LONGEST
        count = min(left, int(rng.integers(1, longest + 1)))
        others_left -= count * (kind == "other")
        stretches.append((kind, count))
        left -= count
    return [stretches[index] for index in rng.permutation(len(stretches))]


def _still_of(kind: str, label: int, own: int, stills: Stills, rng: np.random.Generator) -> tuple[int, float]:
    """The still of a stretch, and -1 if it is mirrored compared with the clip's other stills, else 1."""
    flip = 1.0 if rng.random() < 0.5 else -1.0
    if kind == TELLING:
        again = rng.random() < 0.5
        return (own, 1.0) if again else (stills.alike(own, label, rng), flip)
    if kind == "neutral":
        return stills.alike(own, NEUTRAL, rng), flip
    other = int(rng.choice([index for index in range(len(FERPLUS_LABELS)) if index not in (label, NEUTRAL)]))
    if kind == "other":
        return stills.alike(own, other, rng), flip
    # Half of the spoiled frames hide the clip's own expression, the others hide something else.
    draw = rng.random()
    if draw < 0.5:
        return own, 1.0
    return stills.alike(own, NEUTRAL if draw < 0.75 else other, rng), flip
