"""The clips that a list or folders name, and their frames.

Only names are looked at, never pixels. All problems are collected, so a bad line does not end the reading.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ..common.files import regular
from ..common.names import name_key, natural_key, printable, quoted
from .clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
# Folders that systems make: archives of macOS, file systems, network storage (thumbnails and trash), Windows.
_SYSTEM_FOLDERS = {"__macosx", "lost+found", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin"}
_SYSTEM_FOLDERS |= {"recycler", "system volume information", "thumbs.db"}
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at characters that a name may contain
_AROUND = " \v\f\ufeff"  # U+FEFF: byte order mark, also in the middle of a file if lists were concatenated

Line = TypeVar("Line")
Lines = list[tuple[int, str]]  # number from 1, text


class ListedClip(NamedTuple):
    """A clip as a list or a folder names it; for its name, label, person and fold see `Clip`."""

    name: str
    label: int
    line: int = 0  # in the list; 0 without a list
    person: str = ""
    fold: int = 0
    folder: str = ""  # with its frames, if it is not <root>/<name>
    split: str = ""  # "train", "val" or "test"; "" if the list does not say


@dataclass
class Listing:
    """The clips of one split, as a list or folders name them, and all that is wrong with them.

    A reader fills it in; `find_frames` turns it into a `ClipSet`.

    Attributes:
        labels: in the order of their indices; empty until the data have named them.
        list_file: the list that lines refer to; "" without one.
        layout: where the dataset's frames belong, for advice; "" for AFEW's layout.
        problems, advice: see `DataError`.
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

    def parse(self, lines: Iterable[tuple[int, Line]], parse: Callable[[Line, int], ListedClip | None]) -> None:
        """Adds the clip of each line, or a problem if the line is wrong or names a clip again.

        Args:
            lines: (number, text or row of a table).
            parse: (text or row, number) -> clip; None if the line names none. Raises ValueError with what is wrong.
        """
        first: dict[str, int] = {}  # line of each clip
        for number, line in lines:
            try:
                clip = parse(line, number)
                if clip is None:
                    continue
                if first.setdefault(clip.name, number) != number:
                    raise ValueError(f"{quoted(clip.name)} is already in line {first[clip.name]}; delete one")
                self.clips.append(clip)
            except ValueError as error:
                self.problems.append(f"{self.list_file}, line {number}: {error}")

    def contents(self, path: str, listed_in: str = "") -> tuple[list[str], list[str]]:
        """`list_folder`. A folder that cannot be read becomes a problem, `listed_in` a line of the list."""
        try:
            return list_folder(path, self.problems)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            what = NO_FOLDER if is_missing else f"the folder cannot be read ({error.strerror})"
            self.problems.append(f"{listed_in}{printable(path)}: {what}")
            return [], []

    def require_root(self) -> None:
        """Raises if there is no root, instead of one problem per clip."""
        if not os.path.isdir(self.root):
            self.contents(self.root)
            self.advise_layout()
            raise self.error()

    def find_frames(self, *, skip_empty: bool = False) -> ClipSet:
        """Looks up the frames of each clip. Raises if there are problems: clips without, too, unless `skip_empty`."""
        clips: list[Clip] = []
        if not self.clips or not all(item.folder for item in self.clips):
            self.require_root()
        for item in self.clips:
            folder = item.folder or folder_of(self.root, item.name)
            listed_in = f"{self.list_file}, line {item.line}: " if item.line else ""
            problems_before = len(self.problems)
            deeper, images = self.contents(folder, listed_in)
            if len(self.problems) > problems_before:
                continue
            clips.append(Clip(item.name, folder, tuple(images), item.label, item.person, item.fold))
            if not images and not skip_empty:
                hint = ", only folders: is the root one level too high?" if deeper else ""
                self.problems.append(f"{listed_in}{printable(folder)}: {NO_FRAMES}{hint}")
        clip_set = ClipSet(clips, self.labels, self.root, self.notes)
        if clip_set.skipped and not skip_empty:
            self.advice.append(f"Frames are files ending in {' '.join(FRAME_SUFFIXES)}.")
            self.advice.append("--skip-empty skips clips without frames, and counts them.")
        missing = [problem for problem in self.problems if problem.endswith(NO_FOLDER)]
        if len(missing) > 1 and len(missing) == len(self.clips):
            self.advice.append(f"None of the listed clips is in {printable(self.root)}: is it the right folder?")
        if not clip_set.clips and not self.problems:
            what = f"no clip of {len(clips)} has frames" if clips else "no clips"
            self.problems.append(f"{printable(self.root)}: {what}")
            self.advise_layout()
        if self.problems:
            raise self.error(clip_set)
        return clip_set

    def advise_layout(self) -> None:
        """Adds where frames belong, for users who have not put their data in place."""
        self.advice += [
            self.layout or "Frames belong in <root>/<Class>/<clip>/<frame>.jpg, for example <root>/Happy/0001/001.jpg.",
            "Data/README.md says how to get a dataset and where to put it.",
            "No data at hand? --dataset sample draws its own and needs none.",
        ]

    def error(self, readable: ClipSet | None = None) -> DataError:
        """The error to raise. `readable` are the clips that can be read in spite of it."""
        error = DataError(self.problems, self.advice)
        error.readable = readable
        return error


# Lists


def read_lines(path: str) -> Lines:
    """The lines of a list that are not blank, without spaces around them; tabs stay, as empty columns of a table.

    Byte order marks, UTF-16 and any line ends are accepted. Raises DataError if the file cannot be read.
    """
    try:
        with open(path, "rb", opener=regular) as file:
            raw = file.read()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such list file; correct the path") from None
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        bad = 1 + raw[: error.start].count(b"\n")
        raise DataError(f"{path}, line {bad}: not UTF-8; save the list as UTF-8 text (in Excel: CSV UTF-8)") from None
    lines = ((number, line.strip(_AROUND)) for number, line in enumerate(_LINE_END.split(text), start=1))
    return [(number, line) for number, line in lines if line.strip("\t")]


def class_line(line: str, number: int, labels: Sequence[str], form: str = "<Class>/<clip> <Class>") -> ListedClip:
    """The clip of a line of AFEW's lists: `Fear/000633000 Fear`, or as `form` says.

    The class is what follows the last tab, or the last word of a line without tabs, so names may contain spaces. A
    class folder in the path must agree with it. Raises ValueError with what is wrong.
    """
    path, _, class_name = line.rpartition("\t" if "\t" in line else " ")
    name, class_name = relative_name(path.strip(_AROUND + "\t")), class_name.strip(_AROUND)
    if name == "." or name in labels:
        raise ValueError(f"{quoted(line)} is malformed: it does not name a clip; expected {form}")
    if class_name not in labels:
        raise ValueError(unknown_class(class_name, labels))
    classes = [folder for folder in name.split("/")[:-1] if folder in labels]
    if classes and classes[-1] != class_name:
        raise ValueError(f"{quoted(name)} is in folder {classes[-1]}, but the line says {class_name}")
    return ListedClip(name, labels.index(class_name), number)


def relative_name(path: str) -> str:
    """Turns a clip's path in a list into its name. Raises ValueError if it is not one of a folder inside the root.

    Only the text is checked: a symbolic link inside the root may point to another disk.
    """
    name = slashed(path)
    if "\0" in name or is_absolute(name) or name.split("/")[0] == "..":
        raise ValueError(f"{quoted(path)} is absolute or leaves the root; write a path inside the root")
    return name


def slashed(path: str) -> str:
    """A path with forward slashes, and without redundant `.`, `..` and double slashes. Lists may be from Windows."""
    return re.sub("^//", "/", posixpath.normpath(path.replace("\\", "/")))


def is_absolute(name: str) -> bool:
    """Whether a path with forward slashes is absolute, on any system."""
    return re.match(r"([A-Za-z]:)?/", name) is not None


def unknown_class(name: str, labels: Sequence[str]) -> str:
    """What to say about a class name that is not one of `labels`; those in another spelling may look the same."""
    alike = [label for label in labels if name_key(label) == name_key(name)]
    hint = f"; did you mean {alike[0]!a}, not {name!a}?" if alike else ""
    return f"unknown class {quoted(name)}{hint}; known: {', '.join(map(printable, labels))}"


def two_spellings(names: Iterable[str]) -> list[str]:
    """What to say about names that differ in their spelling only, see `name_key`: a line for each such name."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(name_key(name), []).append(name)
    several = [alike for alike in spellings.values() if len(alike) > 1]
    return [f"{' and '.join(map(quoted, alike))} are one name ({', '.join(map(ascii, alike))})" for alike in several]


# Folders


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system: nobody means it where a folder is searched."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def walk(root: str, notes: list[str], above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """A folder and all folders below it, each with the names of its files, in natural order, without system ones.

    Args:
        notes: receives a line about each folder that cannot be read, or leads back.
        above: the folders that `root` is in, links resolved.
    """
    real = os.path.realpath(root)
    if real in above:
        notes.append(f"{printable(root)}: skipped, a link to a folder that it is in")
        return
    try:
        names = sorted(filter(lambda name: not is_system(name), os.listdir(root)), key=natural_key)
    except OSError as error:
        notes.append(f"{printable(root)}: skipped, cannot be read ({error.strerror})")
        return
    folders = {name: os.path.join(root, name) for name in names if os.path.isdir(os.path.join(root, name))}
    yield root, [name for name in names if name not in folders]
    for folder in folders.values():
        yield from walk(folder, notes, (*above, real))


def list_folder(path: str, problems: list[str]) -> tuple[list[str], list[str]]:
    """The folders and the image files in one folder, each in natural order, without system ones; links are followed.

    `problems` receives a line for every entry that cannot be used. Raises OSError if the folder cannot be listed.
    """
    folders: list[str] = []
    images: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if is_system(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                problems.append(f"{printable(entry.path)}: broken link; repair or delete it")
            elif entry.name.lower().endswith(FRAME_SUFFIXES) and entry.is_file():
                images.append(sys.intern(entry.name))  # many clips have a 001.jpg: store the string once
            elif entry.is_dir():
                folders.append(entry.name)
            if fault := name_fault(entry.name):
                problems.append(f"{printable(entry.path)}: {fault}")
    folders.sort(key=natural_key)
    images.sort(key=lambda image: (natural_key(os.path.splitext(image)[0]), image))
    return folders, images


def name_fault(name: str) -> str:
    """Why a CSV file or a log cannot contain a file name, and what to do; empty if they can."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python keeps bytes that it cannot decode as surrogates
        return f"the name is not valid {sys.getfilesystemencoding().upper()}; rename it, or set PYTHONUTF8=1"
    return ""


def folder_of(root: str, name: str) -> str:
    """A clip's folder. macOS writes an accented letter as two characters, most lists write it as one."""
    spellings = [name] if name.isascii() else [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    folders = [os.path.join(root, *spelling.split("/")) for spelling in spellings]
    return next(filter(os.path.isdir, folders), folders[0])
