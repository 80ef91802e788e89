"""List files: which clips belong to a split, and their classes.

A line of a list file is `Fear/000633000 Fear`: the clip's folder relative to the dataset's root, then its class. The
class is what follows the last tab, or the last word of a line without tabs, so folder names may contain spaces. Byte
order marks, CRLF, blank lines and spaces around a line are accepted.

A bad line does not end the reading: all problems of a list are collected. `Code.data.listing` finds the frames.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ..common.files import regular
from ..common.wording import LONGEST, printable, quoted
from .clips import DataError

Line = TypeVar("Line")
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at characters that a name may contain
_AROUND = " \t\v\f\ufeff"  # U+FEFF: byte order mark, also in the middle of a file if lists were concatenated
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
        with open(path, "rb", opener=regular) as file:
            raw = file.read(_MOST_BYTES + 1)
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
    """Parses a list of clips and class names, without looking for the clips.

    Args:
        labels: the class names, in the order of their indices.
        path, form, if_missing: see `parse_list`.

    Returns:
        See `parse_list`.
    """

    def parse(line: str, number: int) -> ListedClip:
        name, class_name = _parse_line(line, labels, form)
        return ListedClip(name, labels.index(class_name), number)

    return parse_list(path, parse, form, if_missing=if_missing)


def parse_list(
    path: str,
    parse: Callable[[str, int], ListedClip],
    form: str,
    *,
    header: str = "",
    if_missing: str = "correct the path",
) -> tuple[list[ListedClip], list[str]]:
    """Parses a list file whose lines name one clip each, without looking for the clips.

    Args:
        path: a text file in UTF-8, or in UTF-16 with a byte order mark.
        parse: (line, its number) -> clip; raises ValueError with what is wrong.
        form: what a line looks like, for messages.
        header: the first line, names separated by commas; "" if the list has none.
        if_missing: what to do if there is no such file, for the message.

    Returns:
        The clips of the valid lines in order, each name once, and one line of text per problem.
    """
    try:
        lines = text_lines(read_text(path, if_missing))
    except DataError as error:
        return [], error.problems
    if header:
        number, first = next(lines, (0, ""))
        if [word.strip(' "').lower() for word in first.split(",")] != header.split(","):
            found = f", line {number}: {quoted(first)} is not the header" if first else ": the list is empty"
            return [], [f"{path}{found}; the first line should be {header}"]
    clips, problems = collect(path, lines, parse)
    if not clips and not problems:
        problems.append(f"{path}: the list is empty; lines are {form}")
    return clips, problems


def clip_number(word: str) -> str:
    """The five digits that DFEW and MAFW call a clip by: `12`, `00012.mp4` and `12.0` are `00012`.

    Spreadsheets strip the zeros of the numbers, and some copies of the lists add a suffix.

    Raises:
        ValueError: the word is not the number of a clip.
    """
    match = re.fullmatch(r"([0-9]{1,9})(?:\.0|\.mp4)?", word)
    if not match:
        raise ValueError(f"{quoted(word)} is not the number of a clip")
    return match[1].zfill(5)


def collect(
    path: str, lines: Iterable[tuple[int, Line]], parse: Callable[[Line, int], ListedClip]
) -> tuple[list[ListedClip], list[str]]:
    """Parses lines that name one clip each. A bad line does not end the parsing.

    Args:
        path: of the list, for messages.
        lines: (line number, text or row of a table).
        parse: (text or row, line number) -> clip; raises ValueError with what is wrong.

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


def unknown_class(name: str, labels: Sequence[str]) -> str:
    """What to say about a class name that is not one of `labels`."""
    by_lower = {label.lower(): label for label in labels}
    close = difflib.get_close_matches(name.lower()[:LONGEST], by_lower, n=1, cutoff=0.5)
    meant = f"; did you mean {by_lower[close[0]]}?" if close else ";"
    return f"unknown class {quoted(name)}{meant} known: {', '.join(map(printable, labels))}"
