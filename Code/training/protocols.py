"""Protocols: how each dataset is read, trained on and evaluated, and the flags of the command line on top.

A protocol names its reader, a module of Code.readers, which knows the classes, files and folds of the dataset.
Nothing here imports torch, so a script finds a missing folder before it loads torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.json_files import shaped
from ..common.wording import counted
from ..data.clips import ClipSet, describe
from ..data.folds import persons_in_two_folds, write_fold_file
from ..data.labels import DROPPED
from ..data.request import Request
from ..readers import find, names
from ..readers.base import Reader
from .settings import Protocol as Usual

PLACES = ("train_root", "val_root", "train_list", "val_list")  # data flags that name files and folders


@dataclass(frozen=True, kw_only=True)
class Protocol(Usual):
    """How a dataset is read, trained on and evaluated in one run.

    Attributes:
        dataset: the value of `--dataset`.
        select_on: the clips that choose the best epoch: "val", the evaluated ones, "heldout", a tenth of the training
            clips, or "last": none, the last epoch counts as the best.
        data: the clips to read.
        num_folds: k, once the clips have been read.
    """

    dataset: str
    select_on: str = "val"
    data: Request = field(default_factory=Request)
    num_folds: int | None = None

    @property
    def reader(self) -> Reader:
        """The dataset."""
        return find(self.dataset)

    @property
    def fold(self) -> int | None:
        """The fold to evaluate, from 1; None for a fixed split or for all folds."""
        return self.data.fold if isinstance(self.data.fold, int) else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and args.json."""
        data, sources = self.data, self.reader.sources(self.data)
        return {
            "dataset": self.dataset,
            "labels": self.reader.labels,
            "train_root": sources.train_root,
            "val_root": sources.val_root,
            "train_list": sources.train_list,
            "val_list": sources.val_list,
            "num_folds": self.num_folds or self.reader.num_folds,
            "fold": self.fold,
            "num_frames": self.num_frames,
            "epochs": self.epochs,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "decay": self.decay,
            "decay_at": list(self.decay_at),
            "samples_per_clip": self.samples_per_clip,
            "freeze_backbone": self.freeze_backbone,
            "image_size": self.image_size,
            "select_on": self.select_on,
            "data_flags": data.given(),
        }

    def input_side(self, of_checkpoint: int | None) -> int:
        """The side of the input in pixels, for a network that was trained at `of_checkpoint`."""
        return self.image_size if self.fixed_size else of_checkpoint or self.image_size


def resolve(args: argparse.Namespace, info: dict[str, Any] | None = None) -> Protocol:
    """The dataset's protocol, overridden by flags: which clips to read, and how to train on them.

    Args:
        args: the flags of the main script.
        info: the description in the checkpoint to evaluate (`-e`); None for a training. Without `--dataset`, the data
            of the checkpoint's training are read, with the same data flags.

    Raises:
        UsageError: flags contradict each other or the dataset.
    """
    data = Request.of(vars(args))
    stored = _stored(info)
    dataset = args.dataset
    if dataset is None:
        dataset = (info or {}).get("dataset") or "afew"
        if dataset not in names():
            raise UsageError(
                f"--checkpoint {(info or {})['path']}: was trained on {dataset}, which has no protocol here; "
                "choose the data with --dataset"
            )
        data = Request.of({**stored.data_flags.given(), **data.given(), "fold": data.fold, "seed": data.seed})
    reader = find(dataset)
    if dataset == (info or {}).get("dataset"):
        data = replace(data, fold=stored.fold if data.fold is None else data.fold)
        if isinstance(data.fold, int):  # the number of a fold means nothing without how the folds were made
            data = stored.with_folds(data)
    if data.fold is None and reader.needs_folds(data):
        data = replace(data, fold="all")
    if info is None:
        _check_series(args, data.fold)
    reader.check(data)

    settings = {
        "num_frames": args.frames or reader.frames_per_sample(data),
        "lr": args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "batch_size": args.batch_size,
        "samples_per_clip": args.samples_per_clip,
        "select_on": args.select_on,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    protocol = Protocol(dataset=dataset, data=data, **(vars(reader.protocol) | given))
    if args.epochs is not None:
        protocol = protocol.trained_for(args.epochs)
    return replace(protocol, freeze_backbone=_frozen(args, protocol))


@dataclass
class StoredProtocol:
    """The protocol in a checkpoint, as far as `-e` takes it over: the data flags, the fold and the number of folds."""

    data_flags: Request = field(default_factory=Request)
    fold: int | None = None
    num_folds: int | None = None

    def with_folds(self, data: Request) -> Request:
        """A request with the flags that made the folds, unless it names other data than those of the training."""
        stored = self.data_flags
        if any(value and value != getattr(stored, name) for name in PLACES if (value := getattr(data, name))):
            return data
        made_by = ("folds", "fold_file", "person_pattern")
        return replace(data, **{name: getattr(data, name) or getattr(stored, name) for name in made_by})


def _stored(info: dict[str, Any] | None) -> StoredProtocol:
    """The protocol of the checkpoint to evaluate, checked."""
    if not info or not info.get("protocol"):
        return StoredProtocol()
    place = f"{info['path']}: protocol"
    return shaped(info["protocol"], StoredProtocol, place=place, remedy="name another checkpoint, or the data's flags")


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
    frozen = bool(wanted) and not random_weights
    if args.keep_classifier and random_weights:
        raise UsageError("--keep-classifier: needs a trained classifier; omit --pretrained none")
    return frozen


def label_map(args: argparse.Namespace) -> dict[str, str]:
    """`--map-labels DATA=CHECKPOINT ...` as a dictionary from classes of the data to classes of the checkpoint."""
    pairs = [pair.partition("=") for pair in args.map_labels or ()]
    return {old: new for old, _, new in pairs}


def training_label_map(args: argparse.Namespace, labels: Sequence[str]) -> dict[str, str]:
    """`label_map` of a training on data with these classes, which says where the starting weights of a class are.

    Raises:
        UsageError: it names another class, or drops one.
    """
    mapping = label_map(args)
    for old, new in mapping.items():
        if old not in labels:
            raise UsageError(
                f"--map-labels {old}={new}: {old} is not a class of the data; its classes are {', '.join(labels)}"
            )
        if new == DROPPED:
            raise UsageError(
                f"--map-labels {old}={new}: drops a class in an evaluation (-e) only; train on data without {old}"
            )
    return mapping


def check_paths(protocol: Protocol) -> None:
    """Checks that roots and lists exist.

    Raises:
        DataError: the error of reading the training and validation sets, if something is missing.
    """
    reader, data = protocol.reader, protocol.data
    if reader.is_missing(data):
        reader.read_pair(data.at_fold(1) if data.fold == "all" else data)


@contextmanager
def opened(protocol: Protocol) -> Iterator[Reader]:
    """The protocol's reader. If reading writes files, the first process of a machine runs the block first."""
    reader = protocol.reader
    if not reader.writes:
        yield reader
        return
    from .distributed import local_main_first  # imports torch

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
    if protocol.fold is not None:
        print(f"fold {protocol.fold} of {protocol.num_folds}")
    print(f"train: {describe(train)}\nval:   {describe(val)}")
    print_labels(train.labels)
    for note in dict.fromkeys([*train.notes, *val.notes]):
        print(f"note:  {note}")
    return train, val, protocol


def _read_pair(reader: Reader, protocol: Protocol) -> tuple[ClipSet, ClipSet, Protocol]:
    train, val, count = reader.read_pair(protocol.data)
    return train, val, replace(protocol, num_folds=count)


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
        if isinstance(data.fold, int):
            _, val, protocol = _read_pair(reader, protocol)
            trained, fold = _stored(info), (data.fold, protocol.num_folds)
            if same and trained.fold is not None and fold != (trained.fold, trained.num_folds):
                print(
                    f"warning: the checkpoint is of fold {trained.fold} of {trained.num_folds}, so fold {fold[0]} of "
                    f"{fold[1]} has clips that it was trained on",
                    file=sys.stderr,
                )
            return val, protocol
        if data.fold is None:
            return reader.read(data, "val", reader.labels or labels), protocol
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
