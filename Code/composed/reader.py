"""`--dataset composed`: training clips composed when they are read, evaluated clips written to files.

Training clip c of epoch e is composed from `numpy.random.default_rng([seed, 0, e, c])`. It does not depend on the
process that reads it or on what was read before, and differs in every epoch. Validation clips (PublicTest) and test
clips (PrivateTest) are composed once, from seed 0, and written as pictures with an `intensity.csv`, so that all
trainings are evaluated on the same clips.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..common.errors import UsageError
from ..common.files import one_writer, writing_folder
from ..common.names import FERPLUS_LABELS
from ..common.progress import Progress
from ..data.clips import Clip, ClipSet
from ..data.intensity import Row, intensities_of, write_intensity
from ..data.request import Request, TrainingProtocol
from ..readers.base import Reader
from ..readers.ferplus import read_ferplus
from ..readers.folders import read_folders
from .plan import VERSION, ComposedSpec, Frame, Stills, choose_stills, plan_clip

if TYPE_CHECKING:
    from torch import Tensor

COMPOSED_ROOT = Path("Data/Composed")
TRAIN_CLIPS, VAL_CLIPS = 2000, 800  # if no flag says how many
SPLITS = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}  # -> FER+'s name
FILE_SIDE = 80  # pixels of the written pictures
_read_once = lru_cache(maxsize=1)(read_ferplus)  # for both splits and all seeds of a command


class Composer:
    """Composes `count` clips of a split of `SPLITS`, each class in proportion to the square root of its stills."""

    def __init__(self, stills: Stills, spec: ComposedSpec, split: str, count: int, seed: int) -> None:
        self.stills, self.spec, self.split, self.seed = stills, spec, split, seed
        roots = np.sqrt([len(of_class) for of_class in stills.by_class])
        counts = np.diff(np.round(np.cumsum(roots) / roots.sum() * count), prepend=0).astype(np.int64)
        for absent in np.flatnonzero(counts == 0) if count >= len(roots) else ():  # a class has at least one
            counts[counts.argmax()] -= 1
            counts[absent] = 1
        self.labels = np.repeat(np.arange(len(roots)), counts)  # int64 [clips]

    def random(self, *numbers: int) -> np.random.Generator:
        """The random numbers of a clip, or of an epoch and a clip."""
        return np.random.default_rng([self.seed, list(SPLITS).index(self.split), *numbers])

    def length(self, clip: int) -> int:
        """Number of frames of a clip, the same in every epoch."""
        low, high = self.spec.frames
        return int(self.random(clip).integers(low, high + 1))

    def frames(self, clip: int, epoch: int = 0) -> list[Frame]:
        """The frames of a clip in an epoch."""
        label, length = int(self.labels[clip]), self.length(clip)
        return plan_clip(label, length, self.stills, self.spec, self.random(epoch, clip))

    def name(self, clip: int) -> str:
        """The name of a clip, `anger/train-00012`; unique in all splits."""
        return f"{FERPLUS_LABELS[self.labels[clip]]}/{self.split}-{clip:05d}"

    def clips(self, root: Path) -> ClipSet:
        """The clips as a set without files. `root` only appears in messages."""
        clips = []
        for number, label in enumerate(self.labels.tolist()):
            frames = tuple(f"{frame:03d}" for frame in range(self.length(number)))
            clips.append(Clip(self.name(number), os.path.join(root, "composed", self.name(number)), frames, label))
        return ClipSet(clips, FERPLUS_LABELS, str(root), renderer=partial(ComposedStore, self))


class ComposedStore:
    """Composes frames of some clips when they are read, of `image_size` pixels a side.

    The id of a frame is `epoch * num_frames + position`, where `position` is that in the row of all frames.
    """

    def __init__(self, composer: Composer, clips: ClipSet, image_size: int) -> None:
        self.composer, self.image_size = composer, image_size
        self.numbers = [int(clip.name.rsplit("-", 1)[1]) for clip in clips.clips]
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips.clips])])

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1, S, S], grayscale."""
        from .render import render  # imports torch

        epochs, positions = np.divmod(frame_ids, self.offsets[-1])
        clips = np.searchsorted(self.offsets, positions, side="right") - 1
        planned: dict[tuple[int, int], list[Frame]] = {}
        frames = []
        for epoch, clip, position in zip(epochs.tolist(), clips.tolist(), positions.tolist(), strict=True):
            if (epoch, clip) not in planned:
                planned[epoch, clip] = self.composer.frames(self.numbers[clip], epoch)
            frames.append(planned[epoch, clip][position - int(self.offsets[clip])])
        return render(self.composer.stills.images, frames, self.image_size)


def written_clips(composer: Composer, into: Path) -> ClipSet:
    """The clips of a composer as files, which are written to `into/<split>-<digest>` if they are not there yet."""
    settings = {
        "version": VERSION,
        "split": composer.split,
        "stills": composer.stills.digest,
        "clips": len(composer.labels),
        "spec": asdict(composer.spec),
    }
    stamp = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    folder = into / f"{composer.split}-{stamp}"
    if not folder.is_dir():  # it gets its name when all clips are written
        with one_writer(into, f".{folder.name}.lock", doing=f"composes {folder}"):
            if not folder.is_dir():  # the process that this one waited for may have written it
                with writing_folder(folder) as draft:
                    (draft / "composed.json").write_text(json.dumps(settings, indent=2) + "\n")
                    _write(composer, draft)
    return read_folders(folder / "Val", labels=FERPLUS_LABELS)


def _write(composer: Composer, folder: Path) -> None:
    from .render import render  # imports torch

    (folder / "README.txt").write_text("Composed of FER+ stills; their terms apply. Safe to delete.\n")
    rows: list[Row] = []
    with Progress("composing clips", len(composer.labels), unit="clips") as bar:
        for clip in range(len(composer.labels)):
            frames, name = composer.frames(clip), composer.name(clip)
            (folder / "Val" / name).mkdir(parents=True)
            pictures = render(composer.stills.images, frames, FILE_SIDE)[:, 0].numpy()
            for number, (picture, frame) in enumerate(zip(pictures, frames, strict=True)):
                Image.fromarray(picture).save(folder / "Val" / name / f"{number:03d}.png")
                rows.append(("Val", name, f"{number:03d}.png", frame.importance, frame.kind))
            bar()
    write_intensity(folder, rows)


def composed_spec(request: Request) -> ComposedSpec:
    """The settings of composed clips. One number stands for both ends of a range."""
    ranges = {"frames": request.clip_frames, "telling": request.telling}
    given: dict[str, Any] = {name: (min(ends), max(ends)) for name, ends in ranges.items() if ends}
    if request.distractors:
        given["distractors"] = tuple(dict.fromkeys(request.distractors))
    return ComposedSpec(**given)


class Composed(Reader):
    """Clips that are composed of the splits of FER+."""

    def check(self, request: Request) -> None:
        super().check(request)
        if request.val_root or request.train_list or request.val_list:
            raise UsageError("--dataset composed: uses the splits of FER+ in --data-root; omit other roots, and lists")
        composed_spec(request)

    def frames_per_sample(self, request: Request) -> int | None:
        return composed_spec(request).frames[0]  # whole clips, since a few frames may not show the expression

    def read(self, request: Request, split: str | None, labels: Sequence[str] | None = None) -> ClipSet:
        if split != "train":
            split = request.eval_split or "val"
        root, spec = Path(request.train_root or self.train_root), composed_spec(request)
        stills = choose_stills(_read_once(root), SPLITS[split], spec.confidence)
        if split == "train":
            return Composer(stills, spec, split, request.train_clips or TRAIN_CLIPS, request.seed).clips(root)
        return written_clips(Composer(stills, spec, split, request.val_clips or VAL_CLIPS, 0), COMPOSED_ROOT)


COMPOSED = Composed(
    name="composed",
    title="composed clips",
    trained_on="clips composed of single gray pictures of faces (FER+)",
    # A sample is a whole clip: K is the length of the clips. Only the head is trained: it takes minutes on two CPU
    # cores, and classifies more clips correctly than the whole network trained for the same time.
    protocol=TrainingProtocol(
        num_frames=16,
        epochs=24,
        lr=1e-2,
        decay_at=(8, 16),
        batch_size=32,
        samples_per_clip=1,
        freeze_backbone=True,
        image_size=80,
    ),
    crop="fer2013",
    labels=FERPLUS_LABELS,
    train_root="Data/FERPlus",
    intensities=intensities_of,
)
