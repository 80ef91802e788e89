"""From flags to clips: `resolve` makes a protocol of the command line; everything else takes only the protocol.

Nothing here imports torch, so that a script finds a missing folder before it loads torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from Code.common.errors import UsageError
from Code.data.clips import ClipSet, describe
from Code.data.folds import persons_in_two_folds, write_fold_file
from Code.data.readers import find_reader
from Code.data.readers.base import DATA_FLAGS, Reader
from Code.training.protocols import PROTOCOLS, Protocol


def resolve(args: argparse.Namespace, info: dict[str, Any] | None = None) -> Protocol:
    """The dataset's protocol with the flags on top: what is read, and how it is trained on.

    Args:
        args: the flags of the main script.
        info: what a checkpoint to evaluate (`-e`) says of itself; None for a training. If `--dataset` was not given,
            the checkpoint's data are read, in the way that they were read for its training.

    Raises:
        UsageError: flags that do not go together, or not with the dataset.
    """
    flags = {name: value for name in DATA_FLAGS if (value := getattr(args, name, None))}
    about = (info or {}).get("protocol") or {}
    dataset = args.dataset
    if dataset is None:
        dataset = (info or {}).get("dataset") or "afew"
        if dataset not in PROTOCOLS:
            raise UsageError(
                f"--checkpoint {(info or {})['path']}: was trained on {dataset}; "
                "say with --dataset what to evaluate it on"
            )
        flags = {name: value for name, value in about.get("data_flags", {}).items() if name in DATA_FLAGS} | flags
    protocol = PROTOCOLS[dataset]
    reader = find_reader(protocol.reader)

    fold = args.fold
    if fold is None and dataset == (info or {}).get("dataset"):
        fold = about.get("fold")
    if fold is None and reader.needs_folds(flags):
        fold = "all"
    if info is None:
        _check_series(args, fold)
    data = reader.request(flags, fold=fold if isinstance(fold, int) else None, all_folds=fold == "all", seed=args.seed)

    settings = {
        "num_frames": args.frames or reader.frames_per_sample(data),
        "lr": args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "batch_size": args.batch_size,
        "samples_per_clip": args.samples_per_clip,
        "select_on": args.select_on,
    }
    protocol = replace(protocol, **{name: value for name, value in settings.items() if value is not None})
    if args.epochs is not None:
        protocol = protocol.trained_for(args.epochs)
    return replace(protocol, data=data, freeze_backbone=_frozen(args, protocol))


def _check_series(args: argparse.Namespace, fold: int | str | None) -> None:
    if args.seeds and len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f"--seeds {' '.join(map(str, args.seeds))}: name each seed once")
    if fold is None:
        for name in ("folds", "fold_file"):
            if getattr(args, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: without --fold nothing is done in folds; add --fold all")


def _frozen(args: argparse.Namespace, protocol: Protocol) -> bool:
    """Whether only the head is trained; random weights are never frozen."""
    random_weights = (args.pretrained or "").lower() == "none"
    if args.freeze_backbone and random_weights:
        raise UsageError("--freeze-backbone: needs a trained backbone; leave --pretrained none away")
    wanted = protocol.freeze_backbone if args.freeze_backbone is None else args.freeze_backbone
    return bool(wanted) and not random_weights


def label_map(args: argparse.Namespace) -> dict[str, str]:
    """`--map-labels DATA=CHECKPOINT ...`: what a class of the data is called in the checkpoint."""
    pairs = [pair.partition("=") for pair in args.map_labels or ()]
    return {old: new for old, _, new in pairs}


def check_paths(protocol: Protocol) -> None:
    """Raises what reading the training and validation sets would raise, if a root or a list is missing.

    Raises:
        DataError: naming the folders and files, and where they belong.
    """
    reader, data = find_reader(protocol.reader), protocol.data
    if reader.is_missing(data):
        reader.read_pair(data.at_fold(1) if data.all_folds else data)


@contextmanager
def opened(protocol: Protocol) -> Iterator[Reader]:
    """The protocol's reader. If it writes files, the first process of a machine runs the block before the others."""
    reader = find_reader(protocol.reader)
    if not reader.writes:
        yield reader
        return
    from Code.training.distributed import local_main_first  # imports torch

    with local_main_first():
        reader.prepare(protocol.data)
        yield reader


def read_training(protocol: Protocol) -> tuple[ClipSet, ClipSet, Protocol]:
    """Reads training and validation set, and prints what they are.

    Returns:
        Both, and the protocol, which then knows the number of folds.

    Raises:
        DataError: the problems of both in one error.
    """
    with opened(protocol) as reader:
        train, val, protocol = _read_pair(reader, protocol)
    if protocol.data.fold is not None:
        print(f"fold {protocol.data.fold} of {protocol.data.num_folds}")
    print(f"train: {describe(train)}\nval:   {describe(val)}")
    print_labels(train.labels)
    for note in dict.fromkeys([*train.notes, *val.notes]):
        print(f"note:  {note}")
    return train, val, protocol


def _read_pair(reader: Reader, protocol: Protocol) -> tuple[ClipSet, ClipSet, Protocol]:
    train, val, count = reader.read_pair(protocol.data)
    if count is not None:
        protocol = replace(protocol, data=replace(protocol.data, num_folds=count))
    return train, val, protocol


def read_evaluated(protocol: Protocol, info: dict[str, Any]) -> tuple[ClipSet, Protocol]:
    """Reads what `-e` evaluates: the validation split, one fold, or all clips of a dataset that has folds.

    Args:
        info: what the checkpoint says of itself.
    """
    data, same = protocol.data, protocol.dataset == info.get("dataset")
    with opened(protocol) as reader:
        labels = tuple(info["labels"]) if same or reader.checkpoint_labels else None
        if data.fold is not None:
            _, val, protocol = _read_pair(reader, protocol)
            return val, protocol
        if not data.all_folds:
            return reader.read(data, "val", data.labels or labels), protocol
        if same:
            where = "warning: the checkpoint does not say which fold it was trained without: these are all clips, some"
            print(f"{where} of which it may have learnt; --fold N evaluates one fold", file=sys.stderr)
        return reader.read_all(data, labels), protocol


def count_folds(protocol: Protocol) -> int:
    """k: how many folds there are."""
    with opened(protocol) as reader:
        return reader.count_folds(protocol.data)


def write_folds(protocol: Protocol, path: Path) -> str:
    """`--write-folds`: writes the folds that the other flags ask for; returns what was written, for people."""
    with opened(protocol) as reader:
        folds = reader.make_folds(protocol.data)
    members = folds.members()
    write_fold_file(path, members, folds.clips.labels)
    split = persons_in_two_folds(folds)
    persons = f"{len(split)} persons are in two folds, {split[0]} for one" if split else "no known person is in two"
    return f"{path}: {folds.how}, {' '.join(str(len(clips)) for clips in members)} clips; {persons}"


def print_labels(labels: Sequence[str]) -> None:
    """Prints the order of the classes."""
    print(f"classes: {', '.join(f'{index} {name}' for index, name in enumerate(labels))}")
