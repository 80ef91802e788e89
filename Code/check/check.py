"""The dataset doctor: finds errors and suspicious things in a dataset before a training depends on it.

It checks `ClipSet`s, so the data of any reader. An error would stop a training sooner or later. A warning would not,
but may make its results wrong. A note is information. The report is a table, or plain values for JSON.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.wording import grouped, printable
from . import BOTH, Check, Split
from .files import ClipFacts, content_checks, frame_checks, scan
from .names import name_checks

STATUS = {"note": 0, "warning": 1, "error": 2}


@dataclass
class ClassRow:
    """A class of one split: its numbers of clips and frames, and the shortest, median and longest clip in frames."""

    clips: int
    frames: int
    shortest: int
    median: float
    longest: int


@dataclass
class Report:
    """The findings of the dataset doctor.

    Attributes:
        labels: class names in the order of their indices.
        classes: split -> a row per class.
        checks: all checks, whether or not they found anything.
        advice: what to do about errors of lists and folders.
        decoded: every image was decoded; if not, only headers were read.
        frames: number of image files read.
        seconds: how long it took.
    """

    labels: tuple[str, ...]
    classes: dict[str, list[ClassRow]]
    checks: list[Check]
    advice: list[str]
    decoded: bool
    frames: int
    seconds: float

    @property
    def status(self) -> int:
        """0 clean, 1 with warnings, 2 with errors."""
        return max((STATUS[check.level] for check in self.checks if check.found), default=0)

    def found(self, level: str) -> list[Check]:
        """The checks of a level that found something."""
        return [check for check in self.checks if check.found and check.level == level]


def check(
    splits: Mapping[str, Split],
    other_folds: Sequence[Mapping[str, Split]] = (),
    *,
    num_frames: int = 3,
    known_labels: tuple[str, ...] | None = None,
    decode: bool = True,
    headers: bool = True,
    workers: int | None = None,
    progress: str | None = None,
) -> Report:
    """Checks the two splits of a dataset.

    Args:
        splits: "train" and "val", as a reader returned them. With several folds, the first one.
        other_folds: the splits of the other folds. Only their names and lists are checked.
        num_frames: K, frames per training sample. Shorter training clips repeat frames.
        known_labels: the classes of the dataset in the order of their indices, if it has fixed ones.
        decode: decode every image and compare contents. If false, only read headers.
        headers: read image files at all. If false, only check names.
        workers: processes that decode; None takes one per core.
        progress: label of the progress bar; None shows none.

    Raises:
        DataError: a worker process died.
    """
    begun = time.monotonic()
    # A clip that is in both splits is read once.
    filed = {name: split for name, split in splits.items() if not split.clips or split.clips.in_files}
    unique = {(clip.folder, clip.frames): clip for split in filed.values() for clip in split}
    scanned: dict[tuple[str, tuple[str, ...]], ClipFacts] = {}
    if headers:
        facts = scan(list(unique.values()), decode=decode, workers=workers, progress=progress)
        scanned = dict(zip(unique, facts, strict=True))
    by_split = {
        name: [scanned[clip.folder, clip.frames] for clip in split] if headers else [] for name, split in filed.items()
    }
    checks = name_checks(splits, num_frames, known_labels)
    for fold in other_folds:
        _add(checks, name_checks(fold, num_frames, known_labels))
    if len(filed) < len(splits):
        notes = {name: split.clips.notes if split.clips else [] for name, split in splits.items()}
        checks.append(Check.of("notes on composed clips", "note", notes))
    if headers:
        checks += frame_checks(filed, by_split)
        if decode:
            checks += content_checks(filed, by_split)
    labels = next((split.clips.labels for split in splits.values() if split.clips), known_labels or ())
    return Report(
        labels=labels,
        classes={name: _class_rows(split, len(labels)) for name, split in splits.items()},
        checks=checks,
        advice=list(dict.fromkeys(line for split in splits.values() if split.error for line in split.error.advice)),
        decoded=headers and decode,
        frames=sum(map(len, unique.values())) if headers else 0,
        seconds=time.monotonic() - begun,
    )


def _add(checks: list[Check], of_fold: list[Check]) -> None:
    """Adds the new findings of another fold. Most problems are found in every fold."""
    by_name = {check.name: check for check in checks}
    for check in of_fold:
        known = by_name.get(check.name)
        if known is None:
            checks.append(check)
            continue
        new = [item for item in check.items if item not in known.items]
        if new:
            split = next(name for name, count in check.counts.items() if count)
            known.counts[split] = known.counts.get(split, 0) + len(new)
            known.items += new


def _class_rows(split: Split, num_classes: int) -> list[ClassRow]:
    rows = []
    for label in range(num_classes):
        lengths = [len(clip) for clip in split if clip.label == label] or [0]
        clips = sum(clip.label == label for clip in split)
        rows.append(ClassRow(clips, sum(lengths), min(lengths), float(np.median(lengths)), max(lengths)))
    return rows


_SHOWN = 5


def as_table(report: Report) -> str:
    """The report as text: classes, all checks with their counts, the findings, and the conclusion."""
    splits = list(report.classes)
    head = ["class", *(f"{split} {column}" for split in splits for column in ("clips", "frames", "length"))]
    rows = [head]
    for index, label in enumerate(report.labels):
        row = [f"{index} {printable(label)}"]
        for split in splits:
            part = report.classes[split][index]
            length = f"{part.shortest} / {part.median:g} / {part.longest}" if part.clips else "-"
            row += [grouped(part.clips), grouped(part.frames), length]
        rows.append(row)
    total = ["all"]
    for split in splits:
        parts = report.classes[split]
        total += [grouped(sum(part.clips for part in parts)), grouped(sum(part.frames for part in parts)), ""]
    rows.append(total)

    columns = [*splits, BOTH]
    found = [["check", *columns, ""]]
    for check in report.checks:
        cells = [grouped(check.counts[column]) if column in check.counts else "" for column in columns]
        found.append([check.name, *cells, check.level if check.found else ""])

    lines = [*_aligned(rows), "(length: frames of the shortest / median / longest clip)", "", *_aligned(found)]
    for level in ("error", "warning", "note"):
        for check in report.found(level):
            lines += ["", f"{level}: {check.name}: {grouped(check.found)}"]
            lines += [f"  {item}" for item in check.items[:_SHOWN]]
            if len(check.items) > _SHOWN:
                lines.append(f"  and {len(check.items) - _SHOWN} more; --json lists all")
    if report.advice:
        lines += ["", *report.advice]
    return "\n".join([*lines, "", conclusion(report)])


def conclusion(report: Report) -> str:
    """The last line of the report: the result, and what was read for it."""
    errors, warnings = len(report.found("error")), len(report.found("warning"))
    kinds = ["clean", f"usable, {_kinds(warnings, 'warning')}", f"not usable, {_kinds(errors, 'error')}"]
    read = "decoded" if report.decoded else "opened, not decoded"
    frames = f"{grouped(report.frames)} {'frame' if report.frames == 1 else 'frames'}"
    speed = f", {report.frames / report.seconds:.0f} frames/s" if report.seconds > 1 else ""
    return f"{kinds[report.status]}; {frames} {read} in {report.seconds:.0f} s{speed}"


def _kinds(count: int, noun: str) -> str:
    return f"{count} kind of {noun}" if count == 1 else f"{count} kinds of {noun}s"


def as_json(report: Report) -> dict[str, Any]:
    """The whole report as plain values, with all items of each check."""
    return {
        "status": report.status,
        "labels": list(report.labels),
        "classes": {
            split: [{"label": label, **vars(row)} for label, row in zip(report.labels, rows, strict=True)]
            for split, rows in report.classes.items()
        },
        "checks": [
            {
                "name": check.name,
                "level": check.level,
                "found": check.found,
                "counts": check.counts,
                "items": check.items,
            }
            for check in report.checks
        ],
        "advice": report.advice,
        "decoded": report.decoded,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
    }


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns: the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
