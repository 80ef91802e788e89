"""Two formats of lists that every dataset understands: tables of your own, and the lists that projects share.

A table has a header. `path` (a folder of frames below the root) and `label` (a class name) are required; `split`
(train, val or test), `fold` (from 1) and `person` are optional. Commas, semicolons or tabs separate the columns:

    path,label,split,fold,person
    session1/clip 01,happy,train,1,anna

The lists of Former-DFER, DFER-CLIP and others (DFEW, FERV39k, AFEW, MAFW) have no header. Their lines name a folder of
the machine that they were written on, its number of frames and the index of its class. `--root-map OLD=NEW` translates
the folders:

    /home/someone/DFEW/Clip/clip_224x224/00005 16 4
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence

from ..common.names import counted, name_key, natural_key, quoted
from ..data.listing import (
    Lines,
    ListedClip,
    Listing,
    is_absolute,
    read_lines,
    relative_name,
    slashed,
    two_spellings,
    unknown_class,
)

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# The meaning of the indices in shared lists, which may differ from the dataset's own order.
SHARED_LABELS = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
_SHARED_LINE = re.compile(r"(.*\S)\s+(\d{1,9})\s+(\d{1,9})")


def is_table(first_line: str) -> bool:
    """Whether the first line of a list is the header of a table."""
    return bool(_header(first_line)[1])


def read_table(listing: Listing, lines: Lines, split: str | None = None) -> None:
    """Fills in the clips of a table, and the class names in natural order if they are not given.

    `split`, "train", "val" or "test", takes its rows alone; if there are none of "val", it takes those of "test".
    """
    path = listing.list_file
    separator, columns = _header(lines[0][1]) if lines else ("", [])
    if not columns:
        listing.problems.append(f"{path}: the first line should be path,label and optionally ,split,fold,person")
        return
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in lines[1:]:
        try:
            row = _row(line, separator, columns)
            if any(row.values()):  # spreadsheets leave lines of separators
                rows.append((number, row))
        except ValueError as error:
            listing.problems.append(f"{path}, line {number}: {error}")
    if not listing.labels:
        labels = sorted({row["label"] for _, row in rows} - {""}, key=natural_key)
        if twice := two_spellings(labels):
            listing.problems += [f"{path}, column label: {line}; write it in one way" for line in twice]
            return
        listing.labels = tuple(labels)
    persons = two_spellings(row.get("person", "") for _, row in rows)
    listing.notes += [f"{path}: {line}; taken as one person" for line in persons]
    listing.parse(rows, lambda row, number: _table_clip(row, listing.labels, number))
    for column in {"split", "fold", "person"} & set(columns):
        absent = [clip.line for clip in listing.clips if not getattr(clip, column)]
        if 0 < len(absent) < len(listing.clips):
            what = f"no {column}, but other rows have one; add it to all rows"
            listing.problems.append(f"{path}, line {absent[0]}: {what}")
    if not listing.problems:
        _take_split(listing, split)


def parse_table(path: str) -> Listing:
    """The clips of a table, without looking for them, and its problems. Raises DataError if it cannot be read."""
    listing = Listing(os.path.dirname(path), list_file=path)
    read_table(listing, read_lines(path))
    return listing


def _take_split(listing: Listing, split: str | None) -> None:
    splits = [clip.split for clip in listing.clips]
    if split == "val" and "val" not in splits:
        split = "test"
    if split:
        listing.clips = [clip for clip in listing.clips if clip.split == split]
    if not listing.clips:
        which = f" has split {split}; name a list per split, or use --fold" if split else ""
        listing.problems.append(f"{listing.list_file}: no row{which}")
    if split == "val" and "test" in splits:
        rows = counted(splits.count("test"), "row")
        listing.notes.append(f"{listing.list_file}: {rows} of split test not used; --eval-split test evaluates them")


def _header(line: str) -> tuple[str, list[str]]:
    """(separator, columns) of a header; no columns if the line is not one."""
    for separator in ",;\t":
        columns = [word.strip(' "').lower() for word in line.split(separator)]
        if "path" in columns and "label" in columns:
            return separator, columns
    return "", []


def _row(line: str, separator: str, columns: list[str]) -> dict[str, str]:
    """The values of a row by column. Raises ValueError with what is wrong."""
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


def _table_clip(row: dict[str, str], labels: Sequence[str], number: int) -> ListedClip:
    """The clip of a row. Raises ValueError with what is wrong."""
    label, split, fold = row["label"], row.get("split", "").lower(), row.get("fold", "")
    if not row["path"] or not label:
        raise ValueError("no path or no label")
    if label not in labels:
        raise ValueError(unknown_class(label, labels))
    if split and split not in SPLITS:
        raise ValueError(f"split {quoted(split)} is not train, val or test")
    if fold and not re.fullmatch("[1-9][0-9]{0,3}", fold):
        raise ValueError(f"fold {quoted(fold)} is not a number from 1")
    name, person = relative_name(row["path"]), name_key(row.get("person", ""))
    if name == ".":
        raise ValueError("path is the root itself; name the folder of a clip")
    return ListedClip(name, labels.index(label), number, person, int(fold or 0), split=SPLITS.get(split, ""))


def is_shared_list(first_line: str) -> bool:
    """Whether the first line of a list has the form of a shared list."""
    return _SHARED_LINE.fullmatch(first_line.strip()) is not None


def read_shared_list(listing: Listing, lines: Lines, meaning: Sequence[str], root_map: Sequence[str] = ()) -> None:
    """Fills in the clips of a shared list, named by their path below the mapped folder or the root.

    Args:
        meaning: the class names, in the order of the list's indices; the labels, if the listing has none.
        root_map: `OLD=NEW`, a folder in the list and one on this machine; the longest one that fits a path is used.
    """
    listing.labels = listing.labels or tuple(meaning)
    pairs = [(slashed(old).rstrip("/") + "/", new) for old, _, new in (pair.partition("=") for pair in root_map)]
    pairs.append((slashed(os.path.abspath(listing.root)).rstrip("/") + "/", listing.root))
    pairs.sort(key=lambda pair: -len(pair[0]))

    def parse(line: str, number: int) -> ListedClip:
        match = _SHARED_LINE.fullmatch(line.strip())
        if not match or "\0" in line:
            raise ValueError(f"{quoted(line)} is malformed; expected <clip folder> <frames> <label index>")
        path, index = slashed(match[1]), int(match[3])
        if index >= len(meaning) or meaning[index] not in listing.labels:
            known = ", ".join(f"{i} {name}" for i, name in enumerate(meaning) if name in listing.labels)
            raise ValueError(f"label {index} is unknown; known: {known}")
        label = listing.labels.index(meaning[index])
        for old, new in pairs:
            if path.startswith(old):
                name = path.removeprefix(old)
                return ListedClip(name, label, number, folder=os.path.join(new, *name.split("/")))
        if is_absolute(path):
            raise ValueError(f"{quoted(path)} is in no known folder; say where it is with --root-map OLD=NEW")
        return ListedClip(relative_name(path), label, number)

    listing.parse(lines, parse)
