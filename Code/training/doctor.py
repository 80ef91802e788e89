"""`--check`: the dataset doctor on whatever the data flags name."""

from __future__ import annotations

import argparse
import json

from Code.data.clips import DataError
from Code.data.doctor.check import as_json, as_table, check
from Code.data.doctor.findings import Split
from Code.training.datasets import (
    ShownProgress,
    at_fold,
    count_folds,
    folds_by_list,
    make_folds,
    prepare_sample,
    read_pair,
    read_split,
    resolve_protocol,
    settle_folds,
)
from Code.training.protocols import Protocol

Splits = dict[str, Split]


def check_data(args: argparse.Namespace) -> int:
    """Examines the data and prints the report on stdout.

    Returns:
        Exit status: 0 clean, 1 with warnings, 2 with errors.
    """
    settle_folds(args)
    prepare_sample(args)
    protocol = resolve_protocol(args)
    first, *others = _all_folds(args, protocol) if args.fold == "all" else [_one_pair(args, protocol)]
    report = check(
        first,
        others,
        num_frames=protocol.num_frames,
        known_labels=protocol.labels,
        workers=args.workers or None,
        progress=ShownProgress("decoding frames"),
    )
    print(json.dumps(as_json(report), indent=2, ensure_ascii=False) if args.json else as_table(report))
    return report.status


def _one_pair(args: argparse.Namespace, protocol: Protocol) -> Splits:
    """Training and validation set, or those of one fold, with what is wrong with each."""
    if protocol.fold is None or folds_by_list(resolve_protocol(_of_all_folds(args))):
        train = Split.read(lambda: read_split(args, protocol, "train", protocol.labels))
        labels = train.clips.labels if train.clips else protocol.labels
        return {"train": train, "val": Split.read(lambda: read_split(args, protocol, "val", labels))}
    try:
        train_clips, val_clips, _ = read_pair(args, protocol)
    except DataError as error:
        return {"train": Split(error.readable, error), "val": Split(None)}
    return {"train": Split(train_clips), "val": Split(val_clips)}


def _of_all_folds(args: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), "fold": None})


def _all_folds(args: argparse.Namespace, protocol: Protocol) -> list[Splits]:
    """The splits of every fold; each alone is all of the data."""
    if folds_by_list(protocol):
        return [_one_pair(args, at_fold(protocol, fold)) for fold in range(1, count_folds(args, protocol) + 1)]
    try:
        folds = make_folds(args, protocol)
    except DataError as error:  # no folds, but perhaps clips
        return [{"train": Split(error.readable, error), "val": Split(None)}]
    numbers = range(1, folds.count + 1)
    return [{"train": Split(folds.train(fold)), "val": Split(folds.val(fold))} for fold in numbers]
