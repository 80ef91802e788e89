"""What a dataset holds: clips, each a folder of frame files with a class.

Readers look at names only, never at pixels, and scan a fixed depth, `<root>/<Class>/<clip>/<frame>`, so
that a symbolic link that leads back up cannot trap them. They gather every problem before they raise.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from Code.data.lists import (
    FRAME_SUFFIXES,
    ListedClip,
    list_folder,
    printable,
    quoted,
    read_list,
    unknown_class,
)

AFEW_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")

_SHOWN_PROBLEMS = 20


class DataError(ValueError):
    """Data that cannot be used: all of its problems, a line each.

    Args:
        problems: one line or several; each names the file (and line) or folder and what is wrong with it.
        where: what was being read, for the headline above several problems.
        advice: what to do about them, printed once, below.
    """

    def __init__(self, problems: str | Sequence[str], where: str = "", advice: Sequence[str] = ()) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        self.advice = list(advice)
        super().__init__(self.problems, where, self.advice)  # the args that pickling calls __init__ with

    @classmethod
    def joined(cls, errors: Iterable[DataError]) -> DataError:
        """Several errors, of training and validation folders say, as one; the same advice is given once."""
        errors = list(errors)
        return cls(
            [problem for error in errors for problem in error.problems],
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
    """

    name: str
    folder: str
    frames: tuple[str, ...]
    label: int

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
    """

    clips: list[Clip]
    labels: tuple[str, ...]
    listed: int
    skipped: list[str]
    root: str


def read_afew(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] = AFEW_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one split of AFEW, or of anything laid out and listed like it.

    Args:
        root: holds `<Class>/<clip>/<frame>`.
        list_file: lines `<Class>/<clip> <Class>`; only the clips listed are read. None: all folders are.
        labels: the class names, in the order of their indices.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the list and the folders.
    """
    root = os.fspath(root)
    if list_file is None:
        return _scan(root, labels, skip_empty)
    list_file = os.fspath(list_file)
    report = _Report(f"{root} (listed in {list_file})")
    listed, report.problems = read_list(list_file, labels)
    _require_root(root, report, labels)
    return _read_clips(root, listed, labels, skip_empty, report, list_file)


def read_folders(
    root: str | os.PathLike[str], *, labels: Sequence[str] | None = None, skip_empty: bool = False
) -> ClipSet:
    """Reads any `<Class>/<clip>/<frame>` tree.

    Args:
        root: holds a folder per class.
        labels: the training set's class names, for a set to be tested against them: a folder of another
            name is then an error, a missing one is not. None: the sorted folder names are the classes.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the folders.
    """
    return _scan(os.fspath(root), labels, skip_empty)


def describe(clip_set: ClipSet) -> str:
    """One line: `771 clips, 46 080 frames, 7 classes, 2 without frames left out`."""
    parts = [
        _count(len(clip_set.clips), "clip", "clips"),
        _count(sum(map(len, clip_set.clips)), "frame", "frames"),
        _count(len(clip_set.labels), "class", "classes"),
    ]
    if clip_set.skipped:
        parts.append(f"{len(clip_set.skipped)} without frames left out")
    return ", ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}".replace(",", " ")


def quick_check(train: ClipSet, val: ClipSet, frames: int = 3) -> list[str]:
    """What is suspicious about a pair of splits though it can be used, a line each.

    Args:
        train: the training clips.
        val: the validation clips, with the same labels.
        frames: frames sampled per clip (K); shorter training clips repeat frames.
    """
    warnings = []

    def warn(clips: Sequence[str], text: str) -> None:
        if clips:
            names = ", ".join(map(printable, clips[:3])) + (", ..." if len(clips) > 3 else "")
            warnings.append(f"{_count(len(clips), 'clip', 'clips')} {text}: {names}")

    val_names = {clip.name for clip in val.clips}
    warn([c.name for c in train.clips if c.name in val_names], "in both training and validation, by name")
    warn([c.name for c in train.clips if len(c) < frames], f"shorter than the {frames} frames to be sampled")
    seen = Counter(clip.label for clip in train.clips)
    tested = Counter(clip.label for clip in val.clips)
    for label, name in enumerate(train.labels):
        if not seen[label]:
            tail = f", but {tested[label]} for validation" if tested[label] else ""
            warnings.append(f"class {printable(name)} has no training clips{tail}")
    return warnings


@dataclass
class _Report:
    """What is wrong with one split, gathered while it is read."""

    where: str
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def add_folder(self, path: str, error: OSError, listed_in: str = "") -> None:
        """A folder that cannot be listed."""
        if isinstance(error, FileNotFoundError):
            what = "no such folder"
        elif isinstance(error, NotADirectoryError):
            what = "a file, where a folder is expected"
        else:
            what = f"the folder cannot be read ({error.strerror})"
        self.problems.append(f"{listed_in}{printable(path)}: {what}")

    def advise_layout(self, root: str, labels: Sequence[str]) -> None:
        """Gets somebody further who has no data in place."""
        example = os.path.join(root, labels[0], "000149120", "001.jpg")
        self.advice += [
            f"Frames belong in <root>/<Class>/<clip>/<frame>.jpg, for example {printable(example)}.",
            "Data/README.md says how to get a dataset and where to put it.",
            "No data at hand? --dataset sample draws its own and needs none.",
        ]

    def error(self) -> DataError:
        return DataError(self.problems, self.where, self.advice)


def _require_root(root: str, report: _Report, labels: Sequence[str]) -> None:
    """Ends the reading if there is no root: all clips would be missing, which is not worth a line each."""
    try:
        os.scandir(root).close()
    except OSError as error:
        report.add_folder(root, error)
        if isinstance(error, FileNotFoundError):
            report.advise_layout(root, labels)
        raise report.error() from None


def _scan(root: str, labels: Sequence[str] | None, skip_empty: bool) -> ClipSet:
    """Reads all of `<root>/<Class>/<clip>/`."""
    report = _Report(root)
    _require_root(root, report, labels or AFEW_LABELS)
    folders = sorted(list_folder(root, report.problems)[0])
    if labels is None:
        labels = folders
    for name in folders:
        if name not in labels:
            report.problems.append(f"{printable(os.path.join(root, name))}: {unknown_class(name, labels)}")
    listed = []
    for label, name in enumerate(labels):
        if name not in folders:
            continue
        folder = os.path.join(root, name)
        try:
            clips, images = list_folder(folder, report.problems)
        except OSError as error:
            report.add_folder(folder, error)
            continue
        listed += [ListedClip(f"{name}/{clip}", label) for clip in clips]
        if images:
            report.problems.append(
                f"{printable(folder)}: {len(images)} images outside of any clip folder, for example "
                f"{quoted(images[0])}; put them into {printable(name)}/<clip>/"
            )
    return _read_clips(root, listed, labels, skip_empty, report)


def _read_clips(
    root: str,
    listed: list[ListedClip],
    labels: Sequence[str],
    skip_empty: bool,
    report: _Report,
    list_file: str = "",
) -> ClipSet:
    """Looks up the frames of each clip; raises whatever the report then holds."""
    clips = []
    skipped = []
    missing = 0
    for name, label, line in listed:
        folder = os.path.join(root, *name.split("/"))
        listed_in = f"{list_file}, line {line}: " if line else ""
        try:
            deeper, images = list_folder(folder, report.problems)
        except OSError as error:
            missing += isinstance(error, FileNotFoundError)
            report.add_folder(folder, error, listed_in)
            continue
        if images:
            clips.append(Clip(name, folder, tuple(images), label))
            continue
        skipped.append(name)
        if not skip_empty:
            hint = ", only folders: is the root one level too high?" if deeper else ""
            report.problems.append(f"{listed_in}{printable(folder)}: no frames{hint}")
    if skipped and not skip_empty:
        report.advice.append(f"Frames are files ending in {' '.join(FRAME_SUFFIXES)}.")
        report.advice.append("--skip-empty leaves out clips without frames, and counts them.")
    if missing == len(listed) > 1:
        report.advice.append(f"Not one listed clip is in {printable(root)}: is it the folder for this list?")
    if not clips and not report.problems:
        found = f"all {len(skipped)} clips are without frames" if skipped else "no clips"
        report.problems.append(f"{printable(root)}: {found}")
        report.advise_layout(root, labels or AFEW_LABELS)
    if report.problems:
        raise report.error()
    return ClipSet(clips, tuple(labels), len(listed), skipped, root)
