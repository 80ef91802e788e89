"""The clips that folders or a list name, and their frames.

Only names are looked at, never pixels, and only to a fixed depth, so that a symbolic link to a parent folder cannot
trap a reader.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..common.names import AFEW_LABELS, counted, natural_key, printable
from .clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError
from .lists import ListedClip

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
# Folders that systems make: archives of macOS, file systems, network storage (thumbnails and trash), Windows.
_SYSTEM_FOLDERS = {"__macosx", "lost+found", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin"}
_SYSTEM_FOLDERS |= {"recycler", "system volume information", "thumbs.db"}
GUIDE = (
    "Data/README.md says how to get a dataset and where to put it.",
    "No data at hand? --dataset sample draws its own and needs none.",
)


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system: nobody means it where a folder is searched."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def walk(root: str, notes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A folder and all folders below it, each with the names of its files, in natural order.

    Hidden and system folders are left out. Linked folders are followed, unless they lead back to a folder that they are
    in.

    Args:
        root: the folder.
        notes: receives a line about what is left out, once everything was read.
    """
    left_out: Counter[str] = Counter()

    def visit(folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
        real = os.path.realpath(folder)
        if real in above:
            notes.append(f"{printable(folder)}: skipped, a link to a folder that it is in")
            return
        try:
            names = sorted(os.listdir(folder), key=natural_key)
        except OSError as error:
            notes.append(f"{printable(folder)}: skipped, cannot be read ({error.strerror})")
            return
        folders = {name: None for name in names if os.path.isdir(os.path.join(folder, name))}
        left_out.update(filter(is_system, folders))
        yield folder, [name for name in names if name not in folders and not is_system(name)]
        for name in folders:
            if not is_system(name):
                yield from visit(os.path.join(folder, name), (*above, real))

    yield from visit(root, ())
    if left_out:
        some = ", ".join(f"{count} {printable(name)}" for name, count in left_out.most_common(5))
        notes.append(f"{printable(root)}: skipped hidden folders and those of systems: {some}")


def list_folder(path: str, problems: list[str]) -> tuple[list[str], list[str]]:
    """The folders and the image files in one folder, each in natural order, without hidden and system ones.

    Args:
        path: the folder. Links in it are followed; its subfolders are not searched.
        problems: receives a line for every entry that cannot be used.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    folders: list[str] = []
    images: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if is_system(entry.name):
                continue
            try:
                if entry.name.lower().endswith(FRAME_SUFFIXES) and entry.is_file():
                    images.append(sys.intern(entry.name))  # many clips have a 001.jpg: store the string once
                elif entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    problems.append(f"{printable(entry.path)}: broken link; repair or delete it")
            except OSError as error:  # for example a link to itself
                problems.append(f"{printable(entry.path)}: cannot be read ({error.strerror})")
            if not entry.name.isascii() and (fault := name_fault(entry.name)):
                problems.append(f"{printable(entry.path)}: {fault}")
    folders.sort(key=natural_key)
    images.sort(key=lambda image: (natural_key(os.path.splitext(image)[0]), image))
    return folders, images


def name_fault(name: str) -> str:
    """Why a CSV file or a log cannot contain a file name, and what to do; empty if they can."""
    if not any("\udc80" <= character <= "\udcff" for character in name):  # how Python keeps bytes that it cannot decode
        return ""
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return "the name is not valid UTF-8; rename it"
    return f"the name is UTF-8, but Python reads names as {sys.getfilesystemencoding()}; set PYTHONUTF8=1"


@dataclass
class Listing:
    """The clips of one split, as a list or folders name them, and all that is wrong with them.

    A reader fills it in; `find_frames` turns it into a `ClipSet`.

    Attributes:
        root: what the clips' names are relative to.
        labels: the class names, in the order of their indices; empty until the data have named them.
        list_file: the list that lines refer to; "" without one.
        layout: where the dataset's frames belong, for advice; "" for AFEW's layout.
        clips: the clips, without their frames.
        problems: one line each. Each names a file (and line) or folder, and what is wrong with it.
        advice: what to do about them.
        notes: lines to print about what was read.
    """

    root: str
    labels: tuple[str, ...] = ()
    list_file: str = ""
    layout: str = ""
    clips: list[ListedClip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def require_root(self) -> None:
        """Raises if there is no root, instead of one problem per clip."""
        try:
            os.scandir(self.root).close()
        except OSError as error:
            self.add_unreadable(self.root, error)
            if isinstance(error, FileNotFoundError):
                self.advise_layout()
            raise self.error() from None

    def contents(self, path: str) -> tuple[list[str], list[str]]:
        """`list_folder`. A folder that cannot be read becomes a problem."""
        try:
            return list_folder(path, self.problems)
        except OSError as error:
            self.add_unreadable(path, error)
            return [], []

    def find_frames(self, *, skip_empty: bool = False) -> ClipSet:
        """Looks up the frames of each clip.

        Args:
            skip_empty: skip clips without frames instead of reporting them as a problem.

        Raises:
            DataError: there are problems.
        """
        clips: list[Clip] = []
        left_out: list[Clip] = []
        missing = miscounted = 0
        if not all(item.folder for item in self.clips) or not self.clips:
            self.require_root()
        for item in self.clips:
            folder = item.folder or folder_of(self.root, item.name)
            listed_in = f"{self.list_file}, line {item.line}: " if item.line and self.list_file else ""
            try:
                deeper, images = list_folder(folder, self.problems)
            except OSError as error:
                missing += isinstance(error, FileNotFoundError)
                self.add_unreadable(folder, error, listed_in)
                continue
            clip = Clip(item.name, folder, tuple(images), item.label, item.person, item.fold)
            (clips if images else left_out).append(clip)
            miscounted += bool(images) and item.frames not in (None, len(images))
            if not images and not skip_empty:
                hint = ", only folders: is the root one level too high?" if deeper else ""
                self.problems.append(f"{listed_in}{printable(folder)}: {NO_FRAMES}{hint}")
        if left_out and not skip_empty:
            self.advice.append(f"Frames are files ending in {' '.join(FRAME_SUFFIXES)}.")
            self.advice.append("--skip-empty skips clips without frames, and counts them.")
        if missing == len(self.clips) > 1:
            where = printable(self.root)
            self.advice.append(f"None of the listed clips is in {where}: is it the right folder for this list?")
        if not clips and not self.problems:
            found = f"no clip of {len(left_out)} has frames" if left_out else "no clips"
            self.problems.append(f"{printable(self.root)}: {found}")
            self.advise_layout()
        if miscounted:
            who = f"{counted(miscounted, 'clip')} {'has' if miscounted == 1 else 'have'}"
            self.notes.append(f"{self.list_file}: {who} another number of frames than the list says")
        clip_set = ClipSet(clips, self.labels, self.root, left_out, self.notes)
        if self.problems:
            raise self.error(clip_set)
        return clip_set

    def add_unreadable(self, path: str, error: OSError, listed_in: str = "") -> None:
        """Adds a folder that cannot be listed to the problems."""
        what = f"the folder cannot be read ({error.strerror})"
        if isinstance(error, FileNotFoundError):
            what = NO_FOLDER
        elif isinstance(error, NotADirectoryError):
            what = "a file, but a folder is expected"
        self.problems.append(f"{listed_in}{printable(path)}: {what}")

    def advise_layout(self) -> None:
        """Adds where frames belong, for users who have not put their data in place."""
        example = f"{(self.labels or AFEW_LABELS)[0]}/000149120/001.jpg"  # without the root: said once for two splits
        usual = f"Frames belong in <root>/<Class>/<clip>/<frame>.jpg, for example <root>/{example}."
        self.advice += [self.layout or usual, *GUIDE]

    def error(self, readable: ClipSet | None = None) -> DataError:
        """The error to raise. `readable` are the clips that can be read in spite of it."""
        where = f"{self.root} (listed in {self.list_file})" if self.list_file else self.root
        error = DataError(self.problems, where, self.advice)
        error.readable = readable
        return error


def folder_of(root: str, name: str) -> str:
    """A clip's folder. macOS writes an accented letter as two characters, most lists write it as one."""
    folder = os.path.join(root, *name.split("/"))
    if not name.isascii() and not os.path.exists(folder):
        for form in ("NFC", "NFD"):
            other = os.path.join(root, *unicodedata.normalize(form, name).split("/"))
            if os.path.isdir(other):
                return other
    return folder
