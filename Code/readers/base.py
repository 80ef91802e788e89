"""The interface of readers, and what they have in common: folders, lists, splits and folds.

A dataset needs a function that reads one list or folder, and a `Request` that says where its files usually are:

    reader = Reader("dfew", read_dfew, Request(labels=DFEW_LABELS, train_root="Data/DFEW", ...))

Readers look at names, never at pixels, and import no torch: a script finds a missing folder before it loads torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import UsageError
from ..common.wording import counted
from ..data.clips import ClipSet, DataError
from ..data.folds import (
    Folds,
    everything,
    folds_as_listed,
    folds_by_person,
    folds_from_file,
    name_persons,
    read_fold_file,
)
from ..data.intensity import Intensities
from .plainlist import is_plain_list, read_plain_list
from .sharedlist import SHARED_LABELS, is_shared_list, read_shared_list

ROOMS = ("sample", "composed")  # datasets with a room of their own
DEFAULT_FOLDS = 5  # if neither the dataset nor a flag gives a number
# Flags of the command line that say which clips are read. Checkpoints keep those that were given.
DATA_FLAGS = (
    "train_root", "val_root", "train_list", "val_list", "skip_empty", "eval_split", "labels", "root_map",
    "person_pattern", "folds", "fold_file", "clip_frames", "telling", "distractors", "train_clips", "val_clips",
)  # fmt: skip
Labels = Sequence[str] | None


@dataclass(frozen=True)
class Request:
    """Which clips to read.

    Attributes:
        labels: the dataset's class names in the order of their indices; None if folders or a list name them.
        train_root, val_root: folders of the two splits.
        train_list, val_list: list files, or None; `{fold}` in a name stands for the fold's number.
        one_root: all clips are in one tree, `train_root`, and the default lists are in it.
        num_folds: k of the dataset's cross-validation; None for a fixed split.
        fold: the fold to evaluate, from 1; None for a fixed split or for all folds.
        all_folds: every fold is evaluated in turn.
        flags: the data flags as the command line gave them; the attributes below come from them.
        label_order: `--labels`.
        folds: `--folds`.
        fold_file: `--fold-file`.
        person_pattern: `--person-pattern`.
        root_map: `--root-map`, as (old, new).
        eval_split: `--eval-split`, "val" or "test".
        skip_empty: skip clips without frames instead of raising.
        seed: of all random draws.
    """

    labels: tuple[str, ...] | None = None
    train_root: str = ""
    val_root: str = ""
    train_list: str | None = None
    val_list: str | None = None
    one_root: bool = False
    num_folds: int | None = None
    fold: int | None = None
    all_folds: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)
    label_order: tuple[str, ...] | None = None
    folds: int | None = None
    fold_file: str | None = None
    person_pattern: str | None = None
    root_map: tuple[tuple[str, str], ...] = ()
    eval_split: str = "val"
    skip_empty: bool = False
    seed: int = 0

    def with_flags(self, flags: Mapping[str, Any], seed: int = 0) -> Request:
        """The same, overridden by flags of the command line. Roots and lists are left to `Reader.locate`."""
        pairs = [text.partition("=") for text in flags.get("root_map", ())]
        return replace(
            self,
            flags=dict(flags),
            label_order=tuple(flags["labels"]) if "labels" in flags else None,
            folds=flags.get("folds"),
            fold_file=flags.get("fold_file"),
            person_pattern=flags.get("person_pattern"),
            root_map=tuple((old, new) for old, _, new in pairs),
            eval_split=flags.get("eval_split", "val"),
            skip_empty=flags.get("skip_empty", False),
            seed=seed,
        )

    def at_fold(self, fold: int) -> Request:
        """The same request for one fold, from 1."""
        return replace(self, fold=fold, all_folds=False)

    def root(self, split: str) -> str:
        """The folder of "train" or "val"."""
        return self.train_root if split == "train" else self.val_root

    def list_file(self, split: str) -> str | None:
        """The list of "train" or "val", with the number of the fold in its name."""
        path = self.train_list if split == "train" else self.val_list
        return path if path is None or self.fold is None else path.replace("{fold}", str(self.fold))

    @property
    def lists_per_fold(self) -> bool:
        """Whether each fold has separate lists (DFEW), instead of being a part of one set."""
        return any("{fold}" in (path or "") for path in (self.train_list, self.val_list))


class Reader:
    """Reads one dataset. Subclasses override what differs.

    Args:
        name: the dataset, for messages.
        read: `read(root, list_file, *, labels, skip_empty)` reads one split. `list_file` may be None.
        defaults: where the files are if no flag says otherwise.

    Attributes:
        makes_folds: the clips can be divided into folds, because persons are known or can be named.
        person_pattern: finds the person in a clip's name if no flag says how.
        writes: reading may write files first, so that one process of a machine must read before the others.
        checkpoint_labels: an evaluation takes the order of the classes from the checkpoint.
        shared_labels: the meaning of the indices in shared lists of this dataset.
    """

    makes_folds = False
    person_pattern: str | None = None
    writes = False
    checkpoint_labels = False
    shared_labels: tuple[str, ...] = SHARED_LABELS

    def __init__(self, name: str, read: Callable[..., ClipSet] | None, defaults: Request) -> None:
        self.name, self.defaults = name, defaults
        self._read_one = read

    # From flags to a request

    def request(
        self, flags: Mapping[str, Any], *, fold: int | None = None, all_folds: bool = False, seed: int = 0
    ) -> Request:
        """The request that the flags of the command line make.

        Args:
            flags: those of `DATA_FLAGS` that were given.
            fold, all_folds, seed: see `Request`.

        Raises:
            UsageError: a flag does not go with this dataset.
        """
        request = replace(self.defaults.with_flags(flags, seed), fold=fold, all_folds=all_folds)
        request = self.locate(request)
        if request.label_order and request.labels:
            raise UsageError(f"--labels: {self.name} has its own classes; use --labels with --dataset list or folders")
        return request

    def locate(self, request: Request) -> Request:
        """Fills in the roots and lists: those that flags name, else the usual ones."""
        usual, flags = self.defaults, request.flags
        root = flags.get("train_root") or usual.train_root
        if usual.one_root:
            lists = (
                usual.train_list and os.path.join(root, usual.train_list),
                usual.val_list and os.path.join(root, usual.val_list),
            )
            return replace(
                request,
                train_root=root,
                val_root=flags.get("val_root") or root,
                train_list=flags.get("train_list") or lists[0],
                val_list=flags.get("val_list") or lists[1],
            )
        return replace(
            request,
            train_root=root,
            val_root=flags.get("val_root") or usual.val_root,
            train_list=_list_file(flags.get("train_list"), usual.train_list, "train_root" in flags),
            val_list=_list_file(flags.get("val_list"), usual.val_list, "val_root" in flags),
        )

    def frames_per_sample(self, request: Request) -> int | None:
        """K, the frames per training sample, if it depends on the data; else None."""
        return None

    def needs_folds(self, flags: Mapping[str, Any]) -> bool:
        """Whether the clips have no fixed split, so that they are evaluated in folds even without `--fold`."""
        lists = [flags[name] for name in ("train_list", "val_list") if name in flags]
        if lists:
            return any("{fold}" in path for path in lists)
        return self.defaults.num_folds is not None

    # From a request to clips

    def prepare(self, request: Request) -> None:
        """Generates the data if they are generated and not there yet."""

    def is_missing(self, request: Request) -> bool:
        """Whether a root or a list is missing, so that reading raises an error."""
        if request.all_folds and request.lists_per_fold:
            request = request.at_fold(1)
        places = [(request.root(split), request.list_file(split)) for split in ("train", "val")]
        return any(not os.path.isdir(root) or (path and not os.path.exists(path)) for root, path in places)

    def read(self, request: Request, split: str, labels: Labels = None) -> ClipSet:
        """Reads one split.

        Args:
            split: "train" or "val".
            labels: class names in the order of their indices; None takes the request's or the data's.

        Raises:
            DataError: all problems of the list and the folders.
        """
        return self._with_persons(request, self._read(request, split, labels or request.labels or request.label_order))

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        """Reads the clips of both splits as one set."""
        labels = labels or request.labels or request.label_order
        if request.lists_per_fold:
            request = request.at_fold(1)
        sides = [(request.root(split), request.list_file(split)) for split in ("train", "val")]
        if sides[0] == sides[1] or is_plain_list(request.list_file("train") or ""):  # one tree, or one list for both
            return self._with_persons(request, self._read(request, None, labels))
        train = self._read(request, "train", labels)
        return self._with_persons(request, _joined(train, self._read(request, "val", train.labels)))

    def read_pair(self, request: Request) -> tuple[ClipSet, ClipSet, int | None]:
        """Reads the training and validation sets. Also returns the number of folds, None without folds.

        Raises:
            DataError: the problems of both sets.
            UsageError: there is no such fold.
        """
        fold, count = request.fold, None
        if fold is not None:
            count = self.count_folds(request) if request.lists_per_fold else None
            if count is None:
                parts = self.make_folds(request)
                _check_fold(fold, parts.count)
                return parts.train(fold), parts.val(fold), parts.count
            _check_fold(fold, count)
        train, errors = None, []
        try:
            train = self.read(request, "train")
        except DataError as error:
            errors.append(error)
        try:
            val = self.read(request, "val", train.labels if train else None)
        except DataError as error:
            errors.append(error)
        if errors:
            raise DataError.joined(errors)
        assert train is not None
        return train, val, count

    def count_folds(self, request: Request) -> int:
        """The number of folds, k."""
        if request.lists_per_fold:
            return request.folds or request.num_folds or DEFAULT_FOLDS
        return self.make_folds(request).count

    def make_folds(self, request: Request) -> Folds:
        """Divides all clips into folds: by a fold file or by their list, else by person.

        Raises:
            UsageError: clips of this dataset have a fixed split.
            DataError: all problems of the data or the fold file.
        """
        if not self.makes_folds and not is_plain_list(request.train_list or ""):
            raise UsageError(
                f"--fold: {self.name} has a fixed split, no folds; omit --fold, or name one list per fold with "
                "{fold} in its name: --train-list set_{fold}_train.txt --val-list set_{fold}_test.txt"
            )
        clips = self.read_all(request)
        listed = any(clip.fold for clip in everything(clips))
        if request.fold_file and not listed:  # listed: CK+'s reader has read the file
            members, problems = read_fold_file(request.fold_file, clips.labels)
            if problems:
                raise DataError(problems, request.fold_file)
            return folds_from_file(clips, members, request.fold_file)
        if listed:
            if request.folds and not request.fold_file:
                raise UsageError(f"--folds {request.folds}: the list has a fold for each clip; omit --folds")
            return folds_as_listed(clips)
        return folds_by_person(clips, request.folds or request.num_folds or DEFAULT_FOLDS)

    def intensities(self, clips: ClipSet) -> Intensities | None:
        """The true importance of every frame, [T] by clip name; None if it is unknown."""
        return None

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        """Reads one split in the dataset's own format."""
        assert self._read_one is not None
        return self._read_one(
            request.root(split), request.list_file(split), labels=labels, skip_empty=request.skip_empty
        )

    def _read(self, request: Request, split: str | None, labels: Labels) -> ClipSet:
        """Reads a split in the format of its list; None reads all clips of the training root and list."""
        side = split or "train"
        root, path = request.root(side), request.list_file(side)
        if path and is_shared_list(path):
            return read_shared_list(
                root,
                path,
                labels=labels or self.shared_labels,
                meaning=request.label_order or self.shared_labels,
                root_map=request.root_map,
                skip_empty=request.skip_empty,
            )
        if path and is_plain_list(path):
            one_list = split is not None and request.list_file("train") == request.list_file("val")
            wanted = request.eval_split if split == "val" else split
            return read_plain_list(
                root, path, labels=labels, split=wanted if one_list else None, skip_empty=request.skip_empty
            )
        return self.read_split(request, side, labels)

    def _with_persons(self, request: Request, clips: ClipSet) -> ClipSet:
        pattern = request.person_pattern or self.person_pattern
        return name_persons(clips, pattern) if pattern else clips


def _list_file(given: str | None, usual: str | None, root_given: bool) -> str | None:
    """The list that was given, else the usual one if it exists and the usual root is read."""
    if given is not None:
        return None if given.lower() == "none" else given
    return usual if usual and not root_given and os.path.isfile(usual) else None


def _check_fold(fold: int, count: int) -> None:
    if fold > count:
        raise UsageError(f"--fold {fold}: there are {count} folds; give a number from 1 to {count}, or all")


def _joined(train: ClipSet, val: ClipSet) -> ClipSet:
    names = {clip.name for clip in everything(train)}
    twice = [clip.name for clip in everything(val) if clip.name in names]
    if twice:
        raise DataError(f"{val.root}: {counted(len(twice), 'clip')} also in {train.root}, e.g. {twice[0]}")
    return ClipSet(
        clips=[*train.clips, *val.clips],
        labels=train.labels,
        listed=train.listed + val.listed,
        skipped=[*train.skipped, *val.skipped],
        root=os.path.commonpath([train.root, val.root]) or ".",
        left_out=[*train.left_out, *val.left_out],
        notes=[*train.notes, *val.notes],
    )


def find_reader(name: str) -> Reader:
    """The reader of a dataset: of the module `Code.readers.<name>`, or of its own room."""
    module = f"..{name}.reader" if name in ROOMS else f".{name}"
    reader = importlib.import_module(module, __package__).reader
    assert isinstance(reader, Reader)
    return reader
