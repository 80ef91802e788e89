"""Protocols: how each dataset is read, trained on and evaluated, and the flags of the command line on top.

A protocol names its reader, a module of Code.readers, which knows the classes, files and folds of the dataset.
Nothing here imports torch, so a script finds a missing folder before it loads torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..common.errors import UsageError
from ..common.json_files import shaped
from ..common.names import IMAGE_SIZE
from ..common.wording import counted
from ..composed.plan import DISTRACTORS
from ..data.clips import ClipSet, describe
from ..data.folds import persons_in_two_folds, write_fold_file
from ..data.labels import DROPPED
from ..readers.base import DATA_FLAGS, Reader, Request, find_reader

MOST = 999_999_999  # of what a flag counts
PLACES = ("train_root", "val_root", "train_list", "val_list")  # data flags that name files and folders


@dataclass(frozen=True)
class Protocol:
    """How a dataset is read, trained on and evaluated.

    Attributes:
        dataset: the value of `--dataset`.
        reader: name of a module of `Code.readers`.
        num_frames: K, frames per training sample.
        epochs, lr, batch_size (samples), momentum, weight_decay: of SGD.
        decay: factor on the learning rate after each of the epochs `decay_at`.
        samples_per_clip: per epoch; None draws one sample per frame of the training set.
        freeze_backbone: features are computed once, and only the head is trained.
        image_size: input side in pixels if the starting checkpoint does not name one.
        fixed_size: use image_size even if the checkpoint names another.
        select_on: the clips that choose the best epoch: "val", the evaluated ones, "heldout", a tenth of the training
            clips, or "last": none, the last epoch counts as the best.
        data: the clips to read. `resolve` fills it in.
    """

    dataset: str
    reader: str
    num_frames: int = 3
    epochs: int = 180
    lr: float = 4e-6
    batch_size: int = 48
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: float = 0.2
    decay_at: tuple[float, ...] = (60, 120)
    samples_per_clip: int | None = None
    freeze_backbone: bool = False
    image_size: int = IMAGE_SIZE
    fixed_size: bool = False
    select_on: str = "val"
    data: Request = field(default_factory=Request)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and args.json."""
        data = self.data
        return {
            "dataset": self.dataset,
            "labels": data.labels,
            "train_root": data.train_root,
            "val_root": data.val_root,
            "train_list": data.list_file("train"),
            "val_list": data.list_file("val"),
            "one_root": data.one_root,
            "num_folds": data.num_folds,
            "fold": data.fold,
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
            "data_flags": dict(data.flags),
        }

    def input_side(self, of_checkpoint: int | None) -> int:
        """The side of the input in pixels, for a network that was trained at `of_checkpoint`."""
        return self.image_size if self.fixed_size else of_checkpoint or self.image_size

    def trained_for(self, epochs: int) -> Protocol:
        """The same for another number of epochs. The learning rate decays after the same shares of them."""
        return replace(self, epochs=epochs, decay_at=tuple(epochs * at / self.epochs for at in self.decay_at))


# Settings that the dataset's users share: Former-DFER (Zhao and Liu, ACM MM 2021; main_DFEW.py of
# github.com/zengqunzhao/Former-DFER) takes 16 frames of a clip, one sample per clip and epoch, SGD at 0.01 with
# momentum 0.9 and weight decay 1e-4, x 0.1 every 40 of 100 epochs, batches of 32.
_FORMER_DFER = Protocol(
    dataset="",
    reader="",
    num_frames=16,
    epochs=100,
    lr=1e-2,
    batch_size=32,
    decay=0.1,
    decay_at=(40, 80),
    samples_per_clip=1,
)
# Own clips: few epochs, from a network trained on faces, with a learning rate for fine-tuning all of it.
_OWN_CLIPS = Protocol(dataset="", reader="", epochs=15, lr=1e-2, decay_at=(5, 10), samples_per_clip=4)

PROTOCOLS = {
    # Paper and first release: learning rate 4e-6, x 0.2 after 60 and 120 of 180 epochs, batches of 48.
    "afew": Protocol(dataset="afew", reader="afew"),
    # Paper: learning rate 0.1, x 0.2 after 30 of 60 epochs, whole sequences including the apex.
    "ckplus": Protocol(dataset="ckplus", reader="ckplus", epochs=60, lr=0.1, decay_at=(30,)),
    "dfew": replace(_FORMER_DFER, dataset="dfew", reader="dfew"),
    "ferv39k": replace(_FORMER_DFER, dataset="ferv39k", reader="ferv39k"),  # as main_FERV39K.py
    "mafw": replace(_FORMER_DFER, dataset="mafw", reader="mafw"),  # settings of DFEW
    "folders": replace(_OWN_CLIPS, dataset="folders", reader="folders"),
    "list": replace(_OWN_CLIPS, dataset="list", reader="list"),
    # A minute or two on two CPU cores. Only the head is trained: fine-tuning the whole network for the same time was
    # worse (relation-attention 80 to 91 %, correlation 0.3 to 0.6).
    "sample": Protocol(
        dataset="sample",
        reader="sample",
        epochs=48,
        lr=1e-2,
        decay_at=(16, 32),
        batch_size=32,
        samples_per_clip=4,
        freeze_backbone=True,
        image_size=80,  # the shipped backbone's 96 pixels are slower and 4 points worse on drawn faces
        fixed_size=True,
    ),
    # A sample is a whole clip: K is the length of the clips. Only the head is trained: it takes minutes on two CPU
    # cores, and classifies more clips correctly than the whole network trained for the same time.
    "composed": Protocol(
        dataset="composed",
        reader="composed",
        num_frames=16,
        epochs=24,
        lr=1e-2,
        decay_at=(8, 16),
        batch_size=32,
        samples_per_clip=1,
        freeze_backbone=True,
        image_size=80,
    ),
}


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
    about = _stored(info)
    dataset = args.dataset
    if dataset is None:
        dataset = (info or {}).get("dataset") or "afew"
        if dataset not in PROTOCOLS:
            raise UsageError(
                f"--checkpoint {(info or {})['path']}: was trained on {dataset}, which has no protocol here; "
                "choose the data with --dataset"
            )
        flags = about.data_flags.given | flags
    protocol = PROTOCOLS[dataset]
    reader = find_reader(protocol.reader)

    fold = args.fold
    if dataset == (info or {}).get("dataset"):
        fold = about.fold if fold is None else fold
        if isinstance(fold, int):  # the number of a fold means nothing without how the folds were made
            flags = about.flags_of_folds(flags) | flags
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


@dataclass
class StoredFlags:
    """The data flags in a checkpoint: `DATA_FLAGS` that were given, of the types that the command line has."""

    train_root: str | None = None
    val_root: str | None = None
    train_list: str | None = None
    val_list: str | None = None
    skip_empty: bool | None = None
    eval_split: Literal["val", "test"] | None = None
    labels: list[str] | None = None
    root_map: list[str] | None = None
    person_pattern: str | None = None
    folds: int | None = None
    fold_file: str | None = None
    clip_frames: list[int] | None = None
    telling: list[float] | None = None
    distractors: list[str] | None = None
    train_clips: int | None = None
    val_clips: int | None = None

    def __post_init__(self) -> None:
        for name in ("folds", "clip_frames", "train_clips", "val_clips"):
            value = getattr(self, name)
            numbers = value if isinstance(value, list) else [] if value is None else [value]
            if not all(1 <= number <= MOST for number in numbers):
                raise ValueError(f"{name} {value} is not a number from 1 to {MOST}")
        if any("=" not in pair for pair in self.root_map or ()):
            raise ValueError(f"root_map {self.root_map} has something else than OLD=NEW")
        unknown = set(self.distractors or ()) - set(DISTRACTORS)
        if unknown:
            raise ValueError(f"distractors has {unknown.pop()!r}, which is none of {', '.join(DISTRACTORS)}")

    @property
    def given(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class StoredProtocol:
    """The protocol in a checkpoint, as far as `-e` takes it over: the data flags, the fold and the number of folds."""

    data_flags: StoredFlags = field(default_factory=StoredFlags)
    fold: int | None = None
    num_folds: int | None = None

    def flags_of_folds(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """The data flags that made the folds; none if other flags name other data than those of the training."""
        stored = self.data_flags.given
        if any(flags[name] != stored.get(name) for name in PLACES if name in flags):
            return {}
        return {name: stored[name] for name in ("folds", "fold_file", "person_pattern") if name in stored}


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
            trained, fold = _stored(info), (data.fold, protocol.data.num_folds)
            if same and trained.fold is not None and fold != (trained.fold, trained.num_folds):
                print(
                    f"warning: the checkpoint is of fold {trained.fold} of {trained.num_folds}, so fold {fold[0]} of "
                    f"{fold[1]} has clips that it was trained on",
                    file=sys.stderr,
                )
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
