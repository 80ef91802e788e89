"""One clip of the generated sample: its expression, its intensity over time, its distractors, and its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .canvas import OCCLUDERS, blur, camera, darken, occlude
from .face import ActionUnits, Face, Pose, add_action_units
from .person import Person

# Strengths of the action units at the apex; above 1 is the maximum. Like real expressions, each has several variants (a
# smile with and without teeth, anger with an open mouth and with pressed lips).
EXPRESSIONS: dict[str, tuple[ActionUnits, ...]] = {
    "Happy": (
        {"au6": 0.9, "au12": 1.0, "au25": 0.9, "au10": 0.15},
        {"au6": 1.0, "au12": 1.1, "au25": 1.0, "au26": 0.45, "au10": 0.2},
        {"au6": 0.8, "au12": 1.1, "au25": 0.6},
    ),
    "Angry": (
        {"au4": 1.3, "au5": 0.5, "au7": 0.7, "au23": 1.0, "au17": 0.4, "au15": 0.35, "au9": 0.4},
        {"au4": 1.3, "au5": 0.6, "au7": 0.5, "au23": 0.3, "au10": 0.5, "au25": 1.0, "au16": 0.7, "au26": 0.35,
         "au9": 0.3},
        {"au4": 1.3, "au5": 0.6, "au7": 0.6, "au10": 0.5, "au25": 1.0, "au16": 0.6, "au26": 0.9, "au9": 0.4},
    ),
    "Disgust": (
        {"au9": 1.2, "au10": 1.2, "au4": 0.6, "au7": 0.7, "au6": 0.5, "au15": 0.45, "au17": 0.5, "au16": 0.3},
        {"au9": 1.2, "au10": 1.1, "au4": 0.6, "au7": 0.8, "au6": 0.6, "au15": 0.3, "au16": 0.5, "au25": 0.7,
         "au26": 0.2},
    ),
    "Fear": (
        {"au1": 1.3, "au2": 0.3, "au4": 0.5, "au5": 1.3, "au20": 1.2, "au25": 1.1, "au26": 0.5, "au16": 0.7},
        {"au1": 1.3, "au2": 0.4, "au4": 0.4, "au5": 1.3, "au20": 1.1, "au25": 1.1, "au26": 0.75, "au16": 0.5},
    ),
    "Sad": (
        {"au1": 1.1, "au4": 0.7, "au15": 1.1, "au17": 0.7, "au43": 0.25},
        {"au1": 1.2, "au4": 0.6, "au15": 0.9, "au17": 0.4, "au43": 0.4},
    ),
    "Neutral": ({},),
    "Surprise": (
        {"au1": 1.1, "au2": 1.2, "au5": 1.0, "au25": 1.0, "au26": 1.1, "au22": 0.9},
        {"au1": 1.0, "au2": 1.2, "au5": 1.1, "au25": 1.0, "au26": 0.8, "au22": 1.0},
    ),
}  # fmt: skip
DISTRACTORS = ("occluded", "blurred", "turned", "neutral", "other")
FLAWS = ("occluded", "blurred", "turned", "dark")  # one of them spoils an `other` frame, so that it can be recognized


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """Size and difficulty of the sample. Pairs are the ends of a range that is sampled uniformly for each clip."""

    num_train_clips: int = 420  # classes take turns, so multiples of 7 are balanced
    num_val_clips: int = 140
    frames: tuple[int, int] = (12, 20)
    size: int = 96  # width and height of a frame in pixels
    active: tuple[float, float] = (0.35, 0.60)  # share of the frames that show the expression; the others are neutral
    apex: tuple[float, float] = (0.6, 1.0)  # intensity at the apex
    distractors: tuple[float, float] = (0.25, 0.45)  # share of the frames that are distractors
    misleading: float = 0.6  # probability that a distractor is of kind `other`
    noise: tuple[float, float] = (2.0, 8.0)  # standard deviation of the sensor noise, in gray levels


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """The ground truth of a frame."""

    intensity: float  # of the clip's expression, in [0, 1]; 0 in distractors, 1 in all other frames of a Neutral clip
    # One of `DISTRACTORS`, or "". `occluded`, `blurred` and `turned` spoil the view of the clip's expression, `neutral`
    # is a moment without it, `other` a moment of another expression in a spoiled frame (one of `FLAWS`).
    distractor: str = ""


def draw_apex(expression: str, rng: np.random.Generator) -> ActionUnits:
    """How one person shows `expression`: a variant, with each action unit up to 15 % weaker or stronger."""
    variants = EXPRESSIONS[expression]
    chosen = variants[int(rng.integers(len(variants)))]
    return {unit: strength * rng.uniform(0.85, 1.15) for unit, strength in chosen.items()}


def plan_clip(expression: str, spec: SampleSpec, rng: np.random.Generator) -> tuple[list[float], list[str]]:
    """Draws the intensity of the expression in each frame of a clip, and each frame's distractor or "".

    The two strongest frames are never distractors, so that every clip can be recognized.
    """
    count = int(rng.integers(spec.frames[0], spec.frames[1] + 1))
    length = max(count * rng.uniform(*spec.active), 3.0)
    start = rng.uniform(0.0, count - length)
    hold = rng.uniform(0.2, 0.5)  # share of the active frames at the apex
    onset = rng.uniform(0.35, 0.65) * (1 - hold)
    apex = rng.uniform(*spec.apex)
    shown = []
    for frame in range(count):
        t = (frame + 0.5 - start) / length
        level = min(max(min(t / onset, (1 - t) / (1 - hold - onset)), 0.0), 1.0)
        shown.append(apex * level * level * (3 - 2 * level))
    if expression == "Neutral":
        shown = [1.0] * count
    order = [int(frame) for frame in rng.permutation(count)]
    strongest = sorted(order, key=lambda frame: -shown[frame])[:2]
    wanted = round(count * rng.uniform(*spec.distractors))
    kinds = [""] * count
    for frame in [frame for frame in order if frame not in strongest][:wanted]:
        if rng.uniform() < spec.misleading:
            kinds[frame] = "other"
        else:  # a neutral moment is a distractor only where the clip shows an expression
            relapse = expression != "Neutral" and shown[frame] > 0.2
            kinds[frame] = DISTRACTORS[int(rng.integers(4 if relapse else 3))]
    return shown, kinds


def draw_clip(
    expression: str, seed: int, split: int, clip: int, spec: SampleSpec
) -> Iterator[tuple[Image.Image, FrameTruth]]:
    """Draws one clip, frame by frame: RGB pictures, spec.size x spec.size, each with its ground truth.

    `seed`, `split` and `clip` are those of the random numbers. Another split or clip shows another person.
    """
    rng = np.random.default_rng([seed, split, clip])
    person = Person(rng)
    face = Face(person, spec.size, rng)
    shown, kinds = plan_clip(expression, spec, rng)
    count = len(shown)
    apex = draw_apex(expression, rng)
    others = [name for name in EXPRESSIONS if name not in (expression, "Neutral")]
    wrong = draw_apex(others[int(rng.integers(len(others)))], rng)
    movements = _small_movements(count, expression, rng)
    poses = _poses(count, rng)
    gains, tilt = _path(count, 0.12, rng), rng.uniform(-0.15, 0.15)
    exposure, noise, softness = rng.uniform(0.82, 1.15), rng.uniform(*spec.noise), rng.uniform(0.0, 0.009)
    for frame, kind in enumerate(kinds):
        at_apex, intensity = apex, shown[frame]
        flaw, pose = kind, poses[frame]
        if kind == "neutral":
            intensity = 0.0
        elif kind == "other":
            at_apex, intensity = wrong, rng.uniform(0.8, 1.0)
            flaw = FLAWS[int(rng.integers(len(FLAWS)))]
        if flaw == "turned":
            pose = replace(pose, yaw=rng.uniform(0.9, 1.15) * (1 if rng.integers(2) else -1))
        units = {unit: strength * intensity for unit, strength in at_apex.items()}
        picture = face.draw(add_action_units(units, movements[frame]), pose)
        pixels = np.asarray(picture, np.float32)
        if flaw == "occluded":
            pixels = occlude(pixels, OCCLUDERS[int(rng.integers(len(OCCLUDERS)))], person.skin, rng)
        elif flaw == "dark":
            pixels = darken(pixels, rng)
        if flaw == "blurred":
            pixels = blur(pixels, rng.uniform(0.022, 0.04), rng.uniform(0.0, 0.08))
        elif softness > 0.003:
            pixels = blur(pixels, softness, 0.0)
        grain = noise * (2 if flaw == "dark" else 1)
        truth = FrameTruth(0.0 if kind else shown[frame], kind)
        yield camera(pixels, exposure + gains[frame], tilt, grain, rng), truth


def _path(count: int, reach: float, rng: np.random.Generator) -> list[float]:
    """A smooth random curve of `count` values in [-reach, reach], through five random points."""
    points = [rng.uniform(-reach, reach) for _ in range(5)]
    course = []
    for frame in range(count):
        t = 4 * frame / count
        part = t - int(t)
        part = part * part * (3 - 2 * part)
        course.append(points[int(t)] + part * (points[int(t) + 1] - points[int(t)]))
    return course


def _poses(count: int, rng: np.random.Generator) -> list[Pose]:
    """The head's small movements."""
    scale = rng.uniform(0.92, 1.1)
    dx, dy, roll, yaw, gaze, zoom = (_path(count, reach, rng) for reach in (0.07, 0.07, 0.09, 0.35, 0.6, 0.03))
    return [Pose(dx[i], dy[i], scale + zoom[i], roll[i], yaw[i], gaze[i]) for i in range(count)]


def _small_movements(count: int, expression: str, rng: np.random.Generator) -> list[ActionUnits]:
    """Movements besides the expression: moving brows, blinks and, in some clips, speech."""
    talks = rng.uniform() < (0.5 if expression == "Neutral" else 0.25)
    brows = _path(count, 0.12, rng)
    movements = []
    for frame in range(count):
        units: ActionUnits = {"au1": brows[frame], "au2": brows[frame]}
        if rng.uniform() < 0.06:
            units["au43"] = 0.9
        if talks and rng.uniform() < 0.6:
            units |= {"au25": 0.5, "au26": rng.uniform(0.0, 0.18), "au22": rng.uniform(0.0, 0.25)}
        movements.append(units)
    return movements
