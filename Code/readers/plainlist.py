"""Plain lists: a table with a header that names any clips.

    path,label,split,fold,person
    session1/clip 01,happy,train,1,anna

`path` (a folder of frames below the root) and `label` (a class name) are required; `split` (train, val or test),
`fold` (from 1) and `person` are optional. Columns are separated by commas, semicolons or tabs, as in the header.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..common.wording import counted, natural_key, quoted
from ..data.clips import ClipSet, DataError
from ..data.listing import Report, read_clips, require_root
from ..data.lists import ListedClip, collect, read_text, relative_name, text_lines, unknown_class

REQUIRED = ("path", "label")
OPTIONAL = ("split", "fold", "person")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SEPARATORS = ",;\t"


@dataclass
class PlainList:
    """The content of a list file.

    Attributes:
        clips: in the order of the file; their labels are indices into `labels`.
        splits: "train", "val", "test" or "", for each clip.
        labels: the class names, in the order of their indices.
    """

    clips: list[ListedClip]
    splits: list[str]
    labels: tuple[str, ...]


def is_plain_list(path: str | os.PathLike[str]) -> bool:
    """Whether the first line of a file is a header of this format. False if the file cannot be read."""
    try:
        return _header(next(text_lines(read_text(os.fspath(path))), (0, ""))[1]) is not None
    except DataError:
        return False


def read_plain_list(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    split: str | None = None,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads the clips of a plain list.

    Args:
        root: what the paths are relative to.
        list_file: the list.
        labels: the class names, in the order of their indices. None: those of the list, in natural order.
        split: "train", "val" or "test" reads the rows of this split; if there are no rows of "val", it reads those
            of "test". None reads all rows.
        skip_empty: skip clips that have no frames instead of raising.

    Raises:
        DataError: all problems of the list, and of the folders of the rows that are read.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})")
    content, report.problems = parse_plain_list(list_file, labels)
    require_root(root, report, content.labels or ("Happy",))
    listed = content.clips
    if split is not None and not report.problems:
        if not any(content.splits):
            report.problems.append(f"{list_file}: no column split; name a list per split, or use --fold")
        if split == "val" and "val" not in content.splits:
            split = "test"
        listed = [clip for clip, said in zip(listed, content.splits, strict=True) if said == split]
        if not listed and not report.problems:
            report.problems.append(f"{list_file}: no row has split {split}")
    clips = read_clips(root, listed, content.labels, skip_empty, report, list_file)
    if split == "val" and "test" in content.splits:
        rows = counted(content.splits.count("test"), "row")
        clips.notes.append(f"{list_file}: {rows} of split test not used; --eval-split test evaluates them")
    return clips


def parse_plain_list(path: str, labels: Sequence[str] | None = None) -> tuple[PlainList, list[str]]:
    """Parses a list, without looking for its clips. Also returns one line of text per problem."""
    empty = PlainList([], [], tuple(labels or ()))
    try:
        text = read_text(path)
    except DataError as error:
        return empty, error.problems
    lines = text_lines(text, keep_tabs=True)
    number, first = next(lines, (0, ""))
    header = _header(first)
    if header is None:
        found = f", line {number}: {quoted(first)} is not a header" if first else ": the list is empty"
        return empty, [f"{path}{found}; the first line should be path,label and optionally ,split,fold,person"]
    separator, columns = header
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    for number, line in lines:
        try:
            row = _row(line, separator, columns)
            if any(row.values()):  # spreadsheets leave lines of separators
                rows.append((number, row))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    names = labels or sorted({row["label"] for _, row in rows} - {""}, key=natural_key)
    clips, wrong = collect(path, rows, lambda row, number: _listed(row, tuple(names), number))
    problems += wrong
    said = {number: SPLITS.get(row.get("split", "").lower(), "") for number, row in rows}
    result = PlainList(clips, [said[clip.line] for clip in clips], tuple(names))
    for column, missing in (
        ("split", [clip.line for clip, said in zip(result.clips, result.splits, strict=True) if not said]),
        ("fold", [clip.line for clip in result.clips if not clip.fold]),
        ("person", [clip.line for clip in result.clips if not clip.person]),
    ):
        if column in columns and 0 < len(missing) < len(result.clips):
            problems.append(f"{path}, line {missing[0]}: no {column}, but other rows have one; add it to all rows")
    if not rows and not problems:
        problems.append(f"{path}: the list is empty below its header")
    return result, problems


def _header(line: str) -> tuple[str, list[str]] | None:
    """(separator, columns) of a header; None if the line is not one."""
    for separator in _SEPARATORS:
        columns = [word.strip(' "').lower() for word in line.split(separator)]
        if set(REQUIRED) <= set(columns):
            return separator, columns
    return None


def _row(line: str, separator: str, columns: list[str]) -> dict[str, str]:
    try:
        values = [value.strip() for value in next(csv.reader([line], delimiter=separator, strict=True))]
    except csv.Error as error:
        raise ValueError(f"{quoted(line)} is malformed ({error})") from None
    values += [""] * (len(columns) - len(values))  # some editors drop trailing separators
    if len(values) != len(columns):
        raise ValueError(
            f"{len(values)} values for the {len(columns)} columns {', '.join(columns)}; put quotes around paths?"
        )
    return dict(zip(columns, values, strict=True))


def _listed(row: dict[str, str], labels: tuple[str, ...], number: int) -> ListedClip:
    """The clip of a row. Raises ValueError with what is wrong."""
    for column in REQUIRED:
        if not row[column]:
            raise ValueError(f"no {column}")
    if row["label"] not in labels:
        raise ValueError(unknown_class(row["label"], labels))
    if row.get("split") and row["split"].lower() not in SPLITS:
        raise ValueError(f"split {quoted(row['split'])} is not train, val or test")
    fold = row.get("fold") or "0"
    if not (fold.isascii() and fold.isdigit() and len(fold) < 5) or (row.get("fold") and int(fold) == 0):
        raise ValueError(f"fold {quoted(fold)} is not a number from 1")
    name = relative_name(row["path"])
    if name == ".":
        raise ValueError("path is the root itself; name the folder of a clip")
    return ListedClip(name, labels.index(row["label"]), number, person=row.get("person", ""), fold=int(fold))
