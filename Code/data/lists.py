"""The names in list files and folders: which clips belong to a split, and their classes.

A line of a list file is `Fear/000633000 Fear`: the clip's folder relative to the dataset's root, then its
class. The class is what follows the last tab, or, in a line without tabs, the last word; so the folder may
hold spaces. Byte order marks, CRLF, blank lines and spaces around a line are accepted.

What every reader of a dataset does: gather all problems, look up the frames of listed clips.

Readers look at names only, never at pixels, and to a fixed depth, so that a symbolic link that leads back up
cannot trap them. They gather every problem before they raise.
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
from Code.data.clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_NUMBER = re.compile(r"([0-9]+)")
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines would also split at characters legal in a name
_AROUND = " \t\v\f\ufeff"  # U+FEFF: byte order mark, also in mid-file where lists were joined
_LONGEST = 300
_MOST_BYTES = 1 << 26  # a line for each of a million clips
OR_SCAN = "correct the path, or leave it out to scan the folders"


class ListedClip(NamedTuple):
    """A clip by name.

    Attributes:
        name: its path relative to the root.
        label: its class index.
        line: where it stands in the list; 0 without a list.
        person, fold: as in `Clip`.
        folder: where its frames lie, if not in `<root>/<name>`.
        frames: how many frames the list says it has; None where it does not say.
    """

    name: str
    label: int
    line: int = 0
    person: str = ""
    fold: int = 0
    folder: str = ""
    frames: int | None = None


class ListError(ValueError):
    """A list file that cannot be read at all; the text is one line that names it."""


def read_text(path: str, if_missing: str = "correct the path") -> str:
    """A list file's text: UTF-8, or UTF-16 with a byte order mark.

    Args:
        if_missing: what to advise where there is no such file.

    Raises:
        ListError: there is no such file, or it is no such text.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)  # of a pipe as well, but not of /dev/zero for ever
    except FileNotFoundError:
        raise ListError(f"{path}: no such list file; {if_missing}") from None
    except OSError as error:
        raise ListError(f"{path}: the list cannot be read ({error.strerror})") from None
    if len(raw) > _MOST_BYTES:
        raise ListError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, no list of clips; correct the path")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        bad = 1 + raw[: error.start].count(b"\n")
        raise ListError(f"{path}, line {bad}: not UTF-8; save the list as UTF-8 text (in Excel: CSV UTF-8)") from None


def text_lines(text: str, *, keep_tabs: bool = False) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of the lines that hold something, stripped; any line ends."""
    around = _AROUND.replace("\t", "") if keep_tabs else _AROUND
    for number, line in enumerate(_LINE_END.split(text), start=1):
        line = line.strip(around)
        if line:
            yield number, line


def read_list(
    path: str, labels: Sequence[str], form: str = "<Class>/<clip> <Class>", if_missing: str = OR_SCAN
) -> tuple[list[ListedClip], list[str]]:
    """Parses a list file; whether its clips exist is not looked at.

    Args:
        path: a text file in UTF-8, or in UTF-16 with a byte order mark.
        labels: the class names, in the order of their indices.
        form: what a line looks like, for messages.
        if_missing: what to advise where there is no such file.

    Returns:
        The well-formed lines in order, and a line of text for every problem.
    """
    try:
        text = read_text(path, if_missing)
    except ListError as error:
        return [], [str(error)]
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
    """Parses the lines of a list that name one clip each, and goes on behind a bad one.

    Args:
        path: of the list, for messages.
        lines: (line number, text).
        parse: (text, line number) -> clip; raises ValueError with what is wrong.

    Returns:
        The well-formed lines in order, each name once, and a line of text for every problem.
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
    """(clip path, class) of a line that is stripped and not empty; ValueError says what is wrong with it."""
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
        raise ValueError(f"{quoted(line)} is malformed: it names no clip; expected {form}")
    classes = [folder for folder in folders if folder in labels]
    if classes and classes[-1] != class_name:
        raise ValueError(f"{quoted(name)} lies in folder {classes[-1]}, but the line says {class_name}")
    return name, class_name


def relative_name(path: str) -> str:
    """A clip's path in a list as its name: forward slashes, nothing superfluous.

    Lists written on Windows have backslashes. The check is on the text alone: a symbolic link inside the root
    may well point to another disk, but a list must not choose files outside of it.

    Raises:
        ValueError: the path is absolute, leaves the root, or is none.
    """
    if "\0" in path:
        raise ValueError(f"{quoted(path)} is malformed: it holds a NUL character")
    name = slashed(path)
    if is_absolute(name):
        raise ValueError(f"{quoted(path)} is an absolute path; write it relative to the root")
    if name == ".." or name.startswith("../"):
        raise ValueError(f"{quoted(path)} leaves the root; write a path inside it")
    return name


def slashed(path: str) -> str:
    """A path with forward slashes and without `.`, `..` and doubled slashes where they mean nothing."""
    return re.sub("^//", "/", posixpath.normpath(path.replace("\\", "/")))


def is_absolute(name: str) -> bool:
    """Whether a path with forward slashes is absolute, on any system."""
    return re.match(r"([A-Za-z]:)?/", name) is not None


def list_folder(path: str, problems: list[str]) -> tuple[list[str], list[str]]:
    """Lists one folder, hidden and system files left out.

    Args:
        path: the folder; links in it are followed, but nothing below it is looked at.
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
                    images.append(sys.intern(name))  # many clips have a 001.jpg: one string serves all
                elif entry.is_dir():
                    folders.append(name)
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    problems.append(f"{printable(entry.path)}: broken link; repair or delete it")
            except OSError as error:  # a link to itself, for one
                problems.append(f"{printable(entry.path)}: cannot be read ({error.strerror})")
            if not name.isascii() and not is_unicode(name):
                problems.append(f"{printable(entry.path)}: the name is not valid UTF-8; rename it")
    folders.sort(key=natural_key)
    images.sort(key=lambda image: (natural_key(os.path.splitext(image)[0]), image))
    return folders, images


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key by which `2.jpg` comes before `10.jpg`."""
    parts: list[str | int] = list(_NUMBER.split(name.casefold()))
    parts[1::2] = map(int, parts[1::2])  # text and numbers alternate, so like is compared with like
    return parts, name


def is_unicode(name: str) -> bool:
    """Whether a file name is text, and not bytes of another encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding: no CSV file or log could hold the name
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
    """`text` on one line of bounded length: control characters and undecodable bytes become escapes."""
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
            what = NO_FOLDER
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

    def error(self, readable: ClipSet | None = None) -> DataError:
        """What was gathered, to be raised; with the clips that can be read all the same."""
        error = DataError(self.problems, self.where, self.advice)
        error.readable = readable
        return error


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
        report.advice.append("--skip-empty leaves out clips without frames, and counts them.")
    if missing == len(listed) > 1:
        report.advice.append(f"Not one listed clip is in {printable(root)}: is it the folder for this list?")
    if not clips and not report.problems:
        found = f"all {len(left_out)} clips are without frames" if left_out else "no clips"
        report.problems.append(f"{printable(root)}: {found}")
        report.advise_layout(root, labels or AFEW_LABELS)
    notes = []
    if other_count:
        who = "1 clip holds" if other_count == 1 else f"{other_count} clips hold"
        notes.append(f"{list_file}: {who} another number of frames than it says")
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
        parse: path of the list -> its clips, and a line of text for every problem.
        labels: the class names, in the order of their indices.
        skip_empty: leave out clips that have no frames instead of raising.
        layout: see `Report`.
        frame_folders: where below the root the clips may be; the first one that exists counts, else the root.

    Raises:
        DataError: everything that is wrong with the list and the folders.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})", layout=layout)
    listed, report.problems = parse(list_file)
    require_root(root, report, labels)
    frames = next((path for name in frame_folders if os.path.isdir(path := os.path.join(root, name))), root)
    return read_clips(frames, listed, labels, skip_empty, report, list_file)


def folder_of(root: str, name: str) -> str:
    """Where a clip lies. macOS writes an accented letter as two characters, lists mostly have it as one."""
    folder = os.path.join(root, *name.split("/"))
    if not name.isascii() and not os.path.exists(folder):
        for form in ("NFC", "NFD"):
            other = os.path.join(root, *unicodedata.normalize(form, name).split("/"))
            if os.path.isdir(other):
                return other
    return folder
