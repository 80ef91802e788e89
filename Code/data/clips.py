"""What a dataset holds: clips, each a folder of frame files with a class."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import ProjectError
from ..common.names import counted, expression, grouped, one_line, printable

NO_FRAMES = "no frames"
NO_FOLDER = "no such folder"
DROPPED = "none"  # `--map-labels Contempt=none` drops the clips of that class
_SHOWN_PROBLEMS = 20


class DataError(ProjectError, ValueError):
    """Data that cannot be used, with all of its problems.

    Args:
        problems: one line or several. Each names the file (and line) or folder, and what is wrong with it.
        advice: what to do about them, printed once, below.
    """

    readable: ClipSet | None = None  # the clips that could be read in spite of the problems, for the check

    def __init__(self, problems: str | Sequence[str], advice: Sequence[str] = ()) -> None:
        self.problems = [one_line(each) for each in ([problems] if isinstance(problems, str) else problems)]
        self.advice = list(advice)
        super().__init__(self.problems, self.advice)  # pickling calls __init__ with these

    @classmethod
    def joined(cls, errors: Sequence[DataError]) -> DataError:
        """Joins errors, for example those of two splits. What several of them say appears once."""
        problems = [line for error in errors for line in error.problems]
        advice = [line for error in errors for line in error.advice]
        return cls(list(dict.fromkeys(problems)), list(dict.fromkeys(advice)))

    def __str__(self) -> str:
        lines = self.problems[:_SHOWN_PROBLEMS]
        if len(self.problems) > 1:
            lines = [f"{len(self.problems)} problems:", *("  " + line for line in lines)]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"  and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return "\n".join([*lines, *self.advice])


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip.

    Attributes:
        name: path relative to the dataset's root, with forward slashes: `Fear/000633000`.
        frames: file names in the folder, in natural order.
        person: who the clip shows, as `name_key` spells it; "" if unknown.
        fold: the fold, from 1, that a list puts the clip into; 0 if it names none.
    """

    name: str
    folder: str
    frames: tuple[str, ...]
    label: int  # class index
    person: str = ""
    fold: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    def path(self, index: int) -> str:
        """The path of one frame."""
        return os.path.join(self.folder, self.frames[index])

    @property
    def paths(self) -> list[str]:
        """The paths of all frames."""
        return [os.path.join(self.folder, frame) for frame in self.frames]


@dataclass
class ClipSet:
    """The clips of one split.

    Attributes:
        everything: all clips, those without frames included, which are skipped. Folds are made of them, so that folds
            do not depend on what is skipped.
        labels: the class names, in the order of their indices.
        root: the folder that contains everything.
        notes: lines to print about what was read.
        renderer: makes the store of clips whose frames are not files, from the clips and the side of the input in
            pixels; it renders new frames in every training epoch. None: the frames are files.
    """

    everything: list[Clip]
    labels: tuple[str, ...]
    root: str
    notes: list[str] = field(default_factory=list)
    renderer: Callable[[ClipSet, int], Any] | None = None

    @property
    def clips(self) -> list[Clip]:
        """The clips with frames, in the order of the list; without a list by class, then in natural order."""
        return [clip for clip in self.everything if clip.frames]

    @property
    def skipped(self) -> list[str]:
        """The names of the clips without frames."""
        return [clip.name for clip in self.everything if not clip.frames]

    @property
    def in_files(self) -> bool:
        """Whether the frames are files."""
        return self.renderer is None

    def subset(self, keep: Callable[[Clip], bool]) -> ClipSet:
        """The clips for which `keep` is true, in the same order."""
        return replace(self, everything=list(filter(keep, self.everything)))

    def mapped(self, change: Callable[[Clip], Clip]) -> ClipSet:
        """Every clip changed by a function."""
        return replace(self, everything=list(map(change, self.everything)))


def describe(clip_set: ClipSet) -> str:
    """One line: `771 clips, 46 080 frames, 7 classes, 2 clips without frames skipped`; persons if they are known."""
    clips, persons = clip_set.clips, {clip.person for clip in clip_set.clips} - {""}
    parts = [f"{grouped(len(clips))} {'clip' if len(clips) == 1 else 'clips'}"]
    parts += [counted(len(persons), "person")] if persons else []
    parts += [f"{grouped(sum(map(len, clips)))} frames", counted(len(clip_set.labels), "class", "classes")]
    if clip_set.skipped:
        parts.append(f"{counted(len(clip_set.skipped), 'clip')} without frames skipped")
    return ", ".join(parts)


def map_labels(clips: ClipSet, target: Sequence[str], mapping: Mapping[str, str], what: str) -> ClipSet:
    """The same clips with class indices that refer to a checkpoint's class names.

    Args:
        target: the checkpoint's class names, in the order of their indices.
        mapping: class of the data -> class of the checkpoint, or "none" to drop its clips.
        what: the checkpoint, for messages: DataError if the data have other classes, or the mapping has.
    """
    mapped = [mapping.get(name, name) for name in clips.labels]
    unknown = [name for name, new in zip(clips.labels, mapped, strict=True) if new not in (*target, DROPPED)]
    if unknown or not mapping.keys() <= {*clips.labels}:
        meant = {name: [other for other in target if expression(other) == expression(name)] for name in unknown}
        hint = " ".join(f"{name}={(others or [DROPPED])[0]}" for name, others in meant.items()) or "DATA=CHECKPOINT"
        raise DataError(
            f"{what}: its classes are {', '.join(map(printable, target))}; those of the data are "
            f"{', '.join(map(printable, clips.labels))}; map the others, for example --map-labels {hint}"
        )
    number = {label: target.index(new) for label, new in enumerate(mapped) if new != DROPPED}
    kept = clips.subset(lambda clip: clip.label in number).mapped(lambda clip: replace(clip, label=number[clip.label]))
    if not kept.clips:
        raise DataError(f"--map-labels: drops every clip of {clips.root}; map at least one class")
    notes = [*clips.notes]
    if dropped := len(clips.everything) - len(kept.everything):
        notes.append(f"--map-labels: {counted(dropped, 'clip')} of classes mapped to none not evaluated")
    if tuple(target) != clips.labels:
        notes.append(f"classes are in the checkpoint's order: {', '.join(target)}")
    if absent := [name for name in target if name not in mapped]:
        notes.append(f"the data have no class {', '.join(absent)}, but the network can still predict it")
    return replace(kept, labels=tuple(target), notes=notes)
