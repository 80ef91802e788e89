"""The splits of `--dataset composed`: training clips composed when they are read, evaluated clips written to files.

Training clip c of epoch e is composed from `numpy.random.default_rng([seed, TRAIN, e, c])`. It does not depend on the
process that reads it or on what was read before, and differs in every epoch. Validation clips (PublicTest) and test
clips (PrivateTest) are composed once, from seed 0, and written as pictures with an `intensity.csv`, so that all
trainings are evaluated on the same clips.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..common.files import writing_folder
from ..common.json_files import StateError, read_json
from ..common.names import FERPLUS_LABELS, counted
from ..common.progress import Progress
from ..data.clips import Clip, ClipSet, DataError
from ..data.intensity import Row, row, write_intensity
from ..readers.ferplus import SPLITS, FERPlusSplit, read_ferplus
from ..readers.folders import read_folders
from .plan import VERSION, ComposedSpec, Course, Stills, choose_stills, plan_course
from .render import render

TRAIN, VAL, TEST = 0, 1, 2
USAGES = ("Training", "PublicTest", "PrivateTest")
NAMES = ("train", "val", "test")
FILE_SIDE = 80  # pixels of the written pictures
FACTS = "composed.json"


@dataclass(frozen=True)
class Composer:
    """Composes the clips of one split; `seed` and `split` are those of all random numbers, with epoch and clip."""

    stills: Stills
    spec: ComposedSpec
    labels: np.ndarray  # int64 [clips], the class of each clip
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


class ComposedStore:
    """Composes frames when they are read.

    Args:
        composer: of the clips.
        clips: some of its clips. The id of a frame is `epoch * num_frames + position`, where `position` is that in the
            row of all frames of these clips.
        image_size: side of the result in pixels.
    """

    def __init__(self, composer: Composer, clips: ClipSet, image_size: int) -> None:
        self.composer, self.image_size = composer, image_size
        self.numbers = [int(clip.name.rsplit("-", 1)[1]) for clip in clips.clips]
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips.clips])])

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1, S, S], grayscale."""
        epochs, positions = np.divmod(frame_ids, self.offsets[-1])
        clips = np.searchsorted(self.offsets, positions, side="right") - 1
        courses: dict[tuple[int, int], Course] = {}
        parts = []
        for epoch, clip, position in zip(epochs.tolist(), clips.tolist(), positions.tolist(), strict=True):
            if (epoch, clip) not in courses:
                courses[epoch, clip] = self.composer.course(self.numbers[clip], epoch)
            parts.append((courses[epoch, clip], position - int(self.offsets[clip])))
        joined = {
            name: np.stack([getattr(course, name)[at] for course, at in parts])
            for name in ("still", "pose", "light", "spoil", "noise")
        }
        frames = Course(kind=[course.kind[at] for course, at in parts], **joined)
        return render(self.composer.stills.images, frames, self.image_size)


def compose_training(root: Path, spec: ComposedSpec, count: int, seed: int) -> ClipSet:
    """The training split of `count` clips, without files. `root` is the folder of FER+, see `read_ferplus`.

    Raises:
        DataError: FER+ cannot be read.
    """
    return composed_clips(Composer.of(_stills(root, TRAIN, spec), spec, count, seed), root)


def composed_clips(composer: Composer, root: Path) -> ClipSet:
    """The clips of a composer as a set without files. `root` only appears in messages."""
    clips = []
    for number, label in enumerate(composer.labels.tolist()):
        name = composer.name(number)
        frames = tuple(f"{frame:03d}" for frame in range(composer.length(number)))
        clips.append(Clip(name, os.path.join(root, "composed", name), frames, label))
    return ClipSet(
        clips, FERPLUS_LABELS, str(root), notes=_notes(composer.stills), renderer=partial(ComposedStore, composer)
    )


def compose_evaluated(
    root: Path, into: Path, spec: ComposedSpec, count: int, split: int, *, progress: bool = False
) -> ClipSet:
    """The validation or test split, written below `into` if it is not there yet.

    Args:
        root: the folder of FER+.
        into: receives a folder per composition, `<split>-<digest of its settings and stills>`, with
            `Val/<Class>/<clip>/<frame>.png` and `intensity.csv`. It may be deleted.
        split: `VAL` or `TEST`.

    Raises:
        DataError: FER+ cannot be read, or the folder cannot be written.
    """
    stills = _stills(root, split, spec)
    composer = Composer.of(stills, spec, count, 0)
    settings = {
        "version": VERSION,
        "split": NAMES[split],
        "stills": stills.digest,
        "clips": count,
        "spec": asdict(spec),
    }
    stamp = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    folder = into / f"{NAMES[split]}-{stamp}"
    if not _is_written(folder, settings):
        try:
            with writing_folder(folder, replace=True) as draft:
                _write(composer, draft, settings, progress)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror})") from None
    return replace(read_folders(folder / "Val", labels=FERPLUS_LABELS), notes=_notes(stills))


def _stills(root: Path, split: int, spec: ComposedSpec) -> Stills:
    """The stills of a split. FER+ is read once for both splits and for all seeds of a command."""
    files = [root / name for name in ("fer2013new.csv", "fer2013.csv", *SPLITS.values())]
    times = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
    return choose_stills(_read_once(root, times), USAGES[split], spec.confidence)


@lru_cache(maxsize=1)
def _read_once(root: Path, times: tuple[int, ...]) -> dict[str, FERPlusSplit]:
    return read_ferplus(root)


def _notes(stills: Stills) -> list[str]:
    if not stills.left_out:
        return []
    return [f"{stills.usage}: {counted(stills.left_out, 'still')} also in a later split, and used only there"]


def _is_written(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder has the clips of these settings. It is whole: it gets its name when all are written."""
    try:
        return read_json(folder / FACTS, dict[str, Any], remedy="") == json.loads(json.dumps(settings))
    except StateError:
        return False


def _write(composer: Composer, folder: Path, settings: dict[str, Any], progress: bool) -> None:
    """Writes all clips."""
    rows: list[Row] = []
    with Progress("composing clips", len(composer.labels), unit="clips", show=progress) as bar:
        for clip in range(len(composer.labels)):
            course, name = composer.course(clip), composer.name(clip)
            (folder / "Val" / name).mkdir(parents=True)
            pictures = render(composer.stills.images, course, FILE_SIDE)[:, 0].numpy()
            for number, (picture, kind, value) in enumerate(zip(pictures, course.kind, course.importance, strict=True)):
                Image.fromarray(picture).save(folder / "Val" / name / f"{number:03d}.png")
                rows.append(row("Val", name, f"{number:03d}.png", value, kind))
            bar()
    write_intensity(folder, rows)
    (folder / FACTS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    text = "Composed of FER+ stills; their terms apply. Safe to delete.\n"
    (folder / "README.txt").write_text(text, encoding="utf-8")
