"""The stills that clips are composed of: those of one FER+ split whose votes agree.

The course of a composed clip: which still each frame shows, how it is moved and lit, and what spoils it.

A clip is a row of stretches. In some its expression shows: their frames tell, their importance is 1. The
others distract, importance 0. A clip of the class neutral is told by its neutral frames; nothing but spoiled
frames distracts there, because a moment of another expression would make it a clip of that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from Code.common.conventions import FERPLUS_LABELS
from Code.data.clips import DataError
from Code.data.readers.ferplus import SIDE, FERPlusSplit, clean_votes

CELL = 8  # pixels; faces are compared by the mean brightness of cells this big


@dataclass(frozen=True)
class Stills:
    """Confidently labeled stills of one split.

    Attributes:
        usage: FER+'s name of the split: Training, PublicTest or PrivateTest.
        images: uint8 [N, 48, 48], gray.
        classes: int64 [N], indices into `FERPLUS_LABELS`.
        by_class: per class, the indices of its stills.
        looks: float32 [N, 36], the coarse brightness pattern that decides which stills look alike.
        left_out: confident stills of this split that were left out, since another split has the same picture.
    """

    usage: str
    images: np.ndarray
    classes: np.ndarray
    by_class: tuple[np.ndarray, ...]
    looks: np.ndarray
    left_out: int

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def digest(self) -> str:
        """Of pixels and classes: composed clips belong to these stills and no others."""
        return hashlib.blake2b(self.images.tobytes() + self.classes.tobytes(), digest_size=8).hexdigest()

    def alike(self, still: int, label: int, candidates: int, rng: np.random.Generator) -> int:
        """A still of class `label` that looks like another one: of some drawn at random the most alike.

        FER+ does not say who is seen. This keeps pose, light and build near; it does not find the same person.
        """
        drawn = rng.choice(self.by_class[label], candidates)
        return int(drawn[np.square(self.looks[drawn] - self.looks[still]).sum(axis=1).argmin()])


def choose_stills(splits: Mapping[str, FERPlusSplit], usage: str, confidence: float) -> Stills:
    """The stills of a split with at least `confidence` of the votes on one emotion, single votes dropped.

    A picture that FER2013 has in several splits counts for the later one only (Training, PublicTest, PrivateTest),
    so that none of a test is trained on.

    Raises:
        DataError: a class has no such still.
    """
    order = list(splits)
    later = {_digest(image) for name in order[order.index(usage) + 1 :] for image in splits[name].images}
    split = splits[usage]
    votes = clean_votes(split.votes)
    total = votes.sum(axis=1)
    emotions = votes[:, : len(FERPLUS_LABELS)]
    top = emotions.max(axis=1)
    sure = (top >= confidence * total) & (2 * top > total)
    alone = np.array([_digest(image) not in later for image in split.images], dtype=bool)
    kept = sure & alone
    images, classes = split.images[kept, 0], emotions[kept].argmax(axis=1)
    by_class = tuple(np.flatnonzero(classes == label) for label in range(len(FERPLUS_LABELS)))
    absent = [name for name, stills in zip(FERPLUS_LABELS, by_class, strict=True) if not len(stills)]
    if absent:
        raise DataError(
            f"fer2013new.csv: {usage} has no still of {', '.join(absent)} with {confidence:.0%} of the votes; "
            "is this all of FER+?"
        )
    cells = SIDE // CELL
    looks = images.reshape(-1, cells, CELL, cells, CELL).mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)
    return Stills(usage, images, classes, by_class, looks, int((sure & ~alone).sum()))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=8).digest()


VERSION = 1  # to be raised by whoever changes a pixel: validation clips of other versions are composed anew
TELLING = ""
SPOILED = ("blurred", "occluded", "dark", "bright", "cropped", "turned")
DISTRACTORS = ("neutral", "other", *SPOILED)
# How often stretches of each kind are drawn, relatively: faces rest more than they are hidden.
_SHARES = {"neutral": 4.0, "other": 1.0}
_LONGEST = 5  # frames of a stretch that distracts
_OTHER_LONGEST = 2  # "for a moment"
_CANDIDATES = 12  # stills drawn, of which the most alike is taken
NEUTRAL = FERPLUS_LABELS.index("neutral")


@dataclass(frozen=True)
class ComposedSpec:
    """What composed clips are like. Pairs are the ends of a uniform range, drawn anew for each clip.

    Attributes:
        frames: fewest and most frames of a clip.
        telling: share of a clip's frames that show its expression; at least one always does.
        distractors: kinds of the others, of `DISTRACTORS`. `neutral`: a neutral still that looks alike; `other`:
            a moment of another expression, in all at most half as many frames as tell; `blurred`, `occluded`,
            `dark`, `bright`, `cropped` (part of the face at most), `turned` (lying to upside down): the telling
            still or any other one, spoiled.
        confidence: share of the votes that a still's class has at least.
    """

    frames: tuple[int, int] = (16, 16)
    telling: tuple[float, float] = (0.1, 1.0)
    distractors: tuple[str, ...] = DISTRACTORS
    confidence: float = 0.6

    def __post_init__(self) -> None:
        for name, (low, high) in {"clip-frames": self.frames, "telling": self.telling}.items():
            if low > high:
                raise DataError(f"--{name} {low} {high}: name the lower end first")
        if not self.telling[0] > 0 or self.telling[1] > 1:
            raise DataError(f"--telling {self.telling[0]:g} {self.telling[1]:g}: shares above 0 up to 1 are possible")
        unknown = [kind for kind in self.distractors if kind not in DISTRACTORS]
        if unknown or not self.distractors:
            raise DataError(f"--distractors {' '.join(unknown)}: choose of {', '.join(DISTRACTORS)}")
        if self.distractors == ("other",) and self.telling[0] < 1:
            raise DataError("--distractors other: cannot fill a clip, only a moment of it; name another kind beside it")


@dataclass
class Course:
    """A clip of T frames.

    Attributes:
        still: int64 [T], whose pixels.
        kind: T of `DISTRACTORS`, or `TELLING`.
        pose: float64 [T, 5]: mirror (1 or -1), roll (radians), scale of the crop, shift right and down (of half
            the still's side).
        light: float64 [T, 2]: contrast and brightness, of the unit gray range.
        spoil: float64 [T, 6] in [0, 1]: what the kind makes of it, see `Code.data.composed.clips`.
        noise: int64 [T], seed of a frame's own noise.
    """

    still: np.ndarray
    kind: list[str]
    pose: np.ndarray
    light: np.ndarray
    spoil: np.ndarray
    noise: np.ndarray

    @property
    def importance(self) -> np.ndarray:
        """float64 [T]: 1 where the clip's expression shows, else 0."""
        return np.array([float(kind == TELLING) for kind in self.kind])


def plan_course(label: int, length: int, stills: Stills, spec: ComposedSpec, rng: np.random.Generator) -> Course:
    """Draws the course of a clip of class `label` with `length` frames."""
    telling = max(1, min(length, round(length * rng.uniform(*spec.telling))))
    kinds = _stretches(label, length, telling, spec, rng)
    own = int(rng.choice(stills.by_class[label]))
    still, kind, pose, light, spoil = [], [], [], [], []
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    # The camera and the light are the clip's; within a stretch they wander.
    base = rng.uniform((-0.14, 0.92, -0.08, -0.08), (0.14, 1.1, 0.08, 0.08))
    lit = rng.uniform((0.75, -0.1), (1.2, 0.1))
    for name, count in kinds:
        face, flip = _still_of(name, label, own, stills, rng)
        side = mirror * flip
        sway = rng.uniform(-1, 1, 4) * (0.05, 0.03, 0.03, 0.03)
        walk = np.cumsum(rng.normal(size=(count, 4)), axis=0) * (0.025, 0.01, 0.012, 0.012)
        still += [face] * count
        kind += [name] * count
        pose.append(np.column_stack([np.full(count, side), base + sway + walk.clip(-0.15, 0.15)]))
        light.append(lit + rng.normal(size=(count, 2)) * (0.04, 0.015))
        spoil.append((rng.uniform(size=6) + rng.normal(size=(count, 6)) * 0.03).clip(0, 1))
    return Course(
        still=np.array(still),
        kind=kind,
        pose=np.concatenate(pose),
        light=np.concatenate(light),
        spoil=np.concatenate(spoil),
        noise=rng.integers(0, 2**31, length),
    )


def _stretches(
    label: int, length: int, telling: int, spec: ComposedSpec, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """(kind, frames) of every stretch, in the order of the clip."""
    kinds = [kind for kind in spec.distractors if label != NEUTRAL or kind in SPOILED]
    if not kinds:  # a neutral clip that nothing distracts
        telling = length
    stretches = [(TELLING, telling)]
    if telling >= 4 and rng.random() < 0.5:  # the expression shows twice
        first = int(rng.integers(2, telling - 1))
        stretches = [(TELLING, first), (TELLING, telling - first)]
    others_left, left = telling // 2, length - telling
    weights = np.array([_SHARES.get(kind, 1.0) for kind in kinds])
    while left:
        possible = np.array([kind != "other" or others_left > 0 for kind in kinds])
        if not possible.any():
            stretches[0] = TELLING, stretches[0][1] + left
            break
        chances = weights * possible
        kind = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
        longest = min(_OTHER_LONGEST, others_left) if kind == "other" else _LONGEST
        count = min(left, int(rng.integers(1, longest + 1)))
        others_left -= count * (kind == "other")
        stretches.append((kind, count))
        left -= count
    return [stretches[index] for index in rng.permutation(len(stretches))]


def _still_of(kind: str, label: int, own: int, stills: Stills, rng: np.random.Generator) -> tuple[int, float]:
    """The still of a stretch, and whether it is mirrored (-1) against the clip's other ones (1)."""
    flip = 1.0 if rng.random() < 0.5 else -1.0
    others = [index for index in range(len(FERPLUS_LABELS)) if index not in (label, NEUTRAL)]
    if kind == TELLING:
        again = rng.random() < 0.5
        return (own, 1.0) if again else (stills.alike(own, label, _CANDIDATES, rng), flip)
    if kind == "neutral":
        return stills.alike(own, NEUTRAL, _CANDIDATES, rng), flip
    other = int(rng.choice(others))
    if kind == "other":
        return stills.alike(own, other, _CANDIDATES, rng), flip
    # Spoiled: half of them hide what the clip shows, the others something else.
    draw = rng.random()
    if draw < 0.5:
        return own, 1.0
    return stills.alike(own, NEUTRAL if draw < 0.75 else other, _CANDIDATES, rng), flip
