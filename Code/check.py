"""Checks data before a training depends on them: a whole check with `--check`, a quick one before every training.

An error would stop a training sooner or later. A warning would not, but may make its results wrong. A note is
information.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .common.machine import available_cores
from .common.names import AFEW_LABELS, expression
from .common.progress import Progress
from .common.wording import counted, grouped, printable
from .data.clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError
from .data.images import ImageError, check_image
from .data.request import Request
from .readers.base import Reader

STATUS = {"note": 0, "warning": 1, "error": 2}
BOTH = "both"  # for findings about both splits together
CHECKED_FRAMES = 200_000  # up to here every frame's header is read before a training: about 10 s
HEADER_THREADS = 8  # reading headers is mostly waiting for the disk
_SHOWN = 5


@dataclass
class Reading:
    """What a reader returned for one split: the clips that can be read, None if there are none, and its error."""

    clips: ClipSet | None
    error: DataError | None = None

    @classmethod
    def of(cls, read: Callable[[], ClipSet]) -> Reading:
        """Calls a reader. If it raises, keeps the error and the clips that can be read."""
        try:
            return cls(read())
        except DataError as error:
            return cls(error.readable, error)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips.clips if self.clips else ())

    def __len__(self) -> int:
        return len(self.clips.clips) if self.clips else 0


Splits = Mapping[str, Reading]  # "train" and "val"


@dataclass
class Finding:
    """One kind of fault.

    Attributes:
        name: what is looked for, in the plural: "frames that cannot be read".
        level: "error", "warning" or "note".
        counts: split or "both" -> how often it was found.
        items: one line per case, or per group of cases.
    """

    name: str
    level: str
    counts: dict[str, int]
    items: list[str]

    @classmethod
    def of(cls, name: str, level: str, items: Mapping[str, list[str]]) -> Finding:
        """A kind of fault with a line per case; `items` has a list per split."""
        counts = {split: len(lines) for split, lines in items.items()}
        return cls(name, level, counts, [line for lines in items.values() for line in lines])

    @property
    def found(self) -> int:
        """How often it was found in all splits."""
        return sum(self.counts.values())

    def line(self, shown: int = 3) -> str:
        """All in one line: `clips shorter than 3 frames: 2 in train (Fear/1, Sad/7)`."""
        counts = " and ".join(
            f"{count}" if split == BOTH else f"{count} in {split}" for split, count in self.counts.items() if count
        )
        more = ", ..." if len(self.items) > shown else ""
        return f"{self.name}: {counts}" + (f" ({', '.join(self.items[:shown])}{more})" if self.items else "")


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        labels: class names in the order of their indices.
        classes: split -> a row per class: its clips, its frames, and the shortest, median and longest clip in frames.
        checks: everything that was looked for, found or not.
        advice: what to do about errors of lists and folders.
        decoded: every image was decoded; if not, only headers were read.
        frames: number of image files read.
        seconds: how long it took.
    """

    labels: tuple[str, ...]
    classes: dict[str, list[dict[str, float]]]
    checks: list[Finding]
    advice: list[str]
    decoded: bool
    frames: int
    seconds: float

    @property
    def status(self) -> int:
        """0 clean, 1 with warnings, 2 with errors."""
        return max((STATUS[check.level] for check in self.checks if check.found), default=0)

    def found(self, level: str) -> list[Finding]:
        """What was found of a level."""
        return [check for check in self.checks if check.found and check.level == level]

    def as_json(self) -> dict[str, Any]:
        """The whole report as plain values, with all items."""
        rows = {
            split: [{"label": label, **row} for label, row in zip(self.labels, rows, strict=True)]
            for split, rows in self.classes.items()
        }
        checks = [{**vars(check), "found": check.found} for check in self.checks]
        return {**vars(self), "status": self.status, "classes": rows, "checks": checks}

    def as_table(self) -> str:
        """The report as text: classes, everything that was looked for, what was found, and the conclusion."""
        splits = list(self.classes)
        rows = [["class", *(f"{split} {column}" for split in splits for column in ("clips", "frames", "length"))]]
        for index, label in enumerate(self.labels):
            cells = []
            for split in splits:
                row = self.classes[split][index]
                length = f"{row['shortest']} / {row['median']:g} / {row['longest']}" if row["clips"] else "-"
                cells += [grouped(int(row["clips"])), grouped(int(row["frames"])), length]
            rows.append([f"{index} {printable(label)}", *cells])
        total = [
            cell
            for split in splits
            for cell in (*(grouped(sum(int(row[of]) for row in self.classes[split])) for of in ("clips", "frames")), "")
        ]
        columns = [*splits, BOTH]
        found = [["check", *columns, ""]]
        for check in self.checks:
            cells = [grouped(check.counts[column]) if column in check.counts else "" for column in columns]
            found.append([check.name, *cells, check.level if check.found else ""])
        lines = [*_aligned([*rows, ["all", *total]]), "(length: frames of the shortest / median / longest clip)", ""]
        lines += _aligned(found)
        for level in ("error", "warning", "note"):
            for check in self.found(level):
                lines += ["", f"{level}: {check.name}: {grouped(check.found)}"]
                lines += [f"  {item}" for item in check.items[:_SHOWN]]
                if len(check.items) > _SHOWN:
                    lines.append(f"  and {len(check.items) - _SHOWN} more; --json lists all")
        return "\n".join([*lines, *([""] if self.advice else []), *self.advice, "", self._conclusion()])

    def _conclusion(self) -> str:
        errors, warnings = (
            counted(len(self.found(level)), f"kind of {level}", f"kinds of {level}s") for level in ("error", "warning")
        )
        result = ["clean", f"usable, {warnings}", f"not usable, {errors}"][self.status]
        read = "decoded" if self.decoded else "opened, not decoded"
        speed = f", {self.frames / self.seconds:.0f} frames/s" if self.seconds > 1 else ""
        frames = f"{grouped(self.frames)} {'frame' if self.frames == 1 else 'frames'}"
        return f"{result}; {frames} {read} in {self.seconds:.0f} s{speed}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns: the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


# What is checked when


def check_dataset(
    reader: Reader, request: Request, *, num_frames: int, as_json: bool = False, workers: int | None = None
) -> int:
    """`--check`: checks the data of a request and prints the report on stdout.

    Args:
        reader: of the dataset; its `prepare` has been called.
        request: the clips to read.
        num_frames: K, frames per training sample.
        as_json: print the report as JSON.
        workers: threads that decode; None takes one per core.

    Returns:
        Exit status: 0 clean, 1 with warnings, 2 with errors.

    Raises:
        DataError: there is no clip at all to report on. With `as_json`, the report says so instead.
    """
    first, *others = _folds(reader, request) if request.fold == "all" else [_pair(reader, request)]
    readings = [reading for splits in (first, *others) for reading in splits.values()]
    errors = [reading.error for reading in readings if reading.error is not None]
    if errors and not as_json and not any(map(len, readings)):
        raise DataError.joined(errors)
    report = check(
        first, others, num_frames=num_frames, known_labels=reader.labels, workers=workers, progress="decoding frames"
    )
    print(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else report.as_table())
    return report.status


def _pair(reader: Reader, request: Request) -> dict[str, Reading]:
    """Training and validation set, or those of one fold, with their errors."""
    if request.fold is None or reader.has_list_per_fold(request):
        train = Reading.of(lambda: reader.read(request, "train"))
        labels = train.clips.labels if train.clips else None
        return {"train": train, "val": Reading.of(lambda: reader.read(request, "val", labels))}
    try:
        train_clips, val_clips, _ = reader.read_pair(request)
    except DataError as error:
        return {"train": Reading(error.readable, error), "val": Reading(None)}
    return {"train": Reading(train_clips), "val": Reading(val_clips)}


def _folds(reader: Reader, request: Request) -> list[dict[str, Reading]]:
    """The splits of every fold."""
    if reader.has_list_per_fold(request):
        return [_pair(reader, request.at_fold(fold)) for fold in range(1, reader.count_folds(request) + 1)]
    try:
        folds = reader.make_folds(request)
    except DataError as error:  # no folds, but there may be clips
        return [{"train": Reading(error.readable, error), "val": Reading(None)}]
    numbers = range(1, folds.count + 1)
    return [{"train": Reading(folds.train(fold)), "val": Reading(folds.val(fold))} for fold in numbers]


def check_before_training(
    train: ClipSet, val: ClipSet, *, num_frames: int, known_labels: tuple[str, ...] | None, headers: bool = True
) -> list[str]:
    """The quick check before a training: names, and the headers of image files unless there are too many.

    Args:
        train, val: the two sets.
        num_frames: K, frames per training sample.
        known_labels: the classes of the dataset, if it has fixed ones.
        headers: read image files at all.

    Returns:
        One line per kind of warning.

    Raises:
        DataError: naming all files that are not images.
    """
    report = check(
        {"train": Reading(train), "val": Reading(val)},
        num_frames=num_frames,
        known_labels=known_labels,
        decode=False,
        headers=headers and _few_frames(train, val),
        progress="reading frame headers",
    )
    if broken := [item for finding in report.found("error") for item in finding.items]:
        raise DataError(broken)
    return [finding.line() for finding in report.found("warning")]


def refuse_broken_images(clips: ClipSet) -> None:
    """Reads the headers of all image files of a split before an evaluation, unless there are too many.

    Raises:
        DataError: naming all files that are not images.
    """
    if _few_frames(clips):
        scanned = _scan(clips.clips if clips.in_files else [], False, None, "reading frame headers")
        if broken := [line for faults, _ in scanned for line in faults]:
            raise DataError(broken)


def _few_frames(*sets: ClipSet) -> bool:
    """Whether reading every header takes only seconds."""
    return sum(len(clip) for clips in sets if clips.in_files for clip in clips.clips) <= CHECKED_FRAMES


def check(
    splits: Splits,
    other_folds: Sequence[Splits] = (),
    *,
    num_frames: int = 3,
    known_labels: tuple[str, ...] | None = None,
    decode: bool = True,
    headers: bool = True,
    workers: int | None = None,
    progress: str | None = None,
) -> CheckReport:
    """Checks the two splits of a dataset.

    Args:
        splits: "train" and "val", as a reader returned them. With several folds, the first one.
        other_folds: the splits of the other folds. Only their names and lists are checked.
        num_frames: K, frames per training sample. Shorter training clips repeat frames.
        known_labels: the classes of the dataset in the order of their indices, if it has fixed ones.
        decode: decode every image and compare contents. If false, only read headers.
        headers: read image files at all. If false, only check names.
        workers: threads that decode; None takes one per core.
        progress: label of the progress bar; None shows none.
    """
    begun = time.monotonic()
    checks = check_names(splits, num_frames, known_labels)
    for fold in other_folds:
        _add(checks, check_names(fold, num_frames, known_labels))
    in_files = {name: list(split) for name, split in splits.items() if not split.clips or split.clips.in_files}
    notes = {name: split.clips.notes for name, split in splits.items() if split.clips and not split.clips.in_files}
    if notes:
        checks.append(Finding.of("notes on composed clips", "note", notes))
    # A clip that is in both splits is read once.
    unique = {(clip.folder, clip.frames): clip for clips in in_files.values() for clip in clips} if headers else {}
    if headers:
        scanned = dict(zip(unique, _scan(list(unique.values()), decode, workers, progress), strict=True))
        results = {name: [scanned[clip.folder, clip.frames] for clip in clips] for name, clips in in_files.items()}
        faults = {name: [line for lines, _ in scans for line in lines] for name, scans in results.items()}
        checks.append(Finding.of("frames that cannot be read", "error", faults))
        if decode and len(in_files) == 2:
            checks.append(_copied_frames(in_files, {name: [d for _, d in scans] for name, scans in results.items()}))
    labels = next((split.clips.labels for split in splits.values() if split.clips), known_labels or ())
    return CheckReport(
        labels=labels,
        classes={name: [_class_row(split, label) for label in range(len(labels))] for name, split in splits.items()},
        checks=checks,
        advice=list(dict.fromkeys(line for split in splits.values() if split.error for line in split.error.advice)),
        decoded=headers and decode,
        frames=sum(map(len, unique.values())),
        seconds=round(time.monotonic() - begun, 3),
    )


def _add(checks: list[Finding], of_fold: list[Finding]) -> None:
    """Adds what is new in another fold. Most problems are found in every fold."""
    for known, other in zip(checks, of_fold, strict=True):
        new = [item for item in other.items if item not in known.items]
        if new:
            split = next(name for name, count in other.counts.items() if count)
            known.counts[split] = known.counts.get(split, 0) + len(new)
            known.items += new


def _class_row(split: Reading, label: int) -> dict[str, float]:
    lengths = [len(clip) for clip in split if clip.label == label]
    shortest, longest = (min(lengths), max(lengths)) if lengths else (0, 0)
    median = float(np.median(lengths)) if lengths else 0.0
    return {
        "clips": len(lengths), "frames": sum(lengths), "shortest": shortest, "median": median, "longest": longest,
    }  # fmt: skip


# Names: lists, folders, classes, persons


def check_names(splits: Splits, num_frames: int, known_labels: tuple[str, ...] | None = None) -> list[Finding]:
    """What names alone show. For the arguments see `check`."""
    problems: dict[str, dict[str, list[str]]] = {
        kind: {name: [] for name in splits} for kind in ("", NO_FOLDER, NO_FRAMES)
    }
    for name, split in splits.items():
        for problem in split.error.problems if split.error else ():
            kind = next((kind for kind in (NO_FOLDER, NO_FRAMES) if f": {kind}" in problem), "")
            problems[kind][name].append(problem)
    skipped = {
        name: [printable(clip) for clip in split.clips.skipped] if split.clips and not problems[NO_FRAMES][name] else []
        for name, split in splits.items()
    }
    # Evaluation reads all frames of a clip, so short ones matter in training alone.
    short = [printable(clip.name) for clip in splits["train"] if len(clip) < num_frames]
    return [
        Finding.of("problems of lists and folders", "error", problems[""]),
        Finding.of("missing clips or folders", "error", problems[NO_FOLDER]),
        Finding.of("empty clips", "error", problems[NO_FRAMES]),
        Finding.of("empty clips, skipped (--skip-empty)", "warning", skipped),
        Finding.of(f"clips shorter than {num_frames} frames, which repeat frames", "warning", {"train": short}),
        Finding.of("classes without train clips", "warning", {"train": _absent_classes(splits["train"])}),
        Finding.of("classes without val clips", "note", {"val": _absent_classes(splits["val"])}),
        Finding.of("clips in both splits", "warning", {BOTH: _clips_in_both(splits)}),
        Finding.of("persons in both splits", "warning", {BOTH: _persons_in_both(splits)}),
        Finding.of("labels out of order", "warning", {BOTH: _label_order(splits, known_labels)}),
    ]


def _absent_classes(split: Reading) -> list[str]:
    seen = {clip.label for clip in split}
    labels = split.clips.labels if split.clips else ()
    return [printable(name) for index, name in enumerate(labels) if index not in seen]


def _clips_in_both(splits: Splits) -> list[str]:
    """Validation clips with the name or the folder (links followed) of a training clip."""
    names = {clip.name for clip in splits["train"]}
    folders = {os.path.realpath(clip.folder): clip.name for clip in splits["train"]}
    found = []
    for clip in splits["val"]:
        same = folders.get(os.path.realpath(clip.folder))
        if clip.name in names:
            found.append(printable(clip.name))
        elif same is not None:
            found.append(f"{printable(clip.name)} is the same folder as {printable(same)}")
    return found


def _persons_in_both(splits: Splits) -> list[str]:
    """Persons according to the reader, else according to the clips' names."""
    first: dict[str, dict[str, str]] = {"train": {}, "val": {}}  # split -> person -> a clip
    for name, clips in first.items():
        for clip in splits[name]:
            if person := clip.person or person_in(clip.name):
                clips.setdefault(person, printable(clip.name))
    train, val = first["train"], first["val"]
    return [f"{printable(person)}: train {train[person]}, val {val[person]}" for person in val if person in train]


def _label_order(splits: Splits, known_labels: tuple[str, ...] | None) -> list[str]:
    """Signs that class indices mean other classes than expected."""
    found = []
    orders = {name: split.clips.labels for name, split in splits.items() if split.clips}
    if len(set(orders.values())) > 1:
        found.append("; ".join(f"{name}: {_numbered(labels)}" for name, labels in orders.items()))
    for labels in dict.fromkeys(orders.values()):
        expected = known_labels or AFEW_LABELS
        if labels != expected and sorted(map(expression, labels)) == sorted(map(expression, expected)):
            whose = "the dataset" if known_labels else "AFEW"
            found.append(f"{_numbered(labels)}; the order of {whose} is {_numbered(expected)}")
    for name, labels in orders.items():
        meanings = [expression(label) for label in labels]
        wrong: dict[tuple[str, str], list[str]] = defaultdict(list)  # (folder, label) -> clips
        for clip in splits[name]:
            folders = [part for part in clip.name.split("/")[:-1] if expression(part) in meanings]
            if folders and meanings[clip.label] not in map(expression, folders):
                wrong[folders[0], labels[clip.label]].append(clip.name)
        found += [
            f"{name}: {counted(len(clips), 'clip')} in a folder {printable(folder)} labeled {printable(label)}, "
            f"e.g. {printable(clips[0])}"
            for (folder, label), clips in wrong.items()
        ]
    return found


def _numbered(labels: tuple[str, ...]) -> str:
    return " ".join(f"{index} {printable(label)}" for index, label in enumerate(labels))


_PERSONS = (
    # subject12, Actor_07, person-3, id00012, also with a suffix: subject12_smile
    re.compile(r"(?:^|[/_\-. ])((?:subject|subj|sub|person|actor|speaker|id)[-_ ]?\d+)(?=$|[/_\-. ])", re.IGNORECASE),
    # CK+ S005, MMI S001-100, Oulu-CASIA P001. s1 or p2 alone may be a scene or a part.
    re.compile(r"(?:^|[/_\-. ])([SP]\d{3,4})(?=$|[/_\-. ])"),
    # CREMA-D 1001_DFA_ANG_XX
    re.compile(r"(?:^|/)(\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}(?=$|[/.])"),
    # RAVDESS 02-01-06-01-02-01-12: the last number is the actor
    re.compile(r"(?:^|/)\d\d(?:-\d\d){5}-(\d\d)(?=$|[/.])"),
)


def person_in(name: str) -> str | None:
    """The person in a clip's name, such as `S005` or `subject12`; None if there is none.

    Recognizes words for a person with a number, and the clip names of CK+, MMI, Oulu-CASIA, CREMA-D and RAVDESS.
    """
    for pattern in _PERSONS:
        if match := pattern.search(name):
            return match[1].casefold()
    return None


# Image files

Scan = tuple[list[str], bytes]  # of a clip: a line per unreadable frame; 8 bytes per frame, zero if it is unreadable


def _scan(clips: Sequence[Clip], decode: bool, workers: int | None, progress: str | None) -> list[Scan]:
    """Reads every frame of some clips: whole if `decode`, else its header."""

    def scan(clip: Clip) -> Scan:
        faults, digests = [], b""
        for path in clip.paths:
            try:
                digests += check_image(path, decode=decode)
            except ImageError as error:
                faults.append(str(error))
                digests += bytes(8)
        return faults, digests

    threads = workers or available_cores() if decode else HEADER_THREADS
    scans: list[Scan] = []
    with (
        Progress(progress or "", sum(map(len, clips)), show=progress is not None) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        for clip, result in zip(clips, pool.map(scan, clips), strict=True):
            scans.append(result)
            bar(len(clip))
    return scans


def _copied_frames(clips: Mapping[str, list[Clip]], digests: Mapping[str, list[bytes]]) -> Finding:
    """Validation frames with the bytes of a training frame, whatever their names. Clips in both are found by name."""
    folders = {clip.folder for clip in clips["train"]}
    owners = {
        digest[at : at + 8]: (clip, at // 8)
        for clip, digest in zip(clips["train"], digests["train"], strict=True)
        for at in range(0, len(digest), 8)
    }
    owners.pop(bytes(8), None)
    items, count = [], 0
    for clip, digest in zip(clips["val"], digests["val"], strict=True):
        copies = [at // 8 for at in range(0, len(digest), 8) if digest[at : at + 8] in owners]
        if not copies or clip.folder in folders:
            continue
        count += len(copies)
        other, frame = owners[digest[8 * copies[0] : 8 * copies[0] + 8]]
        same = f"val {_frame(clip, copies[0])} = train {_frame(other, frame)}"
        items.append(f"{len(copies)} of {len(clip)} frames, {same}")
    return Finding("val frames that are also train frames", "warning", {BOTH: count}, items)


def _frame(clip: Clip, index: int) -> str:
    return f"{printable(clip.name)}/{printable(clip.frames[index])}"
