"""List files and folders: which clips belong to a split, their classes, and their frames.

A line of a list file is `Fear/000633000 Fear`: the clip's folder relative to the dataset's root, then its class. The
class is what follows the last tab, or the last word of a line without tabs, so folder names may contain spaces. Byte
order marks, CRLF, blank lines and spaces around a line are accepted.

Readers look at names, never at pixels, and only to a fixed depth, so that a symbolic link to a parent folder cannot
trap them. They collect all problems before they raise.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from Code.common.conventions import AFEW_LABELS
from Code.common.wording import counted
from Code.data.clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_NUMBER = re.compile(r"([0-9]+)")
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at characters that a name may contain
_AROUND = " \t\v\f\ufeff"  # U+FEFF: byte order mark, also in the middle of a file if lists were concatenated
_LONGEST = 300  # characters of a name in a message
_MOST_BYTES = 1 << 26  # a line for each of a million clips
OR_SCAN = "correct the path, or omit it to scan the folders"


class ListedClip(NamedTuple):
    """A clip as a list or a folder names it.

    Attributes:
        name: its path relative to the root.
        label: its class index.
        line: its line in the list; 0 without a list.
        person, fold: as in `Clip`.
        folder: the folder with its frames, if it is not `<root>/<name>`.
        frames: the number of frames according to the list; None if it does not say.
    """

    name: str
    label: int
    line: int = 0
    person: str = ""
    fold: int = 0
    folder: str = ""
    frames: int | None = None


def read_text(path: str, if_missing: str = "correct the path") -> str:
    """Reads a list file: UTF-8, or UTF-16 with a byte order mark.

    Args:
        if_missing: what to do if there is no such file, for the message.

    Raises:
        DataError: the file is missing, too large, or no such text.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)  # bounded, because /dev/zero never ends
    except FileNotFoundError:
        raise DataError(f"{path}: no such list file; {if_missing}") from None
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror})") from None
    if len(raw) > _MOST_BYTES:
        raise DataError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, so not a list of clips; correct the path")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        bad = 1 + raw[: error.start].count(b"\n")
        raise DataError(f"{path}, line {bad}: not UTF-8; save the list as UTF-8 text (in Excel: CSV UTF-8)") from None


def text_lines(text: str, *, keep_tabs: bool = False) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, stripped line) of all lines that are not blank; any line ends."""
    around = _AROUND.replace("\t", "") if keep_tabs else _AROUND
    for number, line in enumerate(_LINE_END.split(text), start=1):
        line = line.strip(around)
        if line:
            yield number, line


def read_list(
    path: str, labels: Sequence[str], form: str = "<Class>/<clip> <Class>", if_missing: str = OR_SCAN
) -> tuple[list[ListedClip], list[str]]:
    """Parses a list file, without looking for the clips.

    Args:
        path: a text file in UTF-8, or in UTF-16 with a byte order mark.
        labels: the class names, in the order of their indices.
        form: what a line looks like, for messages.
        if_missing: what to do if there is no such file, for the message.

    Returns:
        The clips of the valid lines in order, and one line of text per problem.
    """
    try:
        text = read_text(path, if_missing)
    except DataError as error:
        return [], error.problems
    clips, problems = collect(path, text_lines(text), lambda line, number: _listed(line, number, labels, form))
    if not clips and not problems:
        problems.append(f"{path}: the list is empty; lines are {form}")
    return clips, problems


def _listed(line: str, number: int, labels: Sequence[str], form: str) -> ListedClip:
    name, class_name = _parse_line(line, labels, form)
    return ListedClip(name, labels.index(class_name), number)


def collect(
    path: str, lines: Iterable[tuple[int, str]], parse: Callable[[str, int], ListedClip]
) -> tuple[list[ListedClip], list[str]]:
    """Parses lines that name one clip each. A bad line does not end the parsing.

    Args:
        path: of the list, for messages.
        lines: (line number, text).
        parse: (text, line number) -> clip; raises ValueError with what is wrong.

    Returns:
        The clips of the valid lines in order, each name once, and one line of text per problem.
    """
    clips: list[ListedClip] = []
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    for number, line in lines:
        try:
            clip = parse(line, number)
            if clip.name in first_seen:
                raise ValueError(f"{quoted(clip.name)} is already in line {first_seen[clip.name]}; delete one")
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            continue
        first_seen[clip.name] = number
        clips.append(clip)
    return clips, problems


def _parse_line(line: str, labels: Sequence[str], form: str) -> tuple[str, str]:
    """(clip path, class) of a stripped line. Raises ValueError with what is wrong."""
    if "\t" in line:
        path, _, class_name = line.rpartition("\t")
        parts = [path.strip(_AROUND), class_name.strip(_AROUND)]
    else:
        parts = line.rsplit(maxsplit=1)
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"{quoted(line)} is malformed; expected {form}")
    path, class_name = parts
    if class_name not in labels:
        raise ValueError(unknown_class(class_name, labels))

    name = relative_name(path)
    *folders, clip = name.split("/")
    if name == "." or (not folders and clip in labels):
        raise ValueError(f"{quoted(line)} is malformed: it does not name a clip; expected {form}")
    classes = [folder for folder in folders if folder in labels]
    if classes and classes[-1] != class_name:
        raise ValueError(f"{quoted(name)} is in folder {classes[-1]}, but the line says {class_name}")
    return name, class_name


def relative_name(path: str) -> str:
    """Turns a clip's path in a list into its name: forward slashes, nothing superfluous.

    Lists written on Windows have backslashes. Only the text is checked: a symbolic link inside the root may point to
    another disk, but a list must not choose files outside of the root.

    Raises:
        ValueError: the path is absolute, leaves the root, or is not a path.
    """
    if "\0" in path:
        raise ValueError(f"{quoted(path)} is malformed: it contains a NUL character")
    name = slashed(path)
    if is_absolute(name):
        raise ValueError(f"{quoted(path)} is an absolute path; write it relative to the root")
    if name == ".." or name.startswith("../"):
        raise ValueError(f"{quoted(path)} leaves the root; write a path inside it")
    return name


def slashed(path: str) -> str:
    """A path with forward slashes, and without redundant `.`, `..` and double slashes."""
    return re.sub("^//", "/", posixpath.normpath(path.replace("\\", "/")))


def is_absolute(name: str) -> bool:
    """Whether a path with forward slashes is absolute, on any system."""
    return re.match(r"([A-Za-z]:)?/", name) is not None


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


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts `2.jpg` before `10.jpg`."""
    parts: list[str | int] = list(_NUMBER.split(name.casefold()))
    parts[1::2] = map(int, parts[1::2])  # text and numbers alternate, so text is compared with text
    return parts, name


def is_unicode(name: str) -> bool:
    """Whether a file name is valid text, so that a CSV file or a log can contain it."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding
        return False
    return True


def unknown_class(name: str, labels: Sequence[str]) -> str:
    """What to say about a class name that is not one of `labels`."""
    by_lower = {label.lower(): label for label in labels}
    close = difflib.get_close_matches(name.lower()[:_LONGEST], by_lower, n=1, cutoff=0.5)
    meant = f"; did you mean {by_lower[close[0]]}?" if close else ";"
    return f"unknown class {quoted(name)}{meant} known: {', '.join(map(printable, labels))}"


def quoted(text: str) -> str:
    """`text` in double quotes, printable."""
    return f'"{printable(text)}"'


def printable(text: str) -> str:
    """`text` on one line of bounded length, with control characters and undecodable bytes escaped."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


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
