"""What a dataset holds: clips, each a folder of frame files with a class.

The readers, one module per dataset, are `afew` (and `folders`), `ckplus`, `dfew`, `ferv39k`, `sharedlist` and
`plainlist`; what they have in common is in `reading`. They look at names only, never at pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from Code.common.errors import ProjectError

NO_FRAMES = "no frames"
NO_FOLDER = "no such folder"

_SHOWN_PROBLEMS = 20


class DataError(ProjectError, ValueError):
    """Data that cannot be used: all of its problems, a line each.

    Args:
        problems: one line or several; each names the file (and line) or folder and what is wrong with it.
        where: what was being read, for the headline above several problems.
        advice: what to do about them, printed once, below.

    Attributes:
        readable: the clips that could be read nonetheless, for whoever reports on data instead of using it.
    """

    readable: ClipSet | None = None

    def __init__(self, problems: str | Sequence[str], where: str = "", advice: Sequence[str] = ()) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        self.advice = list(advice)
        super().__init__(self.problems, where, self.advice)  # the args that pickling calls __init__ with

    @classmethod
    def joined(cls, errors: Iterable[DataError]) -> DataError:
        """Several errors, of training and validation folders say, as one; what is the same in both is said once."""
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
        folder: where its frames lie.
        frames: file names in that folder, in natural order.
        label: class index.
        person: who is seen, where the dataset says so, else "".
        fold: the fold (from 1) in which a list has the clip evaluated, else 0.
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
        """The file of one frame."""
        return os.path.join(self.folder, self.frames[index])

    @property
    def paths(self) -> list[str]:
        """The files of all frames."""
        return [os.path.join(self.folder, frame) for frame in self.frames]


@dataclass
class ClipSet:
    """The clips of one split.

    Attributes:
        clips: those with frames, in the list's order, or by class and natural order when scanned.
        labels: the class names, in the order of their indices.
        listed: how many clips the list or the folders name, those left out included.
        skipped: names of those left out because they hold no frames.
        root: the folder that everything lies in.
        left_out: the clips behind `skipped`, without frames; folds must not depend on what is left out.
        notes: what a person should know of the reading, a line each.
        in_files: frames are files; else a store of its own makes them, others in every epoch of a training.
    """

    clips: list[Clip]
    labels: tuple[str, ...]
    listed: int
    skipped: list[str]
    root: str
    left_out: list[Clip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_files: bool = True

    def subset(self, keep: Callable[[Clip], bool]) -> ClipSet:
        """The clips, those left out included, for which `keep` holds, in their order."""
        clips, left_out = [c for c in self.clips if keep(c)], [c for c in self.left_out if keep(c)]
        return replace(
            self,
            clips=clips,
            left_out=left_out,
            skipped=[clip.name for clip in left_out],
            listed=len(clips) + len(left_out),
        )


def describe(clip_set: ClipSet) -> str:
    """One line: `771 clips, 46 080 frames, 7 classes, 2 without frames left out`; persons where they are known."""
    persons = {clip.person for clip in clip_set.clips} - {""}
    parts = [
        _count(len(clip_set.clips), "clip", "clips"),
        *([_count(len(persons), "person", "persons")] if persons else []),
        _count(sum(map(len, clip_set.clips)), "frame", "frames"),
        _count(len(clip_set.labels), "class", "classes"),
    ]
    if clip_set.skipped:
        parts.append(f"{len(clip_set.skipped)} without frames left out")
    return ", ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}".replace(",", " ")
