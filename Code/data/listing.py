"""Folders of clips: what is in them, the frames of listed clips, and a report of everything that is wrong.

Only names are looked at, never pixels, and only to a fixed depth, so that a symbolic link to a parent folder cannot
trap a reader.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..common.names import AFEW_LABELS
from ..common.wording import counted, natural_key, printable
from .clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError
from .lists import ListedClip

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


def list_folder(path: str, problems: list[str]) -> tuple[list[str], list[str]]:
    """Lists one folder without its hidden and system files.

    Args:
        path: the folder. Links in it are followed; its subfolders are not searched.
        problems: receives a line for every entry that cannot be used.

    Returns:
        Names of its folders and of its image files, each in natural order.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    folders: list[str] = []
    images: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == "." or name in _SYSTEM_FOLDERS:
                continue
            try:
                if name.lower().endswith(FRAME_SUFFIXES) and entry.is_file():
                    images.append(sys.intern(name))  # many clips have a 001.jpg: store the string once
                elif entry.is_dir():
                    folders.append(name)
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    problems.append(f"{printable(entry.path)}: broken link; repair or delete it")
            except OSError as error:  # for example a link to itself
                problems.append(f"{printable(entry.path)}: cannot be read ({error.strerror})")
            if not name.isascii() and not is_unicode(name):
                problems.append(f"{printable(entry.path)}: the name is not valid UTF-8; rename it")
    folders.sort(key=natural_key)
    images.sort(key=lambda image: (natural_key(os.path.splitext(image)[0]), image))
    return folders, images


def is_unicode(name: str) -> bool:
    """Whether a file name is valid text, so that a CSV file or a log can contain it."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding
        return False
    return True


GUIDE = (
    "Data/README.md says how to get a dataset and where to put it.",
    "No data at hand? --dataset sample draws its own and needs none.",
)


@dataclass
class Report:
    """Collects what is wrong with one split while it is read.

    Attributes:
        where: what is being read, for the headline above several problems.
        problems: one line each.
        advice: what to do about them.
        layout: where the dataset's frames belong; "" for AFEW's layout.
    """

    where: str
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    layout: str = ""

    def add_folder(self, path: str, error: OSError, listed_in: str = "") -> None:
        """Adds a folder that cannot be listed."""
        if isinstance(error, FileNotFoundError):
            what = NO_FOLDER
        elif isinstance(error, NotADirectoryError):
            what = "a file, but a folder is expected"
        else:
            what = f"the folder cannot be read ({error.strerror})"
        self.problems.append(f"{listed_in}{printable(path)}: {what}")

    def advise_layout(self, root: str, labels: Sequence[str]) -> None:
        """Adds where frames belong, for users who have not put their data in place."""
        example = os.path.join(root, labels[0], "000149120", "001.jpg")
        usual = f"Frames belong in <root>/<Class>/<clip>/<frame>.jpg, for example {printable(example)}."
        self.advice += [self.layout or usual, *GUIDE]

    def error(self, readable: ClipSet | None = None) -> DataError:
        """The error to raise. `readable` are the clips that can be read in spite of it."""
        error = DataError(self.problems, self.where, self.advice)
        error.readable = readable
        return error


def require_root(root: str, report: Report, labels: Sequence[str]) -> None:
    """Raises if there is no root, instead of one problem per clip."""
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
        listed: the clips.
        labels: the class names, in the order of their indices.
        skip_empty: skip clips without frames instead of reporting them as a problem.
        report: the problems found so far.
        list_file: the file that the clips' line numbers refer to.

    Raises:
        DataError: there are problems.
    """
    clips: list[Clip] = []
    left_out: list[Clip] = []
    missing = other_count = 0
    for item in listed:
        folder = item.folder or folder_of(root, item.name)
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
            report.problems.append(f"{listed_in}{printable(folder)}: {NO_FRAMES}{hint}")
    if left_out and not skip_empty:
        report.advice.append(f"Frames are files ending in {' '.join(FRAME_SUFFIXES)}.")
        report.advice.append("--skip-empty skips clips without frames, and counts them.")
    if missing == len(listed) > 1:
        report.advice.append(f"None of the listed clips is in {printable(root)}: is it the right folder for this list?")
    if not clips and not report.problems:
        found = f"no clip of {len(left_out)} has frames" if left_out else "no clips"
        report.problems.append(f"{printable(root)}: {found}")
        report.advise_layout(root, labels or AFEW_LABELS)
    notes = []
    if other_count:
        who = f"{counted(other_count, 'clip')} {'has' if other_count == 1 else 'have'}"
        notes.append(f"{list_file}: {who} another number of frames than the list says")
    skipped = [clip.name for clip in left_out]
    clip_set = ClipSet(clips, tuple(labels), len(listed), skipped, root, left_out, notes)
    if report.problems:
        raise report.error(clip_set)
    return clip_set


def read_listed(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    parse: Callable[[str], tuple[list[ListedClip], list[str]]],
    labels: Sequence[str],
    skip_empty: bool,
    *,
    layout: str = "",
    frame_folders: Sequence[str] = (),
) -> ClipSet:
    """Reads a dataset's list, and looks up the frames of its clips.

    Args:
        root: of the dataset.
        list_file: the list.
        parse: path of the list -> its clips, and one line of text per problem.
        labels: the class names, in the order of their indices.
        skip_empty: skip clips that have no frames instead of raising.
        layout: see `Report`.
        frame_folders: where below the root the clips may be: the first of these that exists, else the root itself.

    Raises:
        DataError: all problems of the list and the folders.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})", layout=layout)
    listed, report.problems = parse(list_file)
    require_root(root, report, labels)
    frames = next((path for name in frame_folders if os.path.isdir(path := os.path.join(root, name))), root)
    return read_clips(frames, listed, labels, skip_empty, report, list_file)


def folder_of(root: str, name: str) -> str:
    """A clip's folder. macOS writes an accented letter as two characters, most lists write it as one."""
    folder = os.path.join(root, *name.split("/"))
    if not name.isascii() and not os.path.exists(folder):
        for form in ("NFC", "NFD"):
            other = os.path.join(root, *unicodedata.normalize(form, name).split("/"))
            if os.path.isdir(other):
                return other
    return folder
