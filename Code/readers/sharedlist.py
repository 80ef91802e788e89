"""Lists that other projects share (Former-DFER, DFER-CLIP and others): `<clip folder> <frames> <label index>`.

They exist for DFEW, FERV39k, AFEW and MAFW, have no header, and name folders of the machine that they were written on.
`--root-map OLD=NEW` translates these folders.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence

from ..common.wording import printable, quoted
from ..data.clips import ClipSet, DataError
from ..data.listing import Report, read_clips, require_root
from ..data.lists import ListedClip, is_absolute, parse_list, read_text, slashed, text_lines

# The meaning of the indices in all of these lists, which may differ from the dataset's own order.
SHARED_LABELS = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
_LINE = re.compile(r"(.*\S)\s+(\d{1,9})\s+(\d{1,9})")
RootMap = Sequence[tuple[str, str]]


def is_shared_list(path: str | os.PathLike[str]) -> bool:
    """Whether the first line of a file has this format. False if the file cannot be read."""
    try:
        first = next(text_lines(read_text(os.fspath(path))), (0, ""))[1]
    except DataError:
        return False
    return _LINE.fullmatch(first) is not None


def read_shared_list(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] = SHARED_LABELS,
    meaning: Sequence[str] = SHARED_LABELS,
    root_map: RootMap = (),
    skip_empty: bool = False,
) -> ClipSet:
    """Reads a shared list.

    Args:
        root: the folder that relative paths start from. Absolute paths must be inside it, or be mapped.
        list_file: the list.
        labels: the class names, in the order of their indices in the result.
        meaning: the class names, in the order of the list's indices.
        root_map: (folder in the list, folder on this machine); the longest one that fits a path is used.
        skip_empty: skip clips that have no frames instead of raising.

    Returns:
        The clips, named by their path below the mapped folder or the root. A note says if their numbers of frames
        differ from the list's.

    Raises:
        DataError: all problems of the list and the folders.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})")
    listed, foreign = _parse_all(list_file, labels, meaning, _Roots(root, root_map), report.problems)
    if foreign:
        shared = posixpath.commonpath([posixpath.dirname(path) for path in foreign]) or "/"
        report.advice.append(
            f"The list was written on another machine. Say where {printable(shared)} is on this one: "
            f"--root-map {printable(shared)}=FOLDER"
        )
    if any(not item.folder for item in listed):
        require_root(root, report, labels)
    return read_clips(root, listed, labels, skip_empty, report, list_file)


class _Roots:
    """Translates the folders that a list names to folders of this machine."""

    def __init__(self, root: str, root_map: RootMap) -> None:
        here = slashed(os.path.abspath(root))
        pairs = [(slashed(old), new) for old, new in root_map]
        self.pairs = sorted([*pairs, (here, root)], key=lambda pair: -len(pair[0]))

    def locate(self, path: str) -> tuple[str, str] | None:
        """(clip name, its folder, or "" for `<root>/<name>`) of a listed path; None if no folder fits it."""
        path = slashed(path)
        for old, new in self.pairs:
            prefix = old if old.endswith("/") else old + "/"
            if path.startswith(prefix):
                name = path[len(prefix) :]
                return name, os.path.join(new, *name.split("/"))
        if is_absolute(path) or path in (".", "..") or path.startswith("../"):
            return None
        return path, ""


def _parse_all(
    path: str, labels: Sequence[str], meaning: Sequence[str], roots: _Roots, problems: list[str]
) -> tuple[list[ListedClip], list[str]]:
    """The clips of the valid lines, and the absolute paths that no known folder contains."""
    foreign: list[str] = []

    def parse(line: str, number: int) -> ListedClip:
        match = _LINE.fullmatch(line)
        if not match or "\0" in line:
            raise ValueError(f"{quoted(line)} is malformed; expected <clip folder> <frames> <label index>")
        index = int(match[3])
        if index >= len(meaning):
            known = ", ".join(f"{i} {name}" for i, name in enumerate(meaning))
            raise ValueError(f"label {index} is unknown; known: {known}")
        if meaning[index] not in labels:
            raise ValueError(f"label {index} is {meaning[index]}, which is not a class of this dataset")
        place = roots.locate(match[1])
        if place is None:
            if is_absolute(slashed(match[1])):
                foreign.append(slashed(match[1]))
            raise ValueError(f"{quoted(match[1])} is in no known folder; translate it with --root-map OLD=NEW")
        name, folder = place
        return ListedClip(name, labels.index(meaning[index]), number, folder=folder, frames=int(match[2]))

    listed, wrong = parse_list(path, parse, "<clip folder> <frames> <label index>")
    problems += wrong
    return listed, foreign
