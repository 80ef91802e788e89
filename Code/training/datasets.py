"""From flags to clips: `resolve` turns the command line into a protocol, and all other functions take the protocol.

Nothing here imports torch, so that a script reports a missing folder before it loads torch.
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
from Code.common.wording import counted
from Code.data.clips import ClipSet, describe
from Code.data.folds import persons_in_two_folds, write_fold_file
from Code.data.readers import find_reader
from Code.data.readers.base import DATA_FLAGS, Reader
from Code.training.protocols import PROTOCOLS, Protocol


def resolve(args: argparse.Namespace, info: dict[str, Any] | None = None) -> Protocol:
    """The dataset's protocol, overridden by flags: which clips to read, and how to train on them.

    Args:
        args: the flags of the main script.
        info: the description in the checkpoint to evaluate (`-e`); None for a training. Without `--dataset`, the data
            of the checkpoint's training are read, with the same data flags.

    Raises:
        UsageError: flags contradict each other or the dataset.
    """
    flags = {name: value for name in DATA_FLAGS if (value := getattr(args, name, None))}
    about = (info or {}).get("protocol") or {}
    dataset = args.dataset
    if dataset is None:
        dataset = (info or {}).get("dataset") or "afew"
        if dataset not in PROTOCOLS:
            raise UsageError(
                f"--checkpoint {(info or {})['path']}: was trained on {dataset}, which has no protocol here; "
                "choose the data with --dataset"
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
        raise UsageError(f"--seeds {' '.join(map(str, args.seeds))}: give each seed once")
    if fold is None:
        for name in ("folds", "fold_file"):
            if getattr(args, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: only has an effect with folds; add --fold all")


def _frozen(args: argparse.Namespace, protocol: Protocol) -> bool:
    """Whether only the head is trained; random weights are never frozen."""
    random_weights = (args.pretrained or "").lower() == "none"
    if args.freeze_backbone and random_weights:
        raise UsageError("--freeze-backbone: needs a trained backbone; omit --pretrained none")
    wanted = protocol.freeze_backbone if args.freeze_backbone is None else args.freeze_backbone
    return bool(wanted) and not random_weights


def label_map(args: argparse.Namespace) -> dict[str, str]:
    """`--map-labels DATA=CHECKPOINT ...` as a dictionary from classes of the data to classes of the checkpoint."""
    pairs = [pair.partition("=") for pair in args.map_labels or ()]
    return {old: new for old, _, new in pairs}


def check_paths(protocol: Protocol) -> None:
    """Checks that roots and lists exist.

    Raises:
        DataError: the error of reading the training and validation sets, if something is missing.
    """
    reader, data = find_reader(protocol.reader), protocol.data
    if reader.is_missing(data):
        reader.read_pair(data.at_fold(1) if data.all_folds else data)


@contextmanager
def opened(protocol: Protocol) -> Iterator[Reader]:
    """The protocol's reader. If reading writes files, the first process of a machine runs the block first."""
    reader = find_reader(protocol.reader)
    if not reader.writes:
        yield reader
        return
    from Code.training.distributed import local_main_first  # imports torch

    with local_main_first():
        reader.prepare(protocol.data)
        yield reader


def read_training(protocol: Protocol) -> tuple[ClipSet, ClipSet, Protocol]:
    """Reads the training and validation sets, and prints a summary.

    Returns:
        Both sets, and the protocol with the number of folds.

    Raises:
        DataError: the problems of both sets.
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
    """Reads the clips that `-e` evaluates: the validation split, one fold, or all clips of a dataset with folds.

    Args:
        protocol: from `resolve`.
        info: the description in the checkpoint.

    Returns:
        The clips, and the protocol with the number of folds.
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
            print(
                "warning: the checkpoint does not name its fold, so all clips are evaluated, including those that it "
                "was trained on; --fold N evaluates one fold",
                file=sys.stderr,
            )
        return reader.read_all(data, labels), protocol


def count_folds(protocol: Protocol) -> int:
    """The number of folds, k."""
    with opened(protocol) as reader:
        return reader.count_folds(protocol.data)


def write_folds(protocol: Protocol, path: Path) -> str:
    """`--write-folds`: writes the folds that the other flags ask for; returns a line about them."""
    with opened(protocol) as reader:
        folds = reader.make_folds(protocol.data)
    members = folds.members()
    write_fold_file(path, members, folds.clips.labels)
    split = persons_in_two_folds(folds)
    persons = (
        f"{counted(len(split), 'person')} in several folds, e.g. {split[0]}" if split else "no known person in two"
    )
    return f"{path}: {folds.how}, {' '.join(str(len(clips)) for clips in members)} clips; {persons}"


def print_labels(labels: Sequence[str]) -> None:
    """Prints the order of the classes."""
    print(f"classes: {', '.join(f'{index} {name}' for index, name in enumerate(labels))}")
