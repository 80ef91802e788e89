"""From flags to data: which protocol, which lists, which clips."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from Code.data.clips import ClipSet, DataError, describe
from Code.data.foldfile import write_fold_file
from Code.data.folds import persons_in_two_folds
from Code.data.sample import draw_sample, read_intensity
from Code.training.datasets import (
    DATA_FLAGS,
    at_fold,
    composed_spec,
    count_folds,
    data_flags,
    folds_by_list,
    make_folds,
    read_split,
    read_whole,
)
from Code.training.distributed import local_main_first
from Code.training.errors import UsageError
from Code.training.judging import Intensities
from Code.training.look_over import look_over
from Code.training.protocols import PROTOCOLS, Protocol

SAMPLE_ROOT = Path("Data/Sample")


def resolve_protocol(args: argparse.Namespace) -> Protocol:
    """The dataset's protocol with the flags that were given on top, and the lists that will be read."""
    flags = {
        "num_frames": args.frames,
        "lr": args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "batch_size": args.batch_size,
        "samples_per_clip": args.samples_per_clip,
        "select_on": args.select_on,
    }
    protocol = replace(PROTOCOLS[args.dataset], **{name: value for name, value in flags.items() if value is not None})
    if args.epochs is not None:
        protocol = protocol.trained_for(args.epochs)
    protocol = replace(protocol, data_flags=data_flags(args), freeze_backbone=frozen(args, protocol))
    if args.dataset == "composed":
        protocol = _for_composed(args, protocol)
    if protocol.one_root:
        protocol = _in_one_tree(args, protocol)
    else:
        protocol = replace(
            protocol,
            train_root=args.train_root or protocol.train_root,
            val_root=args.val_root or protocol.val_root,
            train_list=list_file(args.train_list, protocol.train_list, args.train_root is not None),
            val_list=list_file(args.val_list, protocol.val_list, args.val_root is not None),
        )
    if args.labels and protocol.labels:
        raise UsageError(f"--labels: the classes of {args.dataset} are known; use it with --dataset list or folders")
    return at_fold(protocol, args.fold) if isinstance(args.fold, int) else protocol


def _for_composed(args: argparse.Namespace, protocol: Protocol) -> Protocol:
    """A training sample is a whole clip: of a few of its frames none might tell."""
    given = [f"--{name.replace('_', '-')}" for name in ("val_root", "train_list", "val_list") if getattr(args, name)]
    if given:
        raise UsageError(f"{given[0]}: --dataset composed makes its own splits of FER+, --data-root; leave it away")
    if args.frames is not None:
        return protocol
    return replace(protocol, num_frames=composed_spec(args).frames[0])


def frozen(args: argparse.Namespace, protocol: Protocol) -> bool:
    """Whether the head alone learns; random weights are never frozen."""
    random_weights = (args.pretrained or "").lower() == "none"
    if args.freeze_backbone and random_weights:
        raise UsageError("--freeze-backbone: needs a trained backbone; leave --pretrained none away")
    wanted = protocol.freeze_backbone if args.freeze_backbone is None else args.freeze_backbone
    return bool(wanted) and not random_weights


def _in_one_tree(args: argparse.Namespace, protocol: Protocol) -> Protocol:
    """Roots and lists of a dataset that is one tree."""
    if args.dataset == "list":
        named = [path for path in (args.train_list, args.val_list) if path]
        if not named:
            raise UsageError("--dataset list: name the list, --train-list FILE (and --val-list FILE if it is another)")
        own_folder = os.path.dirname(named[0]) or "."
        root, lists = args.train_root or own_folder, (named[0], named[-1])
    else:
        root = args.train_root or protocol.train_root
        defaults = (protocol.train_list, protocol.val_list)
        given = (args.train_list, args.val_list)
        lists = tuple(  # type: ignore[assignment]
            mine or (usual and os.path.join(root, usual)) for mine, usual in zip(given, defaults, strict=True)
        )
        if args.dataset == "ckplus" and any(lists) and not all(lists):
            lists = (lists[0] or lists[1],) * 2  # type: ignore[assignment]
    return replace(protocol, train_root=root, val_root=args.val_root or root, train_list=lists[0], val_list=lists[1])


def list_file(given: str | None, default: str | None, root_given: bool) -> str | None:
    """Which list to read: the one named, else the default one if it exists and belongs to the default root."""
    if given is not None:
        return None if given.lower() == "none" else given
    return default if default and not root_given and Path(default).is_file() else None


def settle_folds(args: argparse.Namespace) -> None:
    """Fills in, for a training, what was left away: the dataset, and all folds where it is evaluated in folds."""
    args.dataset = args.dataset or "afew"
    if args.fold is None and needs_folds(args):
        args.fold = "all"
    if args.seeds and len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f"--seeds {' '.join(map(str, args.seeds))}: name each seed once")
    if args.fold is None:
        for name in ("folds", "fold_file"):
            if getattr(args, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: without --fold nothing is done in folds; add --fold all")


def write_folds(args: argparse.Namespace) -> str:
    """`--write-folds`: writes the folds that the other flags name; returns what was written, for people."""
    prepare_sample(args)
    folds = make_folds(args, resolve_protocol(args))
    members = folds.members()
    write_fold_file(args.write_folds, members, folds.clips.labels)
    split = persons_in_two_folds(folds)
    persons = f"{len(split)} persons are in two folds, {split[0]} for one" if split else "no known person is in two"
    return f"{args.write_folds}: {folds.how}, {' '.join(str(len(clips)) for clips in members)} clips; {persons}"


def needs_folds(args: argparse.Namespace) -> bool:
    """Whether the dataset is evaluated in folds though `--fold` was not given."""
    lists = [path for path in (args.train_list, args.val_list) if path]
    if lists:
        return any("{fold}" in path for path in lists)
    return PROTOCOLS[args.dataset].num_folds is not None


def read_pair(args: argparse.Namespace, protocol: Protocol) -> tuple[ClipSet, ClipSet, int | None]:
    """Training and validation set, the problems of both in one error; k, where they are of k folds."""
    if protocol.fold is not None and not (folds := _listwise_count(args, protocol)):
        parts = make_folds(args, protocol)
        _check_fold(protocol.fold, parts.count)
        return parts.train(protocol.fold), parts.val(protocol.fold), parts.count
    if protocol.fold is not None:
        _check_fold(protocol.fold, folds)
    train, errors = None, []
    try:
        train = read_split(args, protocol, "train", protocol.labels)
    except DataError as error:
        errors.append(error)
    try:
        val = read_split(args, protocol, "val", train.labels if train else protocol.labels)
    except DataError as error:
        errors.append(error)
    if errors:
        raise DataError.joined(errors)
    assert train is not None
    return train, val, folds if protocol.fold is not None else None


def _listwise_count(args: argparse.Namespace, protocol: Protocol) -> int:
    """k where every fold has lists of its own, else 0."""
    template = resolve_protocol(argparse.Namespace(**{**vars(args), "fold": None}))
    return count_folds(args, template) if folds_by_list(template) else 0


def _check_fold(fold: int, count: int) -> None:
    if fold > count:
        raise UsageError(f"--fold {fold}: there are {count} folds; name one from 1 to {count}, or all")


def read_both(
    args: argparse.Namespace, protocol: Protocol, check_images: bool = True
) -> tuple[ClipSet, ClipSet, Protocol]:
    """Training and validation set and what is to be said of them; the protocol, which then knows k.

    Raises:
        DataError: the problems of both in one error, or, with `check_images`, all files that are no images.
    """
    train, val, count = read_pair(args, protocol)
    if count is not None:
        protocol = replace(protocol, num_folds=count)
        print(f"fold {protocol.fold} of {count}")
    print(f"train: {describe(train)}\nval:   {describe(val)}")
    say_labels(train.labels)
    for note in dict.fromkeys([*train.notes, *val.notes]):
        print(f"note:  {note}")
    look_over(train, val, protocol, check_images)
    return train, val, protocol


def read_evaluated(args: argparse.Namespace, protocol: Protocol, info: dict[str, Any]) -> tuple[ClipSet, Protocol]:
    """What `-e` evaluates on: the validation split or the fold that was asked for, else all of a folded dataset.

    Args:
        info: what the checkpoint says of itself.
    """
    own = tuple(info["labels"]) if args.dataset == info.get("dataset") or args.dataset == "folders" else None
    if protocol.fold is not None:
        _, val, count = read_pair(args, protocol)
        return val, replace(protocol, num_folds=count)
    if not needs_folds(args):
        return read_split(args, protocol, "val", protocol.labels or own), protocol
    if args.dataset == info.get("dataset"):
        where = "warning: the checkpoint does not say which fold it was trained without: these are all clips, some of"
        print(f"{where} which it may have learnt; --fold N evaluates one fold", file=sys.stderr)
    return read_whole(args, protocol, own), protocol


def take_up_data(args: argparse.Namespace, info: dict[str, Any]) -> None:
    """Where `-e` was not told which dataset, it is the one that the checkpoint was trained with, read likewise."""
    protocol = info.get("protocol") or {}
    if args.dataset is None:
        args.dataset = info.get("dataset") or "afew"
        if args.dataset not in PROTOCOLS:
            raise UsageError(
                f"--checkpoint {info['path']}: was trained on {args.dataset}; say with --dataset what to evaluate it on"
            )
        for name, value in protocol.get("data_flags", {}).items():
            if name in DATA_FLAGS and not getattr(args, name):
                setattr(args, name, value)
    if args.fold is None and args.dataset == info.get("dataset"):
        args.fold = protocol.get("fold")


def label_map(args: argparse.Namespace) -> dict[str, str]:
    """`--map-labels DATA=CHECKPOINT ...`: what a class of the data is called in the checkpoint."""
    pairs = [pair.partition("=") for pair in args.map_labels or ()]
    return {old: new for old, _, new in pairs}


def say_labels(labels: Sequence[str]) -> None:
    """Prints the order of the classes."""
    print(f"classes: {', '.join(f'{index} {name}' for index, name in enumerate(labels))}")


def prepare_sample(args: argparse.Namespace) -> None:
    """Draws the generated sample where the command asks for it and it is not there yet."""
    if args.dataset == "sample" and args.train_root is None and args.val_root is None:
        with local_main_first():
            draw_sample(SAMPLE_ROOT, workers=os.cpu_count() or 1, progress=sys.stderr.isatty())


def intensities_of(args: argparse.Namespace, val: ClipSet) -> Intensities | None:
    """True importance of every validation frame, where an intensity.csv lies beside the clips' tree."""
    path = Path(val.clips[0].folder).parents[2] / "intensity.csv"  # <sample>/Val/Fear/100003
    if args.dataset not in ("sample", "composed") or not path.is_file():
        return None
    truth = read_intensity(path)
    absent = [clip.name for clip in val.clips if any((clip.name, frame) not in truth for frame in clip.frames)]
    if absent:
        raise DataError([f"{path}: lacks frames of {len(absent)} clips, {absent[0]} for one; draw the sample again"])
    return {clip.name: np.array([truth[clip.name, frame][0] for frame in clip.frames]) for clip in val.clips}
