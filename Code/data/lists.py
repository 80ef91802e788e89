"""List files: one clip in each line. `Code.data.listing` looks for the frames.

Byte order marks, UTF-16, any line ends, blank lines and spaces around a line are accepted. A bad line does not end the
reading: all problems of a list are collected.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from ..common.files import regular
from ..common.names import LONGEST, name_key, printable, quoted
from .clips import DataError

Line = TypeVar("Line")
Lines = list[tuple[int, str]]  # number from 1, text
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at characters that a name may contain
_AROUND = " \v\f\ufeff"  # U+FEFF: byte order mark, also in the middle of a file if lists were concatenated
_MOST_BYTES = 1 << 26  # a line for each of a million clips


class ListedClip(NamedTuple):
    """A clip as a list or a folder names it.

    Attributes:
        name: its path relative to the root.
        label: its class index.
        line: its line in the list; 0 without a list.
        person, fold: as in `Clip`.
        folder: the folder with its frames, if it is not `<root>/<name>`.
        frames: the number of frames according to the list; None if it does not say.
        split: "train", "val" or "test"; "" if the list does not say.
    """

    name: str
    label: int
    line: int = 0
    person: str = ""
    fold: int = 0
    folder: str = ""
    frames: int | None = None
    split: str = ""


def read_lines(path: str) -> Lines:
    """The lines of a list that are not blank, without spaces around them; tabs stay, as empty columns of a table.

    Raises:
        DataError: the file is missing, too large, or neither UTF-8 nor UTF-16 with a byte order mark.
    """
    try:
        with open(path, "rb", opener=regular) as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such list file; correct the path") from None
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror})") from None
    if len(raw) > _MOST_BYTES:
        raise DataError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, so not a list of clips; correct the path")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        bad = 1 + raw[: error.start].count(b"\n")
        raise DataError(f"{path}, line {bad}: not UTF-8; save the list as UTF-8 text (in Excel: CSV UTF-8)") from None
    lines = ((number, line.strip(_AROUND)) for number, line in enumerate(_LINE_END.split(text), start=1))
    return [(number, line) for number, line in lines if line.strip("\t")]


def parse_lines(
    path: str, lines: Iterable[tuple[int, Line]], parse: Callable[[Line, int], ListedClip | None]
) -> tuple[list[ListedClip], list[str]]:
    """Parses lines that name one clip each.

    Args:
        path: of the list, for messages.
        lines: (line number, text or row of a table).
        parse: (text or row, line number) -> clip; None if the line names none. Raises ValueError with what is wrong.

    Returns:
        The clips of the valid lines in order, each name once, and one line of text per problem.
    """
    clips: dict[str, ListedClip] = {}
    problems: list[str] = []
    for number, line in lines:
        try:
            clip = parse(line, number)
            if clip is None:
                continue
            if clip.name in clips:
                raise ValueError(f"{quoted(clip.name)} is already in line {clips[clip.name].line}; delete one")
            clips[clip.name] = clip
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    return list(clips.values()), problems


def name_and_class(line: str, labels: Sequence[str], form: str) -> tuple[str, str]:
    """(clip, class) of a line such as `Fear/000633000 Fear`, which looks like `form`.

    The class is what follows the last tab, or the last word of a line without tabs, so names may contain spaces.

    Raises:
        ValueError: saying what is wrong.
    """
    path, _, class_name = line.rpartition("\t" if "\t" in line else " ")
    path, class_name = path.strip(_AROUND + "\t"), class_name.strip(_AROUND)
    if not path or not class_name:
        raise ValueError(f"{quoted(line)} is malformed; expected {form}")
    if class_name not in labels:
        raise ValueError(unknown_class(class_name, labels))
    name = relative_name(path)
    if name == "." or name in labels:
        raise ValueError(f"{quoted(line)} is malformed: it does not name a clip; expected {form}")
    return name, class_name


def class_line(line: str, number: int, labels: Sequence[str], form: str = "<Class>/<clip> <Class>") -> ListedClip:
    """The clip of a line of AFEW's lists. A class folder in its path must agree with the class.

    Raises:
        ValueError: saying what is wrong.
    """
    name, class_name = name_and_class(line, labels, form)
    classes = [folder for folder in name.split("/")[:-1] if folder in labels]
    if classes and classes[-1] != class_name:
        raise ValueError(f"{quoted(name)} is in folder {classes[-1]}, but the line says {class_name}")
    return ListedClip(name, labels.index(class_name), number)


def relative_name(path: str) -> str:
    """Turns a clip's path in a list into its name: forward slashes, nothing superfluous.

    Only the text is checked: a symbolic link inside the root may point to another disk, but a list must not choose
    files outside of the root.

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
    """A path with forward slashes, and without redundant `.`, `..` and double slashes. Lists may be from Windows."""
    return re.sub("^//", "/", posixpath.normpath(path.replace("\\", "/")))


def is_absolute(name: str) -> bool:
    """Whether a path with forward slashes is absolute, on any system."""
    return re.match(r"([A-Za-z]:)?/", name) is not None


def unknown_class(name: str, labels: Sequence[str]) -> str:
    """What to say about a class name that is not one of `labels`."""
    by_key = {name_key(label): label for label in labels}
    key = name_key(name)[:LONGEST]
    close = difflib.get_close_matches(key, by_key, n=1, cutoff=0.5)
    meant = f"; did you mean {by_key[close[0]]}?" if close else ";"
    if key in by_key and not (name + by_key[key]).isascii():  # the two may look the same
        meant += f" It is {by_key[key]!a}, not {name!a};"
    return f"unknown class {quoted(name)}{meant} known: {', '.join(map(printable, labels))}"


def two_spellings(names: Iterable[str]) -> list[str]:
    """What to say about names that differ in their spelling only, see `name_key`: a line for each such name."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(name_key(name), []).append(name)
    return [
        f"{' and '.join(map(quoted, several))} are one name in {len(several)} spellings "
        f"({', '.join(map(ascii, several))})"
        for several in spellings.values()
        if len(several) > 1
    ]
