"""The splits of `--dataset composed`: training clips composed when they are read, validation clips written to files.

Training clip c of epoch e is composed from `numpy.random.default_rng([seed, TRAIN, e, c])`. It does not depend on the
process that reads it or on what was read before, and differs in every epoch. Validation clips (PublicTest) and test
clips (PrivateTest) are composed once, from seed 0, and written as pictures with an `intensity.csv`, so that all
trainings are evaluated on the same clips.

A frame is a still that is spoiled, moved and lit in one resampling step. Each frame is computed on its own, so that its
pixels do not depend on the frames that it is read with.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..common.files import remove_own
from ..common.json_files import StateError, read_state
from ..common.names import FERPLUS_LABELS
from ..common.progress import Progress
from ..common.wording import counted
from ..data.clips import Clip, ClipSet, DataError
from ..data.intensity import INTENSITY_FILE, Row, row, write_intensity
from ..readers.ferplus import SPLITS, FERPlusSplit, read_ferplus
from ..readers.folders import read_folders
from .plan import VERSION, ComposedSpec, Course, Stills, choose_stills, plan_course

_SIGMA = (2.5, 4.5)  # of the blur, in pixels of a 48 x 48 still
_CROP = (0.3, 0.5)  # visible share of the still's side in a bad crop
_TURN = (math.radians(70), math.radians(180))
_DARK = (0.06, 0.2)  # remaining contrast
_GRAIN = 0.03  # standard deviation of the noise in a dark frame
_BRIGHT = (0.08, 0.25)  # remaining contrast, below white
_COVER = (0.55, 0.85)  # half the sides of an occluder, relative to half the picture's side


def render(images: np.ndarray, course: Course, size: int) -> Tensor:
    """Renders the frames of a clip.

    Args:
        images: uint8 [N, 48, 48], the stills that `course.still` indexes.
        course: of T frames.
        size: side of the result, in pixels.

    Returns:
        uint8 [T, 1, size, size].
    """
    sources = images[course.still].astype(np.float32) / 255  # [T, 48, 48]
    pose, light = course.pose.copy(), course.light.copy()
    for at, kind in enumerate(course.kind):
        spoil = course.spoil[at]
        if kind == "blurred":
            sources[at] = gaussian_filter(sources[at], _between(_SIGMA, spoil[0]), mode="nearest")
        elif kind == "turned":
            pose[at, 1] += _between(_TURN, spoil[0]) * (1 if spoil[1] < 0.5 else -1)
        elif kind == "cropped":
            scale = _between(_CROP, spoil[0])
            pose[at, 2] = scale
            # Off center: the crop shows less than half of the face, and stays inside the still.
            angle, reach = 2 * math.pi * spoil[1], min(0.55, 0.95 - scale)
            pose[at, 3:] = reach * math.cos(angle), reach * math.sin(angle)
    pictures = _moved(torch.from_numpy(sources), pose, size)  # [T, size, size]
    mean = pictures.mean(dim=(1, 2), keepdim=True)
    contrast, brightness = torch.from_numpy(light.astype(np.float32)).T[:, :, None, None]
    pictures = (pictures - mean) * contrast + mean + brightness
    for at, kind in enumerate(course.kind):
        spoil = course.spoil[at]
        if kind == "occluded":
            pictures[at] = _occluded(pictures[at], spoil)
        elif kind == "dark":
            grain = np.random.default_rng(course.noise[at]).normal(0, _GRAIN, (size, size)).astype(np.float32)
            pictures[at] = pictures[at].clamp(0, 1) * _between(_DARK, spoil[0]) + torch.from_numpy(grain)
        elif kind == "bright":
            pictures[at] = 1.02 - (1 - pictures[at].clamp(0, 1)) * _between(_BRIGHT, spoil[0])
    return pictures.clamp_(0, 1).mul_(255).round_().to(torch.uint8)[:, None]


def _between(ends: tuple[float, float], share: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)


def _moved(sources: Tensor, pose: np.ndarray, size: int) -> Tensor:
    """Resamples stills [T, 48, 48] to [T, size, size]. Outside of a still, its border is repeated."""
    mirror, _, scale, right, down = torch.from_numpy(pose.astype(np.float32)).T[:, :, None, None]
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :] * mirror, axis[None, :, None]
    # float64, because in float32 cos and sin of vectors may differ from those of single values
    cos, sin = (torch.from_numpy(f(pose[:, 1]).astype(np.float32))[:, None, None] for f in (np.cos, np.sin))
    across = scale * (cos * x - sin * y) + right
    along = scale * (sin * x + cos * y) + down
    grid = torch.stack([across, along], dim=-1)  # [T, size, size, 2]
    moved = F.grid_sample(sources[:, None], grid, padding_mode="border", align_corners=False)
    return moved[:, 0]


def _occluded(picture: Tensor, spoil: np.ndarray) -> Tensor:
    """Covers most of a face with a shaded, slanted block."""
    size = len(picture)
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    center = (spoil[:2] - 0.5) * 0.5
    wide, high = _between(_COVER, spoil[2]), _between(_COVER, spoil[3])
    angle = (spoil[4] - 0.5) * math.pi / 3
    x, y = axis[None, :] - float(center[0]), axis[:, None] - float(center[1])
    across, along = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    shade = 0.1 + 0.8 * float(spoil[5]) + 0.15 * across
    return torch.where((across.abs() < wide) & (along.abs() < high), shade, picture)


TRAIN, VAL, TEST = 0, 1, 2
USAGES = ("Training", "PublicTest", "PrivateTest")
NAMES = ("train", "val", "test")
FILE_SIDE = 80  # pixels of the written pictures: the input size of the shipped backbone
MARKER = "README.txt"
# All that a folder of composed clips consists of. One with anything else in it is never replaced.
OWN = re.compile(
    r"README\.txt|composed\.json|intensity\.csv|"
    rf"Val/(({'|'.join(FERPLUS_LABELS)})/((val|test)-\d{{5,}}/(\d{{3,}}\.png)?)?)?"
)


@dataclass(frozen=True)
class Composer:
    """Composes the clips of one split.

    Attributes:
        stills: the stills of the split.
        spec: the properties of the clips.
        labels: int64 [clips], the class of each clip.
        seed, split: of all random numbers, together with epoch and clip.
    """

    stills: Stills
    spec: ComposedSpec
    labels: np.ndarray
    seed: int
    split: int

    @classmethod
    def of(cls, stills: Stills, spec: ComposedSpec, count: int, seed: int) -> Composer:
        """A composer of `count` clips; a class has at least one, in proportion to the square root of its stills."""
        roots = np.sqrt([len(of_class) for of_class in stills.by_class])
        counts = np.diff(np.round(np.cumsum(roots) / roots.sum() * count), prepend=0).astype(np.int64)
        for absent in np.flatnonzero(counts == 0) if count >= len(roots) else ():
            counts[counts.argmax()] -= 1
            counts[absent] = 1
        return cls(stills, spec, np.repeat(np.arange(len(roots)), counts), seed, USAGES.index(stills.usage))

    def length(self, clip: int) -> int:
        """Number of frames of a clip, the same in every epoch."""
        low, high = self.spec.frames
        return int(np.random.default_rng([self.seed, self.split, clip]).integers(low, high + 1))

    def course(self, clip: int, epoch: int = 0) -> Course:
        """The course of a clip in an epoch."""
        rng = np.random.default_rng([self.seed, self.split, epoch, clip])
        return plan_course(int(self.labels[clip]), self.length(clip), self.stills, self.spec, rng)

    def name(self, clip: int) -> str:
        """The name of a clip, `anger/train-00012`; unique in all splits."""
        return f"{FERPLUS_LABELS[self.labels[clip]]}/{NAMES[self.split]}-{clip:05d}"


@dataclass
class ComposedClips(ClipSet):
    """Training clips without files, composed when they are read."""

    composer: Composer | None = None


class ComposedStore:
    """Composes frames when they are read.

    Args:
        clips: the clips with the frames. The id of a frame is `epoch * num_frames + place`, where `place` is its place
            in the row of all frames.
        image_size: side of the result in pixels.
    """

    def __init__(self, clips: ComposedClips, image_size: int) -> None:
        assert clips.composer is not None
        self.composer, self.image_size = clips.composer, image_size
        self.numbers = [int(clip.name.rsplit("-", 1)[1]) for clip in clips.clips]
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips.clips])])

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1, S, S], grayscale."""
        epochs, places = np.divmod(frame_ids, self.offsets[-1])
        clips = np.searchsorted(self.offsets, places, side="right") - 1
        courses: dict[tuple[int, int], Course] = {}
        parts = []
        for epoch, clip, place in zip(epochs.tolist(), clips.tolist(), places.tolist(), strict=True):
            if (epoch, clip) not in courses:
                courses[epoch, clip] = self.composer.course(self.numbers[clip], epoch)
            parts.append((courses[epoch, clip], place - int(self.offsets[clip])))
        return render(self.composer.stills.images, _picked(parts), self.image_size)


def _picked(parts: Sequence[tuple[Course, int]]) -> Course:
    """Joins single frames of several courses."""
    return Course(
        kind=[course.kind[at] for course, at in parts],
        **{
            name: np.stack([getattr(course, name)[at] for course, at in parts])
            for name in ("still", "pose", "light", "spoil", "noise")
        },
    )


def compose_training(root: Path, spec: ComposedSpec, count: int, seed: int) -> ComposedClips:
    """The training split.

    Args:
        root: the folder of FER+, see `read_ferplus`.
        spec: the properties of the clips.
        count: number of clips.
        seed: of all random numbers.

    Raises:
        DataError: FER+ cannot be read.
    """
    stills = _stills(root, TRAIN, spec)
    return composed_clips(Composer.of(stills, spec, count, seed), root)


def composed_clips(composer: Composer, root: Path) -> ComposedClips:
    """The clips of a composer as a set without files. `root` only appears in messages."""
    clips = []
    for number, label in enumerate(composer.labels.tolist()):
        name = composer.name(number)
        frames = tuple(f"{frame:03d}" for frame in range(composer.length(number)))
        clips.append(Clip(name, os.path.join(root, "composed", name), frames, label))
    return ComposedClips(
        clips, FERPLUS_LABELS, len(clips), [], str(root), notes=_notes(composer), in_files=False, composer=composer
    )


def compose_evaluated(
    root: Path, into: Path, spec: ComposedSpec, count: int, split: int, *, progress: bool = False
) -> ClipSet:
    """The validation or test split, written below `into` if it is not there yet.

    Args:
        root: the folder of FER+.
        into: receives a folder per composition, `<split>-<digest of its settings and stills>`, with
            `Val/<Class>/<clip>/<frame>.png` and `intensity.csv`. It may be deleted.
        spec: the properties of the clips.
        count: number of clips.
        split: `VAL` or `TEST`.
        progress: show the progress.

    Raises:
        DataError: FER+ cannot be read, or the folder cannot be written.
    """
    stills = _stills(root, split, spec)
    composer = Composer.of(stills, spec, count, 0)
    about = {"version": VERSION, "split": NAMES[split], "stills": stills.digest, "clips": count, "spec": asdict(spec)}
    stamp = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
    folder = into / f"{NAMES[split]}-{stamp}"
    if not _is_complete(composer, folder, about):
        _write(composer, folder, about, progress)
    clips = read_folders(folder / "Val", labels=FERPLUS_LABELS)
    return replace(clips, notes=_notes(composer))


def _stills(root: Path, split: int, spec: ComposedSpec) -> Stills:
    """The stills of a split. FER+ is read once for both splits and for all seeds of a command."""
    files = [root / name for name in ("fer2013new.csv", "fer2013.csv", *SPLITS.values())]
    times = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
    return choose_stills(_read_once(root, times), USAGES[split], spec.confidence)


@lru_cache(maxsize=1)
def _read_once(root: Path, times: tuple[int, ...]) -> dict[str, FERPlusSplit]:
    return read_ferplus(root)


def _notes(composer: Composer) -> list[str]:
    left_out = composer.stills.left_out
    if not left_out:
        return []
    return [f"{composer.stills.usage}: {counted(left_out, 'still')} also in a later split, and used only there"]


def _is_complete(composer: Composer, folder: Path, about: dict[str, object]) -> bool:
    """Whether a folder has all clips of a composition, which its name and its composed.json identify."""
    try:
        found = read_state(folder / "composed.json", dict[str, Any], remedy="compose the clips again")
    except StateError:
        return False
    frames = sum(1 for _ in folder.glob("Val/*/*/*.png"))
    wanted = sum(composer.length(clip) for clip in range(len(composer.labels)))
    return found == json.loads(json.dumps(about)) and frames == wanted and (folder / INTENSITY_FILE).is_file()


def _write(composer: Composer, folder: Path, about: dict[str, object], progress: bool) -> None:
    """Writes all clips to a temporary folder, then renames it, so that the folder is always complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp makes it private
        rows: list[Row] = []
        with Progress("composing clips", len(composer.labels), unit="clips", show=progress) as bar:
            for clip in range(len(composer.labels)):
                rows += _write_clip(composer, clip, draft / "Val")
                bar()
        write_intensity(draft, rows)
        (draft / "composed.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (draft / MARKER).write_text("Composed of FER+ stills; their terms apply. Safe to delete.\n", encoding="utf-8")
        if folder.exists():  # partly deleted
            remove_own(folder, OWN)
        draft.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_clip(composer: Composer, clip: int, root: Path) -> Iterator[Row]:
    course, name = composer.course(clip), composer.name(clip)
    folder = root / name
    folder.mkdir(parents=True)
    pictures = render(composer.stills.images, course, FILE_SIDE)[:, 0].numpy()
    for number, (picture, kind, value) in enumerate(zip(pictures, course.kind, course.importance, strict=True)):
        frame = f"{number:03d}.png"
        Image.fromarray(picture).save(folder / frame)
        yield row("Val", name, frame, value, kind)
