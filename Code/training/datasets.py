"""From flags to data: which protocol, which lists, which clips.

Which reader for which flags: a split, a whole set, or its folds.

The quick part of the dataset doctor, before a training or an evaluation; its progress.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from Code.common.errors import UsageError
from Code.data.clips import ClipSet, DataError, describe
from Code.data.composed.clips import TEST, VAL, compose_evaluated, compose_training
from Code.data.composed.plan import ComposedSpec
from Code.data.doctor.check import check
from Code.data.doctor.files import scan
from Code.data.doctor.findings import Split
from Code.data.folds import (
    Folds,
    everything,
    folds_as_listed,
    folds_by_person,
    folds_from_file,
    name_persons,
    persons_in_two_folds,
    read_fold_file,
    write_fold_file,
)
from Code.data.readers.afew import read_afew, read_folders
from Code.data.readers.ckplus import read_ckplus
from Code.data.readers.dfew import read_dfew
from Code.data.readers.ferv39k import read_ferv39k
from Code.data.readers.plainlist import is_plain_list, read_plain_list
from Code.data.readers.sharedlist import SHARED_LABELS, is_shared_list, read_shared_list
from Code.data.sample import draw_sample, read_intensity
from Code.training.distributed import from_main, local_main_first, world
from Code.training.engine import Intensities
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


CHECKED_FRAMES = 200_000  # up to here every frame's header is looked at first, about 10 s


def look_over(train: ClipSet, val: ClipSet, protocol: Protocol, check_images: bool) -> None:
    """Prints what is suspicious about the data of a training; one of several processes looks, all hear of it.

    Args:
        check_images: look into image files too, if they are not too many.

    Raises:
        DataError: all files that are no images.
    """
    report = from_main(
        lambda: check(
            {"train": Split(train), "val": Split(val)},
            num_frames=protocol.num_frames,
            known_labels=protocol.labels,
            decode=False,
            headers=check_images and _few_frames(train, val),
            progress=ShownProgress("looking at frames"),
        )
    )
    broken = [item for finding in report.found("error") for item in finding.items]
    if broken:
        raise DataError(broken)
    if world().is_main:
        for finding in report.found("warning"):
            print(f"warning: {finding.line()}", file=sys.stderr)


def refuse_broken_images(clips: ClipSet) -> None:
    """All files of one split that are no images in one error, before an evaluation meets them one by one."""
    if _few_frames(clips):
        facts = from_main(lambda: scan(clips.clips, decode=False, progress=ShownProgress("looking at frames")))
        broken = [line for clip in facts for _, line in clip.faults]
        if broken:
            raise DataError(broken)


def _few_frames(*sets: ClipSet) -> bool:
    """Whether looking at every header is a matter of seconds."""
    return sum(len(clip) for clips in sets if clips.in_files for clip in clips.clips) <= CHECKED_FRAMES


class ShownProgress:
    """Progress on stderr: a bar on a terminal, elsewhere a line now and then.

    Args:
        label: what is being done.
        interval: seconds between two lines.
    """

    def __init__(self, label: str, interval: float = 10.0) -> None:
        self.label, self.interval = label, interval
        self.bar: tqdm | None = None
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Shows that `done` of `total` are done."""
        if sys.stderr.isatty():
            if self.bar is None:
                self.bar = tqdm(total=total, desc=self.label, unit=" frames", leave=False, dynamic_ncols=True)
            self.bar.update(done - self.bar.n)
            if done >= total:
                self.bar.close()
        elif time.monotonic() - self.last > self.interval:
            self.last = time.monotonic()
            print(f"{self.label}: {done} of {total}", file=sys.stderr, flush=True)
