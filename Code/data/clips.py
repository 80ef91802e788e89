"""What a dataset holds: clips, each a folder of frame files with a class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import ProjectError
from ..common.names import counted, grouped, one_line

NO_FRAMES = "no frames"
NO_FOLDER = "no such folder"
_SHOWN_PROBLEMS = 20


class DataError(ProjectError, ValueError):
    """Data that cannot be used, with all of its problems.

    Args:
        problems: one line or several. Each names the file (and line) or folder, and what is wrong with it.
        where: what was being read, for the headline above several problems.
        advice: what to do about them, printed once, below.

    Attributes:
        readable: the clips that could be read in spite of the problems. The check reports on them.
    """

    readable: ClipSet | None = None

    def __init__(self, problems: str | Sequence[str], where: str = "", advice: Sequence[str] = ()) -> None:
        self.problems = [one_line(each) for each in ([problems] if isinstance(problems, str) else problems)]
        self.where, self.advice = where, list(advice)
        super().__init__(self.problems, where, self.advice)  # pickling calls __init__ with these

    @classmethod
    def joined(cls, errors: Iterable[DataError]) -> DataError:
        """Joins errors, for example those of two splits. What several of them say appears once."""
        errors = list(errors)
        return cls(
            list(dict.fromkeys(problem for error in errors for problem in error.problems)),
            " and ".join(dict.fromkeys(error.where for error in errors if error.where)),
            list(dict.fromkeys(line for error in errors for line in error.advice)),
        )

    def __str__(self) -> str:
        lines = self.problems[:_SHOWN_PROBLEMS]
        if len(self.problems) > 1:
            place = f" in {self.where}" if self.where else ""
            lines = [f"{len(self.problems)} problems{place}:", *("  " + line for line in lines)]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"  and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return "\n".join([*lines, *self.advice])


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip.

    Attributes:
        name: path relative to the dataset's root, with forward slashes: `Fear/000633000`.
        folder: the folder with its frames.
        frames: file names in that folder, in natural order.
        label: class index.
        person: who the clip shows, as `name_key` spells it; "" if unknown.
        fold: the fold, from 1, that a list puts the clip into; 0 if it names none.
    """

    name: str
    folder: str
    frames: tuple[str, ...]
    label: int
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
        clips: the clips with frames, in the order of the list; without a list by class, then in natural order.
        labels: the class names, in the order of their indices.
        root: the folder that contains everything.
        left_out: the clips without frames, if they are skipped.
        notes: lines to print about what was read.
        renderer: makes the store of clips whose frames are not files, from the clips and the side of the input in
            pixels; it renders new frames in every training epoch. None: the frames are files.
    """

    clips: list[Clip]
    labels: tuple[str, ...]
    root: str
    left_out: list[Clip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    renderer: Callable[[ClipSet, int], Any] | None = None

    @property
    def in_files(self) -> bool:
        """Whether the frames are files."""
        return self.renderer is None

    @property
    def everything(self) -> list[Clip]:
        """All clips, skipped ones included. Folds are made of them, so that folds do not depend on what is skipped."""
        return [*self.clips, *self.left_out]

    @property
    def listed(self) -> int:
        """The number of clips that the list or the folders name."""
        return len(self.clips) + len(self.left_out)

    @property
    def skipped(self) -> list[str]:
        """The names of the clips that were skipped."""
        return [clip.name for clip in self.left_out]

    def subset(self, keep: Callable[[Clip], bool]) -> ClipSet:
        """The clips for which `keep` is true, skipped ones included, in the same order."""
        return replace(self, clips=list(filter(keep, self.clips)), left_out=list(filter(keep, self.left_out)))

    def mapped(self, change: Callable[[Clip], Clip]) -> ClipSet:
        """Every clip changed by a function, skipped ones included."""
        return replace(self, clips=list(map(change, self.clips)), left_out=list(map(change, self.left_out)))


def describe(clip_set: ClipSet) -> str:
    """One line: `771 clips, 46 080 frames, 7 classes, 2 clips without frames skipped`; persons if they are known."""
    persons = len({clip.person for clip in clip_set.clips} - {""})
    numbers = [
        (len(clip_set.clips), "clip", "clips"),
        *([(persons, "person", "persons")] if persons else []),
        (sum(map(len, clip_set.clips)), "frame", "frames"),
        (len(clip_set.labels), "class", "classes"),
    ]
    parts = [f"{grouped(number)} {one if number == 1 else many}" for number, one, many in numbers]
    if clip_set.left_out:
        parts.append(f"{counted(len(clip_set.left_out), 'clip')} without frames skipped")
    return ", ".join(parts)
