"""Checks data before a training depends on them: a whole check with `--check`, a quick one before every training.

An error would stop a training sooner or later. A warning would not, but may make its results wrong. A note is
information.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..common.names import printable
from ..common.progress import Progress, available_cores
from ..data.clips import Clip, ClipSet, DataError
from ..data.images import ImageError, check_image
from ..data.request import Request
from ..readers.base import Reader
from .names import Reading, Splits, check_names
from .report import BOTH, CheckReport, Finding

CHECKED_FRAMES = 200_000  # up to here every frame's header is read before a training: about 10 s
HEADER_THREADS = 8  # reading headers is mostly waiting for the disk


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
    if errors and not as_json and not any(clip for reading in readings for clip in reading):
        raise DataError.joined(errors)
    report = check(first, others, num_frames=num_frames, known_labels=reader.labels, workers=workers)
    print(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else report.as_table())
    return report.status


def _pair(reader: Reader, request: Request) -> dict[str, Reading]:
    """Training and validation set, or those of one fold, with their errors."""
    if request.fold is None or reader.has_list_per_fold(request):
        train = Reading.of(lambda: reader.read(request, "train"))
        return {"train": train, "val": Reading.of(lambda: reader.read(request, "val", train.labels or None))}
    try:
        train_clips, val_clips, _ = reader.read_pair(request)
    except DataError as error:
        return {"train": Reading(error.readable, error), "val": Reading(None)}
    return {"train": Reading(train_clips), "val": Reading(val_clips)}


def _folds(reader: Reader, request: Request) -> list[dict[str, Reading]]:
    """The splits of every fold."""
    if reader.has_list_per_fold(request):
        return [_pair(reader, replace(request, fold=fold)) for fold in range(1, reader.count_folds(request) + 1)]
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
    if headers:
        refuse_broken_images(train, val)
    checks = check_names({"train": Reading(train), "val": Reading(val)}, num_frames, known_labels)
    return [check.line() for check in checks if check.found and check.level == "warning"]


def refuse_broken_images(*sets: ClipSet) -> None:
    """Reads the headers of all image files of some sets, unless there are too many.

    Raises:
        DataError: naming all files that are not images.
    """
    clips = {clip.folder: clip for clip_set in sets if clip_set.in_files for clip in clip_set.clips}
    if sum(map(len, clips.values())) <= CHECKED_FRAMES:
        scans = _scan(list(clips.values()), HEADER_THREADS, decode=False)
        if broken := [line for faults, _ in scans for line in faults]:
            raise DataError(broken)


def check(
    splits: Splits,
    other_folds: Sequence[Splits] = (),
    *,
    num_frames: int = 3,
    known_labels: tuple[str, ...] | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Checks the two splits of a dataset: names, and every image.

    Args:
        splits: "train" and "val", as a reader returned them. With several folds, the first one.
        other_folds: the splits of the other folds. Only their names and lists are checked.
        num_frames: K, frames per training sample. Shorter training clips repeat frames.
        known_labels: the classes of the dataset in the order of their indices, if it has fixed ones.
        workers: threads that decode; None takes one per core.
    """
    checks = check_names(splits, num_frames, known_labels)
    for fold in other_folds:
        _add(checks, check_names(fold, num_frames, known_labels))
    in_files = {name: list(split) for name, split in splits.items() if not split.clips or split.clips.in_files}
    # A clip that is in both splits is read once.
    unique = {clip.folder: clip for clips in in_files.values() for clip in clips}
    scans = dict(zip(unique, _scan(list(unique.values()), workers or available_cores()), strict=True))
    faults = {name: [line for clip in clips for line in scans[clip.folder][0]] for name, clips in in_files.items()}
    checks.append(Finding.of("frames that cannot be read", "error", faults))
    if len(in_files) == 2:
        digests = {folder: digest for folder, (_, digest) in scans.items()}
        checks.append(_copied_frames(in_files["train"], in_files["val"], digests))
    labels = splits["train"].labels or splits["val"].labels or known_labels or ()
    return CheckReport(
        labels=labels,
        classes={name: [_class_row(split, label) for label in range(len(labels))] for name, split in splits.items()},
        checks=checks,
        advice=list(dict.fromkeys(line for split in splits.values() if split.error for line in split.error.advice)),
        frames=sum(map(len, unique.values())),
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
    ends = lengths or [0]
    length = {"shortest": min(ends), "median": float(np.median(ends)), "longest": max(ends)}
    return {"clips": len(lengths), "frames": sum(lengths), **length}


Scan = tuple[list[str], bytes]  # of a clip: a line per unreadable frame; 8 bytes per frame, zero if it is unreadable


def _scan(clips: Sequence[Clip], threads: int, *, decode: bool = True) -> list[Scan]:
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

    scans: list[Scan] = []
    label = "decoding frames" if decode else "reading frame headers"
    with Progress(label, sum(map(len, clips))) as bar, ThreadPoolExecutor(threads) as pool:
        for clip, result in zip(clips, pool.map(scan, clips), strict=True):
            scans.append(result)
            bar(len(clip))
    return scans


def _copied_frames(train: Sequence[Clip], val: Sequence[Clip], digests: Mapping[str, bytes]) -> Finding:
    """Validation frames with the bytes of a training frame, whatever their names. Clips in both are found by name.

    Args:
        digests: by folder, 8 bytes of each frame.
    """
    owners = {digests[clip.folder][8 * at : 8 * at + 8]: (clip, at) for clip in train for at in range(len(clip))}
    owners.pop(bytes(8), None)
    folders = {clip.folder for clip in train}
    items, count = [], 0
    for clip in val:
        digest = digests[clip.folder]
        copies = [at for at in range(len(clip)) if digest[8 * at : 8 * at + 8] in owners]
        if copies and clip.folder not in folders:
            count += len(copies)
            owner = owners[digest[8 * copies[0] : 8 * copies[0] + 8]]
            items.append(f"{len(copies)} of {len(clip)} frames, val {_frame(clip, copies[0])} = train {_frame(*owner)}")
    return Finding("val frames that are also train frames", "warning", {BOTH: count}, items)


def _frame(clip: Clip, index: int) -> str:
    return f"{printable(clip.name)}/{printable(clip.frames[index])}"
