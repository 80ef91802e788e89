"""Runs the dataset doctor on the data of a command: completely with `--check`, quickly before every training."""

from __future__ import annotations

import argparse
import json
import sys

from ..data.clips import ClipSet, DataError
from ..readers.base import Reader, Request
from ..training.distributed import from_main, world
from ..training.protocols import Protocol, opened, resolve
from . import Split
from .check import as_json, as_table, check
from .files import scan

Splits = dict[str, Split]
CHECKED_FRAMES = 200_000  # up to here every frame's header is read before a training: about 10 s


def check_data(args: argparse.Namespace) -> int:
    """Checks the data and prints the report on stdout.

    Returns:
        Exit status: 0 clean, 1 with warnings, 2 with errors.

    Raises:
        DataError: there is no clip at all to report on. `--json` reports that, too.
    """
    protocol = resolve(args)
    with opened(protocol) as reader:
        first, *others = _folds(reader, protocol.data) if protocol.data.all_folds else [_pair(reader, protocol.data)]
    read = [split for of_fold in (first, *others) for split in of_fold.values()]
    errors = [split.error for split in read if split.error is not None]
    if errors and not args.json and not any(map(len, read)):
        raise DataError.joined(errors)
    report = check(
        first,
        others,
        num_frames=protocol.num_frames,
        known_labels=protocol.data.labels,
        workers=args.workers or None,
        progress="decoding frames",
    )
    print(json.dumps(as_json(report), indent=2, ensure_ascii=False) if args.json else as_table(report))
    return report.status


def _pair(reader: Reader, request: Request) -> Splits:
    """Training and validation set, or those of one fold, with their errors."""
    if request.fold is None or request.lists_per_fold:
        train = Split.read(lambda: reader.read(request, "train"))
        labels = train.clips.labels if train.clips else None
        return {"train": train, "val": Split.read(lambda: reader.read(request, "val", labels))}
    try:
        train_clips, val_clips, _ = reader.read_pair(request)
    except DataError as error:
        return {"train": Split(error.readable, error), "val": Split(None)}
    return {"train": Split(train_clips), "val": Split(val_clips)}


def _folds(reader: Reader, request: Request) -> list[Splits]:
    """The splits of every fold."""
    if request.lists_per_fold:
        return [_pair(reader, request.at_fold(fold)) for fold in range(1, reader.count_folds(request) + 1)]
    try:
        folds = reader.make_folds(request)
    except DataError as error:  # no folds, but there may be clips
        return [{"train": Split(error.readable, error), "val": Split(None)}]
    numbers = range(1, folds.count + 1)
    return [{"train": Split(folds.train(fold)), "val": Split(folds.val(fold))} for fold in numbers]


def check_before_training(train: ClipSet, val: ClipSet, protocol: Protocol, check_images: bool) -> None:
    """Prints warnings about the data of a training. The main process checks for all processes.

    Args:
        train, val: the two sets.
        protocol: of the training.
        check_images: also read the headers of image files, unless there are too many.

    Raises:
        DataError: naming all files that are not images.
    """
    report = from_main(
        lambda: check(
            {"train": Split(train), "val": Split(val)},
            num_frames=protocol.num_frames,
            known_labels=protocol.data.labels,
            decode=False,
            headers=check_images and _few_frames(train, val),
            progress="reading frame headers",
        )
    )
    broken = [item for finding in report.found("error") for item in finding.items]
    if broken:
        raise DataError(broken)
    if world().is_main:
        for finding in report.found("warning"):
            print(f"warning: {finding.line()}", file=sys.stderr)


def refuse_broken_images(clips: ClipSet) -> None:
    """Reads the headers of all image files of a split before an evaluation, unless there are too many.

    Raises:
        DataError: naming all files that are not images.
    """
    if _few_frames(clips):
        facts = from_main(lambda: scan(clips.clips, decode=False, progress="reading frame headers"))
        broken = [line for clip in facts for _, line in clip.faults]
        if broken:
            raise DataError(broken)


def _few_frames(*sets: ClipSet) -> bool:
    """Whether reading every header takes only seconds."""
    return sum(len(clip) for clips in sets if clips.in_files for clip in clips.clips) <= CHECKED_FRAMES
