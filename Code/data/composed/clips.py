"""The pixels of composed frames: a still, spoiled, moved and lit, in one resampling step.

Every frame is computed alone, by elementwise arithmetic: its pixels do not depend on the frames it is read with.

The splits of `--dataset composed`: training clips that are made when they are read, validation clips in files.

Training: clip number c of epoch e is composed from `numpy.random.default_rng([seed, TRAIN, e, c])`, whatever was
read before and by which process, and is another one in every epoch. Validation (PublicTest) and test (PrivateTest)
are composed once, from seed 0, and written as pictures beside `intensity.csv`, as the generated sample is: two
trainings are judged by the same clips.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from tqdm import tqdm

from Code.common.conventions import FERPLUS_LABELS
from Code.data.clips import Clip, ClipSet, DataError
from Code.data.composed.plan import VERSION, ComposedSpec, Course, Stills, choose_stills, plan_course
from Code.data.readers.ferplus import SPLITS, FERPlusSplit, read_ferplus
from Code.data.readers.folders import read_folders

_SIGMA = (2.5, 4.5)  # of the blur, in pixels of a still of 48
_CROP = (0.3, 0.5)  # scale of a bad crop: what part of the still's side is seen
_TURN = (math.radians(70), math.radians(180))
_DARK = (0.06, 0.2)  # contrast that is left
_GRAIN = 0.03  # deviation of a dark frame's noise
_BRIGHT = (0.08, 0.25)  # contrast that is left below white
_COVER = (0.55, 0.85)  # half sides of an occluder, of half the picture's side


def render(images: np.ndarray, course: Course, size: int) -> Tensor:
    """Draws frames.

    Args:
        images: uint8 [N, 48, 48], the stills that `course.still` counts.
        course: of T frames.
        size: side of the result, pixels.

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
            # Off the center, so that the window shows less than half of the face, and stays within the still.
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
    """Resamples stills [T, 48, 48] to [T, size, size]; beyond their border it goes on as it ends."""
    mirror, _, scale, right, down = torch.from_numpy(pose.astype(np.float32)).T[:, :, None, None]
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :] * mirror, axis[None, :, None]
    # float64 angles: cos and sin of whole vectors may differ from those of single values in float32
    cos, sin = (torch.from_numpy(f(pose[:, 1]).astype(np.float32))[:, None, None] for f in (np.cos, np.sin))
    across = scale * (cos * x - sin * y) + right
    along = scale * (sin * x + cos * y) + down
    grid = torch.stack([across, along], dim=-1)  # [T, size, size, 2]
    moved = F.grid_sample(sources[:, None], grid, padding_mode="border", align_corners=False)
    return moved[:, 0]


def _occluded(picture: Tensor, spoil: np.ndarray) -> Tensor:
    """Lays a shaded, slanted block over most of a face."""
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
FILE_SIDE = 80  # pixels of the written pictures: what the shipped backbone sees
MARKER = "README.txt"


@dataclass(frozen=True)
class Composer:
    """Composes the clips of one split.

    Attributes:
        stills: of the split.
        spec: what clips are like.
        labels: int64 [clips], the class of each clip.
        seed, split: what all random numbers start from, with epoch and clip.
    """

    stills: Stills
    spec: ComposedSpec
    labels: np.ndarray
    seed: int
    split: int

    @classmethod
    def of(cls, stills: Stills, spec: ComposedSpec, count: int, seed: int) -> Composer:
        """Of `count` clips; a class has as many as the square root of its stills says, and one at least."""
        roots = np.sqrt([len(of_class) for of_class in stills.by_class])
        counts = np.diff(np.round(np.cumsum(roots) / roots.sum() * count), prepend=0).astype(np.int64)
        for absent in np.flatnonzero(counts == 0) if count >= len(roots) else ():
            counts[counts.argmax()] -= 1
            counts[absent] = 1
        return cls(stills, spec, np.repeat(np.arange(len(roots)), counts), seed, USAGES.index(stills.usage))

    def length(self, clip: int) -> int:
        """Frames of a clip, in every epoch."""
        low, high = self.spec.frames
        return int(np.random.default_rng([self.seed, self.split, clip]).integers(low, high + 1))

    def course(self, clip: int, epoch: int = 0) -> Course:
        """What a clip is in an epoch."""
        rng = np.random.default_rng([self.seed, self.split, epoch, clip])
        return plan_course(int(self.labels[clip]), self.length(clip), self.stills, self.spec, rng)

    def name(self, clip: int) -> str:
        """`anger/train-00012`: unique over the splits."""
        return f"{FERPLUS_LABELS[self.labels[clip]]}/{NAMES[self.split]}-{clip:05d}"


@dataclass
class ComposedClips(ClipSet):
    """Training clips without files, composed when they are read."""

    composer: Composer | None = None


class ComposedStore:
    """Composes frames when they are read.

    Args:
        clips: whose frames. A frame's id is its place in the row of all frames, plus that row's length for each
            epoch: `epoch * num_frames + place`.
        image_size: side of the result in pixels.
    """

    def __init__(self, clips: ComposedClips, image_size: int) -> None:
        assert clips.composer is not None
        self.composer, self.image_size = clips.composer, image_size
        self.numbers = [int(clip.name.rsplit("-", 1)[1]) for clip in clips.clips]
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips.clips])])

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1, S, S], gray."""
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
    """Single frames of several courses, as one."""
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
        root: FER+, as `read_ferplus` takes it.
        count: clips.

    Raises:
        DataError: what is wrong with FER+.
    """
    stills = _stills(root, TRAIN, spec)
    return composed_clips(Composer.of(stills, spec, count, seed), root)


def composed_clips(composer: Composer, root: Path) -> ComposedClips:
    """The clips of a composer, as a set that has no files; `root` only names them."""
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
        root: FER+.
        into: gets a folder for each composition, `<split>-<digest of all that it depends on>`, which holds
            `Val/<Class>/<clip>/<frame>.png` and `intensity.csv` and may be deleted.
        split: `VAL` or `TEST`.
        progress: show a bar on stderr.

    Raises:
        DataError: what is wrong with FER+.
    """
    stills = _stills(root, split, spec)
    composer = Composer.of(stills, spec, count, 0)
    about = {"version": VERSION, "split": NAMES[split], "stills": stills.digest, "clips": count, "spec": asdict(spec)}
    stamp = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
    folder = into / f"{NAMES[split]}-{stamp}"
    if not (folder / MARKER).is_file():
        _write(composer, folder, about, progress)
    clips = read_folders(folder / "Val", labels=FERPLUS_LABELS)
    return replace(clips, notes=_notes(composer))


def _stills(root: Path, split: int, spec: ComposedSpec) -> Stills:
    """A split's stills; both splits of a run, and the runs of several seeds, read FER+ once."""
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
    return [f"{composer.stills.usage}: {left_out} stills left out, since a later split of FER+ has the same pictures"]


def _write(composer: Composer, folder: Path, about: dict[str, object], progress: bool) -> None:
    """Writes all clips under another name, then renames: a folder that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp makes it private
        with open(draft / "intensity.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("split", "clip", "frame", "intensity", "distractor"))
            for clip in tqdm(range(len(composer.labels)), "Composing clips", unit="clip", disable=not progress):
                rows.writerows(_write_clip(composer, clip, draft / "Val"))
        (draft / "composed.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (draft / MARKER).write_text("Composed of FER+ stills, whose terms hold. Safe to delete.\n", encoding="utf-8")
        if folder.exists():  # half deleted
            shutil.rmtree(folder)
        draft.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_clip(composer: Composer, clip: int, root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    course, name = composer.course(clip), composer.name(clip)
    folder = root / name
    folder.mkdir(parents=True)
    pictures = render(composer.stills.images, course, FILE_SIDE)[:, 0].numpy()
    for number, (picture, kind, value) in enumerate(zip(pictures, course.kind, course.importance, strict=True)):
        frame = f"{number:03d}.png"
        Image.fromarray(picture).save(folder / frame)
        yield "Val", name, frame, f"{value:.4f}", kind
