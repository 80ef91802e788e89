"""Checks data: all of it with `--check`, names and headers of files before every training.

An error would stop a training. A warning would not, but may make its results wrong. A note is information.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .common.names import AFEW_LABELS, expression, grouped, name_key, one_line
from .common.progress import Progress, available_cores
from .data.clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError
from .data.images import open_image
from .data.request import Request
from .readers.base import Reader

# What is looked for, and the level of each fault. "both": of both splits together.
LISTS, MISSING, EMPTY = "problems of lists and folders", "missing clips or folders", "empty clips"
UNREADABLE, SKIPPED = "frames that cannot be read", "skipped clips without frames (--skip-empty)"
SHORT, ABSENT = "short clips, which repeat frames", "classes without train clips"
TWICE, COPIES = "clips in both splits", "val clips with copies of train frames"
PERSONS, ORDER, NOTES = "persons in both splits", "labels out of order", "notes on lists and folders"
LEVELS = dict.fromkeys((LISTS, MISSING, EMPTY, UNREADABLE), "error")
LEVELS |= dict.fromkeys((SKIPPED, SHORT, ABSENT, TWICE, COPIES, PERSONS, ORDER), "warning") | {NOTES: "note"}
STATUS = {"note": 0, "warning": 1, "error": 2}
BOTH = "both"

CHECKED_FRAMES = 200_000  # up to here every frame's header is read before a training: about 10 s
HEADER_THREADS = 8  # reading headers is mostly waiting for the disk
SHOWN = 5  # cases of a fault in the table


@dataclass
class Reading:
    """What a reader returned for one split: the clips that can be read, and its error if there are others."""

    clips: ClipSet
    error: DataError | None = None

    @classmethod
    def of(cls, read: Callable[[], ClipSet]) -> Reading:
        """Calls a reader."""
        try:
            return cls(read())
        except DataError as error:
            return cls(error.readable or ClipSet([], (), ""), error)


Splits = Mapping[str, Reading]  # "train" and "val"


class Faults(dict[str, dict[str, dict[str, None]]]):
    """The cases that were found, as lines, each once: kind of fault -> "train", "val" or "both" -> lines."""

    def add(self, kind: str, split: str, lines: Iterable[str]) -> None:
        """Adds cases of a kind."""
        self.setdefault(kind, {}).setdefault(split, {}).update(dict.fromkeys(map(one_line, lines)))

    def cases(self, kind: str) -> list[str]:
        """All lines about a kind."""
        return [line for lines in self.get(kind, {}).values() for line in lines]


# Before every training


def check_before_training(
    train: ClipSet, val: ClipSet, *, num_frames: int, known_labels: tuple[str, ...] | None, headers: bool = True
) -> list[str]:
    """The quick check: names, and, if `headers`, the headers of image files. Returns one line per kind of warning.

    For `num_frames` and `known_labels` see `check`. Raises DataError naming all files that are not images.
    """
    if headers:
        refuse_broken_images(train, val)
    faults = Faults()
    check_names(faults, {"train": Reading(train), "val": Reading(val)}, num_frames, known_labels)
    cases = {kind: faults.cases(kind) for kind in faults if LEVELS[kind] == "warning"}
    return [f"{kind}: {len(lines)}, for example {lines[0]}; see --check" for kind, lines in cases.items() if lines]


def refuse_broken_images(*sets: ClipSet) -> None:
    """Raises DataError naming all files of some sets that are no images by their headers, unless there are too many."""
    clips = [clip for clip_set in sets if clip_set.in_files for clip in clip_set.clips]
    scans = _scan(clips, HEADER_THREADS, whole=False) if sum(map(len, clips)) <= CHECKED_FRAMES else []
    if broken := [line for _, lines in scans for line in lines]:
        raise DataError(broken)


Scan = tuple[list[bytes], list[str]]  # of a clip: a digest of each frame, b"" if it is not read; a line per bad frame


def _scan(clips: Sequence[Clip], threads: int, *, whole: bool = True) -> list[Scan]:
    """Reads every frame of some clips, or its header."""

    def read(clip: Clip) -> Scan:
        digests: list[bytes] = []
        faults: list[str] = []
        for path in clip.paths:
            digest = b""
            try:
                with open_image(path, whole=whole) as image:
                    if whole:
                        image.draft(None, (16, 16))  # still reads all of a JPEG, in half the time
                        image.load()
                        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=8).digest()
            except DataError as error:
                faults += error.problems
            digests.append(digest)
        return digests, faults

    scans: list[Scan] = []
    label = "decoding frames" if whole else "reading frame headers"
    with Progress(label, sum(map(len, clips))) as bar, ThreadPoolExecutor(threads) as pool:
        for scan in pool.map(read, clips):
            scans.append(scan)
            bar(len(scan[0]))
    return scans


# Names


def check_names(faults: Faults, splits: Splits, num_frames: int, known_labels: tuple[str, ...] | None = None) -> None:
    """Adds what names alone show. For the arguments see `check`."""
    train, val = splits["train"].clips, splits["val"].clips
    for name, reading in splits.items():
        for problem in reading.error.problems if reading.error else ():
            kind = MISSING if f": {NO_FOLDER}" in problem else EMPTY if f": {NO_FRAMES}" in problem else LISTS
            faults.add(kind, name, [problem])
        faults.add(SKIPPED, name, [] if reading.error else reading.clips.skipped)
        faults.add(ORDER, BOTH, _odd_labels(reading.clips, known_labels))
        faults.add(NOTES, BOTH, reading.clips.notes)
    # Evaluation reads all frames of a clip, so short ones matter in training alone.
    short = [clip for clip in train.clips if len(clip) < num_frames]
    faults.add(SHORT, "train", [f"{clip.name} has {len(clip)} of {num_frames} frames" for clip in short])
    faults.add(ABSENT, "train", _absent_classes(train))
    faults.add(NOTES, BOTH, [f"val has no clips of class {label}" for label in _absent_classes(val)])
    names, folders = {clip.name for clip in train.clips}, {os.path.realpath(clip.folder) for clip in train.clips}
    twice = [clip for clip in val.clips if clip.name in names or os.path.realpath(clip.folder) in folders]
    faults.add(TWICE, BOTH, [clip.name for clip in twice])
    in_train, in_val = _persons(train), _persons(val)
    both = [person for person in in_val if person in in_train]
    faults.add(PERSONS, BOTH, [f"{person}: train {in_train[person]}, val {in_val[person]}" for person in both])


def _absent_classes(clips: ClipSet) -> list[str]:
    seen = {clip.label for clip in clips.clips}
    return [name for index, name in enumerate(clips.labels) if index not in seen]


def _persons(clips: ClipSet) -> dict[str, str]:
    """The last clip of each person, according to the reader, else according to the clips' names."""
    persons = ((clip.person or person_in(clip.name), clip.name) for clip in clips.clips)
    return {person: name for person, name in persons if person}


def _odd_labels(clips: ClipSet, known_labels: tuple[str, ...] | None) -> list[str]:
    """Signs that class indices mean other classes than expected."""
    lines, meanings = [], [expression(label) for label in clips.labels]
    expected, whose = known_labels or AFEW_LABELS, "the dataset" if known_labels else "AFEW"
    if clips.labels != expected and sorted(meanings) == sorted(map(expression, expected)):
        lines.append(f"the order is {' '.join(clips.labels)}; that of {whose} is {' '.join(expected)}")
    for clip in clips.clips:
        folders = {expression(folder) for folder in clip.name.split("/")[:-1]}
        if meanings[clip.label] not in folders and not folders.isdisjoint(meanings):
            lines.append(f"{clip.name} is labeled {clips.labels[clip.label]}")
    return lines


PERSON_PATTERNS = (
    # subject12, Actor_07, person-3, id00012, also with a suffix: subject12_smile
    re.compile(r"(?:^|[/_\-. ])((?:subject|subj|sub|person|actor|speaker|id)[-_ ]?\d+)(?=$|[/_\-. ])", re.IGNORECASE),
    # CK+ S005, MMI S001-100, Oulu-CASIA P001. s1 or p2 alone may be a scene or a part.
    re.compile(r"(?:^|[/_\-. ])([SP]\d{3,4})(?=$|[/_\-. ])"),
    # CREMA-D 1001_DFA_ANG_XX
    re.compile(r"(?:^|/)(\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}(?=$|[/.])"),
    # RAVDESS 02-01-06-01-02-01-12: the last number is the actor
    re.compile(r"(?:^|/)\d\d(?:-\d\d){5}-(\d\d)(?=$|[/.])"),
)


def person_in(name: str) -> str:
    """The person in a clip's name, such as `S005` or `subject12`, as `name_key` spells it; "" if there is none."""
    matches = (pattern.search(name) for pattern in PERSON_PATTERNS)
    return next((name_key(match[1]) for match in matches if match), "")


# With --check


def check_dataset(
    reader: Reader, request: Request, *, num_frames: int, as_json: bool = False, workers: int | None = None
) -> int:
    """`--check`: checks the data of a request, prints the report on stdout, and returns the exit status.

    Raises DataError if there is no clip at all to report on. With `as_json`, the report says so instead.
    """
    folds = _read_folds(reader, request)
    readings = [reading for splits in folds for reading in splits.values()]
    errors = [reading.error for reading in readings if reading.error is not None]
    if errors and not as_json and not any(reading.clips.clips for reading in readings):
        raise DataError.joined(errors)
    report = check(*folds, num_frames=num_frames, known_labels=reader.labels, workers=workers)
    print(json.dumps(report, indent=2, ensure_ascii=False) if as_json else as_table(report))
    return report["status"]


def _read_folds(reader: Reader, request: Request) -> list[Splits]:
    """The two splits, or those of every fold, with their errors."""
    if request.fold is None or reader.has_list_per_fold(request):
        folds: list[Splits] = []
        for fold in range(1, reader.count_folds(request) + 1) if request.fold == "all" else [request.fold]:
            read = partial(reader.read, replace(request, fold=fold))
            train = Reading.of(partial(read, "train"))
            folds.append({"train": train, "val": Reading.of(partial(read, "val", train.clips.labels or None))})
        return folds
    try:
        if request.fold == "all":
            whole = reader.make_folds(request)
            pairs = [(whole.train(fold), whole.val(fold)) for fold in range(1, whole.count + 1)]
        else:
            pairs = [reader.read_pair(request)[:2]]
    except DataError as error:  # no folds, but there may be clips
        nothing = ClipSet([], (), "")
        return [{"train": Reading(error.readable or nothing, error), "val": Reading(nothing)}]
    return [{"train": Reading(train), "val": Reading(val)} for train, val in pairs]


def check(
    splits: Splits,
    *other_folds: Splits,
    num_frames: int = 3,
    known_labels: tuple[str, ...] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Checks the two splits of a dataset: names, and every image.

    Args:
        splits: as a reader returned them. With several folds, the first one.
        other_folds: only their names and lists are checked.
        num_frames: K, frames per training sample.
        known_labels: the classes of the dataset in the order of their indices, if it has fixed ones.
        workers: threads that decode; None takes one per core.

    Returns:
        The report, as `--json` prints it; its status is 0 if all is clean, 1 with warnings, 2 with errors.
    """
    faults = Faults()
    for fold in (splits, *other_folds):
        check_names(faults, fold, num_frames, known_labels)
    in_files = {name: split.clips.clips for name, split in splits.items() if split.clips.in_files}
    unique = {clip.folder: clip for clips in in_files.values() for clip in clips}  # a clip in both is read once
    scans = dict(zip(unique, _scan(list(unique.values()), workers or available_cores()), strict=True))
    for name, clips in in_files.items():
        faults.add(UNREADABLE, name, [line for clip in clips for line in scans[clip.folder][1]])
    faults.add(COPIES, BOTH, _copies(in_files.get("train", []), in_files.get("val", []), scans))
    checks = []
    for kind, level in LEVELS.items():
        items, counts = faults.cases(kind), {name: len(lines) for name, lines in faults.get(kind, {}).items()}
        checks.append({"name": kind, "level": level, "counts": counts, "items": items, "found": len(items)})
    return {
        "labels": splits["train"].clips.labels or splits["val"].clips.labels or known_labels or (),
        "classes": {name: _class_rows(split.clips) for name, split in splits.items()},
        "checks": checks,
        "advice": list(dict.fromkeys(line for split in splits.values() if split.error for line in split.error.advice)),
        "frames": sum(map(len, unique.values())),
        "status": max(STATUS[level] for kind, level in LEVELS.items() if level == "note" or faults.cases(kind)),
    }


def _copies(train: Sequence[Clip], val: Sequence[Clip], scans: Mapping[str, Scan]) -> list[str]:
    """The validation clips with the bytes of a training frame, whatever its name. `scans` is by folder."""
    owners = {digest: clip.name for clip in train for digest in scans[clip.folder][0] if digest}
    lines = []
    for clip in val:
        copied = [owners[digest] for digest in scans[clip.folder][0] if digest in owners]
        if copied:
            lines.append(f"{clip.name}: {len(copied)} of {len(clip)} frames are also in train, in {copied[0]}")
    return lines


def _class_rows(clips: ClipSet) -> list[dict[str, Any]]:
    """The clips and frames of each class, and its shortest, median and longest clip in frames."""
    rows = []
    for index, label in enumerate(clips.labels):
        lengths = [len(clip) for clip in clips.clips if clip.label == index]
        ends = lengths or [0]
        length = {"shortest": min(ends), "median": float(np.median(ends)), "longest": max(ends)}
        rows.append({"label": label, "clips": len(lengths), "frames": sum(lengths), **length})
    return rows


def as_table(report: dict[str, Any]) -> str:
    """A report of `check` as text: classes, how often everything was found, the first cases, and the conclusion."""
    lines = []
    for split, rows in report["classes"].items():
        lines.append(f"{split:24}{'clips':>8}{'frames':>10}  shortest / median / longest clip in frames")
        for index, row in enumerate(rows):
            length = f"{row['shortest']} / {row['median']:g} / {row['longest']}"
            lines.append(f"{f'{index} ' + one_line(row['label']):24}{row['clips']:>8}{row['frames']:>10}  {length}")
        lines.append("")
    for kind in report["checks"]:
        lines.append(f"{kind['level']}: {kind['name']}: {kind['found']}" if kind["found"] else f"no {kind['name']}")
        lines += [f"  {line}" for line in kind["items"][:SHOWN]]
        if kind["found"] > SHOWN:
            lines.append(f"  and {kind['found'] - SHOWN} more; --json lists all")
    result = ("clean", "usable, with warnings", "not usable")[report["status"]]
    return "\n".join([*lines, "", *report["advice"], f"{result}; {grouped(report['frames'])} frames decoded"])
