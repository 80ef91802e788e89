"""The project's own list format, for any clips anywhere: a table with a header.

    path,label,split,fold,person
    session1/clip 01,happy,train,1,anna

`path` (a folder of frames below the root) and `label` (a class name) are required; `split` (train, val or
test), `fold` (from 1) and `person` are optional. The first line decides between commas, semicolons and tabs.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

from Code.data.clips import ClipSet
from Code.data.lists import (
    ListedClip,
    ListError,
    Report,
    natural_key,
    quoted,
    read_clips,
    read_text,
    relative_name,
    require_root,
    text_lines,
    unknown_class,
)

REQUIRED = ("path", "label")
OPTIONAL = ("split", "fold", "person")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SEPARATORS = ",;\t"


@dataclass
class PlainList:
    """A list file's content.

    Attributes:
        clips: in the file's order; labels are indices into `labels`.
        splits: "train", "val", "test" or "" for each clip.
        labels: the class names, in the order of their indices.
    """

    clips: list[ListedClip]
    splits: list[str]
    labels: tuple[str, ...]


def is_plain_list(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first line is a header of this format; False for a file that cannot be read."""
    try:
        return _header(next(text_lines(read_text(os.fspath(path))), (0, ""))[1]) is not None
    except ListError:
        return False


def read_plain_list(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    split: str | None = None,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads the clips of a list in the project's own format.

    Args:
        root: what the paths are relative to.
        list_file: the list.
        labels: the class names, in the order of their indices. None: those of the list, in natural order.
        split: "train", "val" or "test" takes the rows that say so; "val" takes those of "test" where no row
            says "val". None takes all.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the list (also in rows that are not taken) and with the
            folders of the rows that are.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})")
    content, report.problems = parse_plain_list(list_file, labels)
    require_root(root, report, content.labels or ("Happy",))
    listed = content.clips
    if split is not None and not report.problems:
        if not any(content.splits):
            report.problems.append(f"{list_file}: no column split; name a list for each split, or use --fold")
        if split == "val" and "val" not in content.splits:
            split = "test"
        listed = [clip for clip, said in zip(listed, content.splits, strict=True) if said == split]
        if not listed and not report.problems:
            report.problems.append(f"{list_file}: no row is of split {split}")
    clips = read_clips(root, listed, content.labels, skip_empty, report, list_file)
    if split == "val" and "test" in content.splits:
        count = content.splits.count("test")
        clips.notes.append(f"{list_file}: {count} rows of split test are not used; --eval-split test evaluates on them")
    return clips


def parse_plain_list(path: str, labels: Sequence[str] | None = None) -> tuple[PlainList, list[str]]:
    """Parses a list; whether its clips exist is not looked at. Returns also a line of text for every problem."""
    empty = PlainList([], [], tuple(labels or ()))
    try:
        text = read_text(path)
    except ListError as error:
        return empty, [str(error)]
    lines = text_lines(text, keep_tabs=True)
    number, first = next(lines, (0, ""))
    header = _header(first)
    if header is None:
        found = f"line {number}: {quoted(first)} is no header" if first else "the list is empty"
        return empty, [f"{path}, {found}; it begins with path,label and optionally ,split,fold,person"]
    separator, columns = header
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    for number, line in lines:
        try:
            row = _row(line, separator, columns)
            if any(row.values()):  # spreadsheets leave lines of separators behind
                rows.append((number, row))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    names = labels or sorted({row["label"] for _, row in rows} - {""}, key=natural_key)
    result = PlainList([], [], tuple(names))
    first_seen: dict[str, int] = {}
    for number, row in rows:
        try:
            clip = _listed(row, result.labels, number)
            if clip.name in first_seen:
                raise ValueError(f"{quoted(clip.name)} is already in line {first_seen[clip.name]}; delete one")
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            continue
        first_seen[clip.name] = number
        result.clips.append(clip)
        result.splits.append(SPLITS[row["split"].lower()] if row.get("split") else "")
    for column, missing in (
        ("split", [clip.line for clip, said in zip(result.clips, result.splits, strict=True) if not said]),
        ("fold", [clip.line for clip in result.clips if not clip.fold]),
        ("person", [clip.line for clip in result.clips if not clip.person]),
    ):
        if column in columns and 0 < len(missing) < len(result.clips):
            problems.append(f"{path}, line {missing[0]}: no {column}, but other rows have one; fill it in everywhere")
    if not rows and not problems:
        problems.append(f"{path}: the list is empty below its header")
    return result, problems


def _header(line: str) -> tuple[str, list[str]] | None:
    """(separator, columns) of a header; None if the line is none."""
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
    values += [""] * (len(columns) - len(values))  # some editors leave away the separators of empty ends
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} values for the {len(columns)} columns {', '.join(columns)}; quote paths?")
    return dict(zip(columns, values, strict=True))


def _listed(row: dict[str, str], labels: tuple[str, ...], number: int) -> ListedClip:
    """ValueError says what is wrong with a row."""
    for column in REQUIRED:
        if not row[column]:
            raise ValueError(f"no {column}")
    if row["label"] not in labels:
        raise ValueError(unknown_class(row["label"], labels))
    if row.get("split") and row["split"].lower() not in SPLITS:
        raise ValueError(f"split {quoted(row['split'])} is none of train, val, test")
    fold = row.get("fold") or "0"
    if not (fold.isascii() and fold.isdigit() and len(fold) < 5) or (row.get("fold") and int(fold) == 0):
        raise ValueError(f"fold {quoted(fold)} is not a number from 1")
    name = relative_name(row["path"])
    if name == ".":
        raise ValueError("path is the root itself; name a clip's folder in it")
    return ListedClip(name, labels.index(row["label"]), number, person=row.get("person", ""), fold=int(fold))
