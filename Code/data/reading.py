"""What every reader of a dataset does: gather all problems, look up the frames of listed clips.

Readers look at names only, never at pixels, and to a fixed depth, so that a symbolic link that leads back up
cannot trap them. They gather every problem before they raise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from Code.data.clips import AFEW_LABELS, Clip, ClipSet, DataError
from Code.data.lists import FRAME_SUFFIXES, ListedClip, list_folder, printable

GUIDE = (
    "Data/README.md says how to get a dataset and where to put it.",
    "No data at hand? --dataset sample draws its own and needs none.",
)


@dataclass
class Report:
    """What is wrong with one split, gathered while it is read.

    Attributes:
        where: what is read, for the headline above several problems.
        layout: where frames belong, said to those who have no data in place; by default AFEW's layout.
    """

    where: str
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    layout: str = ""

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
        usual = f"Frames belong in <root>/<Class>/<clip>/<frame>.jpg, for example {printable(example)}."
        self.advice += [self.layout or usual, *GUIDE]

    def error(self) -> DataError:
        """What was gathered, to be raised."""
        return DataError(self.problems, self.where, self.advice)


def require_root(root: str, report: Report, labels: Sequence[str]) -> None:
    """Ends the reading if there is no root: all clips would be missing, which is not worth a line each."""
    try:
        os.scandir(root).close()
    except OSError as error:
        report.add_folder(root, error)
        if isinstance(error, FileNotFoundError):
            report.advise_layout(root, labels)
        raise report.error() from None


def read_clips(
    root: str,
    listed: list[ListedClip],
    labels: Sequence[str],
    skip_empty: bool,
    report: Report,
    list_file: str = "",
) -> ClipSet:
    """Looks up the frames of each clip.

    Args:
        root: what the clips' names are relative to.
        listed: the clips; one whose frames do not lie in `<root>/<name>` says where.
        skip_empty: leave out clips without frames instead of calling them a problem.
        report: problems found so far.
        list_file: where the clips' line numbers count.

    Raises:
        DataError: whatever the report then holds.
    """
    clips: list[Clip] = []
    left_out: list[Clip] = []
    missing = other_count = 0
    for item in listed:
        folder = item.folder or os.path.join(root, *item.name.split("/"))
        listed_in = f"{list_file}, line {item.line}: " if item.line and list_file else ""
        try:
            deeper, images = list_folder(folder, report.problems)
        except OSError as error:
            missing += isinstance(error, FileNotFoundError)
            report.add_folder(folder, error, listed_in)
            continue
        clip = Clip(item.name, folder, tuple(images), item.label, item.person, item.fold)
        if images:
            clips.append(clip)
            other_count += item.frames not in (None, len(images))
            continue
        left_out.append(clip)
        if not skip_empty:
            hint = ", only folders: is the root one level too high?" if deeper else ""
            report.problems.append(f"{listed_in}{printable(folder)}: no frames{hint}")
    if left_out and not skip_empty:
        report.advice.append(f"Frames are files ending in {' '.join(FRAME_SUFFIXES)}.")
        report.advice.append("--skip-empty leaves out clips without frames, and counts them.")
    if missing == len(listed) > 1:
        report.advice.append(f"Not one listed clip is in {printable(root)}: is it the folder for this list?")
    if not clips and not report.problems:
        found = f"all {len(left_out)} clips are without frames" if left_out else "no clips"
        report.problems.append(f"{printable(root)}: {found}")
        report.advise_layout(root, labels or AFEW_LABELS)
    if report.problems:
        raise report.error()
    notes = []
    if other_count:
        who = "1 clip holds" if other_count == 1 else f"{other_count} clips hold"
        notes.append(f"{list_file}: {who} another number of frames than it says")
    skipped = [clip.name for clip in left_out]
    return ClipSet(clips, tuple(labels), len(listed), skipped, root, left_out, notes)
