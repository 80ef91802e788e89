"""Which reader for which flags: a split, a whole set, or its folds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from Code.data.afew import read_afew, read_folders
from Code.data.ckplus import read_ckplus
from Code.data.clips import ClipSet, DataError
from Code.data.composed.clips import TEST, VAL, compose_evaluated, compose_training
from Code.data.composed.plan import ComposedSpec
from Code.data.dfew import read_dfew
from Code.data.ferv39k import read_ferv39k
from Code.data.foldfile import read_fold_file
from Code.data.folds import Folds, everything, folds_as_listed, folds_by_person, folds_from_file, name_persons
from Code.data.plainlist import is_plain_list, read_plain_list
from Code.data.sharedlist import SHARED_LABELS, is_shared_list, read_shared_list
from Code.training.distributed import local_main_first
from Code.training.errors import UsageError
from Code.training.protocols import Protocol

COMPOSED_ROOT = Path("Data/Composed")
TRAIN_CLIPS, VAL_CLIPS = 2000, 800  # composed, where no flag says how many
DEFAULT_FOLDS = 5  # where neither the dataset nor a flag says how many
DATA_FLAGS = (
    *("train_root", "val_root", "train_list", "val_list", "skip_empty", "eval_split", "labels"),
    *("root_map", "person_pattern", "folds", "fold_file"),
    *("clip_frames", "telling", "distractors", "train_clips", "val_clips"),
)


def data_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the flags that say which clips are read, as far as they were given."""
    return {name: value for name in DATA_FLAGS if (value := getattr(args, name, None))}


def folds_by_list(protocol: Protocol) -> bool:
    """Whether each fold has lists of its own (DFEW), instead of being a part of one whole set."""
    return any("{fold}" in (path or "") for path in (protocol.train_list, protocol.val_list))


def count_folds(args: argparse.Namespace, protocol: Protocol) -> int:
    """k: how many folds `--fold all` goes through."""
    if folds_by_list(protocol):
        return int(args.folds or protocol.num_folds or DEFAULT_FOLDS)
    return make_folds(args, protocol).count


def read_split(args: argparse.Namespace, protocol: Protocol, split: str, labels: Sequence[str] | None) -> ClipSet:
    """Reads "train" or "val" of the dataset that the flags name.

    Args:
        labels: the class names, in the order of their indices; None takes the protocol's or the data's.
    """
    clips = _read(args, protocol, split, labels or protocol.labels or args.labels)
    return _with_persons(args, clips)


def read_whole(args: argparse.Namespace, protocol: Protocol, labels: Sequence[str] | None = None) -> ClipSet:
    """Reads all clips of a dataset, whichever split they belong to."""
    labels = labels or protocol.labels or args.labels
    if args.dataset == "ckplus" and not protocol.train_list:
        return read_ckplus(
            protocol.train_root, args.fold_file, labels=labels or protocol.labels or (), skip_empty=args.skip_empty
        )
    if folds_by_list(protocol):
        protocol = at_fold(protocol, 1)
    if args.dataset == "folders" or is_plain_list(protocol.train_list or ""):
        return _with_persons(args, _read(args, protocol, None, labels))
    train = _read(args, protocol, "train", labels)
    return _with_persons(args, _joined(train, _read(args, protocol, "val", train.labels)))


def make_folds(args: argparse.Namespace, protocol: Protocol) -> Folds:
    """Puts a whole set into folds: as a fold file or its list says, else by persons.

    Raises:
        UsageError: clips of this dataset have a fixed split.
        DataError: everything that is wrong with the data or the fold file.
    """
    plain = is_plain_list(protocol.train_list or "")
    if args.dataset not in ("ckplus", "folders", "list", "sample") and not plain:
        raise UsageError(
            f"--fold: {args.dataset} has a fixed split, no folds; leave --fold away, or name lists of folds with "
            "{fold} in their names: --train-list set_{fold}_train.txt --val-list set_{fold}_test.txt"
        )
    if args.dataset == "folders" and args.val_root:
        raise UsageError("--val-root: with --fold all clips come from --train-root; leave --val-root away")
    clips = read_whole(args, protocol)
    if args.fold_file:
        if any(clip.fold for clip in everything(clips)):  # CK+: the reader has taken them from the file
            return folds_as_listed(clips)
        listed, problems = read_fold_file(str(args.fold_file), clips.labels)
        if problems:
            raise DataError(problems, str(args.fold_file))
        return folds_from_file(clips, listed, str(args.fold_file))
    if any(clip.fold for clip in everything(clips)):
        if args.folds:
            raise UsageError(f"--folds {args.folds}: the list says which fold a clip belongs to; leave it away")
        return folds_as_listed(clips)
    return folds_by_person(clips, args.folds or protocol.num_folds or DEFAULT_FOLDS)


def at_fold(protocol: Protocol, fold: int) -> Protocol:
    """The protocol with the fold's number, in the names of its lists, too."""
    return replace(
        protocol,
        fold=fold,
        train_list=protocol.train_list and protocol.train_list.replace("{fold}", str(fold)),
        val_list=protocol.val_list and protocol.val_list.replace("{fold}", str(fold)),
    )


def _read(args: argparse.Namespace, protocol: Protocol, split: str | None, labels: Sequence[str] | None) -> ClipSet:
    """One list or tree with the reader it asks for; split None is all of what training's flags name."""
    side = split or "train"
    root, path = getattr(protocol, f"{side}_root"), getattr(protocol, f"{side}_list")
    if args.dataset == "composed":
        return read_composed(args, Path(root), side)
    if path and is_shared_list(path):
        return read_shared_list(
            root,
            path,
            labels=labels or SHARED_LABELS,
            meaning=args.labels or SHARED_LABELS,
            root_map=[(old, new) for old, _, new in (pair.partition("=") for pair in args.root_map or ())],
            skip_empty=args.skip_empty,
        )
    if path and is_plain_list(path):
        one_list = split is not None and protocol.train_list == protocol.val_list
        wanted = (args.eval_split or "val") if split == "val" else split
        return read_plain_list(
            root, path, labels=labels, split=wanted if one_list else None, skip_empty=args.skip_empty
        )
    if args.dataset == "folders":
        if path:
            raise UsageError(
                f"--{side}-list: --dataset folders reads whole folders; leave it away, "
                "or use --dataset list (--dataset afew for AFEW's lines `Class/clip Class`)"
            )
        return read_folders(root, labels=labels, skip_empty=args.skip_empty)
    if args.dataset == "list":
        if not os.path.isfile(path or ""):
            raise DataError(f"{path}: no such list file; correct --{side}-list")
        raise DataError(
            f"{path}: neither a plain list (header path,label,...) nor a shared one (<folder> <frames> <label index>); "
            "Data/README.md says how both look"
        )
    assert labels is not None  # all others have a protocol's
    if args.dataset == "ckplus":
        raise UsageError("--dataset ckplus: is evaluated in folds; give --fold N or --fold all")
    if args.dataset == "dfew":
        return read_dfew(root, path, labels=labels, skip_empty=args.skip_empty)
    if args.dataset == "ferv39k":
        return read_ferv39k(root, path, labels=labels, skip_empty=args.skip_empty)
    return read_afew(root, path, labels=labels, skip_empty=args.skip_empty)


def composed_spec(args: argparse.Namespace) -> ComposedSpec:
    """What the flags say of composed clips; one number stands for both ends of a range."""
    given: dict[str, Any] = {}
    for name, flag in (("frames", "clip_frames"), ("telling", "telling")):
        if values := getattr(args, flag, None):
            if len(values) > 2:
                raise UsageError(f"--{flag.replace('_', '-')}: takes one number, or the two ends of a range")
            given[name] = (values[0], values[-1])
    if getattr(args, "distractors", None):
        given["distractors"] = tuple(dict.fromkeys(args.distractors))
    return ComposedSpec(**given)


def read_composed(args: argparse.Namespace, root: Path, side: str) -> ClipSet:
    """The clips that `--dataset composed` makes of FER+ for "train" or "val"."""
    spec = composed_spec(args)
    if side == "train":
        return compose_training(root, spec, args.train_clips or TRAIN_CLIPS, args.seed)
    split = TEST if args.eval_split == "test" else VAL
    with local_main_first():
        return compose_evaluated(
            root, COMPOSED_ROOT, spec, args.val_clips or VAL_CLIPS, split, progress=sys.stderr.isatty()
        )


def _with_persons(args: argparse.Namespace, clips: ClipSet) -> ClipSet:
    """Persons by `--person-pattern`; each clip of the sample shows one person, who has its number."""
    if args.person_pattern:
        return name_persons(clips, args.person_pattern)
    return name_persons(clips, "[^/]+$") if args.dataset == "sample" else clips


def _joined(train: ClipSet, val: ClipSet) -> ClipSet:
    names = {clip.name for clip in everything(train)}
    twice = [clip.name for clip in everything(val) if clip.name in names]
    if twice:
        raise DataError(f"{val.root}: {len(twice)} clips are in {train.root}, too: {twice[0]} for one")
    return ClipSet(
        clips=[*train.clips, *val.clips],
        labels=train.labels,
        listed=train.listed + val.listed,
        skipped=[*train.skipped, *val.skipped],
        root=os.path.commonpath([train.root, val.root]) or ".",
        left_out=[*train.left_out, *val.left_out],
        notes=[*train.notes, *val.notes],
    )
