"""`Reader`: all that is said about a dataset in one entry, and what all datasets have in common.

A module of `Code.readers` with a `Reader` in it is a dataset. Where its lists or folders differ from AFEW's, it hands
in a function, `parse_line` or `scan`. Readers look at names, never at pixels, and import no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..common.errors import UsageError
from ..common.names import counted
from ..data.clips import ClipSet, DataError
from ..data.folds import Folds, folds_by_person, folds_from_file, name_persons
from ..data.intensity import Intensities
from ..data.listing import Lines, ListedClip, Listing, class_line, read_lines, two_spellings
from ..data.request import Request, TrainingProtocol
from .tables import SHARED_LABELS, is_shared_list, is_table, read_shared_list, read_table

DEFAULT_FOLDS = 5  # if neither the dataset nor a flag gives a number


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A dataset. Subclasses override what differs by more than a value or a function.

    Attributes:
        parse_line: (line, its number, labels) -> the clip of a line of the dataset's own lists, or None for a header.
            Raises ValueError with what is wrong. None: the dataset has no lists of its own.
        scan: fills in the clips of the folders; None: the dataset needs a list.
        intensities: the true importance of every frame, [T] by clip name; None if it is unknown.
    """

    name: str  # the value of `--dataset`
    title: str  # in reports: "AFEW"
    trained_on: str  # what a network was trained on, in words: "film clips (AFEW)"
    protocol: TrainingProtocol
    crop: Literal["paper", "fer2013", "own"] = "paper"  # as by Prepare_Faces.py, in color; FER2013's, in gray; another
    labels: tuple[str, ...] | None = None  # in the order of their indices; None if folders or a list name them
    train_root: str = ""  # usual folders of the two splits
    val_root: str = ""  # "": all clips and the usual lists are in one folder
    train_list: str | None = None  # usual lists; `{fold}` in a name stands for the number of a fold
    val_list: str | None = None
    num_folds: int | None = None  # k of the dataset's cross-validation; None for a fixed split
    makes_folds: bool = False  # the clips can be divided: persons are known or can be named
    person_pattern: str | None = None  # finds the person in a clip's name if no flag says how
    frame_folders: tuple[str, ...] = ()  # the clips are in the first of these below the root that exists, else in it
    layout: str = ""  # where its files belong, for users who have not put them in place; "" for AFEW's layout
    parse_line: Callable[[str, int, Sequence[str]], ListedClip | None] | None = class_line
    scan: Callable[[Listing, Request], None] | None = None
    prepare: Callable[[Request], None] = lambda request: None  # generates the data if they are not there yet
    index_labels: tuple[str, ...] = SHARED_LABELS  # the meaning of the indices in lists that other projects share of it
    intensities: Callable[[ClipSet], Intensities | None] = lambda clips: None

    # What a request means

    def check(self, request: Request) -> None:
        """Raises UsageError, naming the flag, if flags do not go with this dataset."""
        if request.labels and self.labels:
            raise UsageError(f"--labels: {self.name} has its own classes; use --labels with --dataset list or folders")
        if twice := two_spellings(request.labels or ()):
            raise UsageError(f"--labels: {'; '.join(twice)}; name each class once")
        if not (self.scan or self.parse_line or request.train_list or request.val_list):
            raise UsageError(
                f"--dataset {self.name}: name it with --train-list FILE (and --val-list FILE if there are two)"
            )
        if request.fold and not (self.makes_folds or request.train_list or self.has_list_per_fold(request)):
            raise UsageError(
                f"--fold: {self.name} has a fixed split, no folds; omit --fold, or name one list per fold with "
                "{fold} in its name: --train-list set_{fold}_train.txt --val-list set_{fold}_test.txt"
            )

    def located(self, request: Request) -> Request:
        """The request with the usual folders and lists where no flag names one, and the fold's number in the names."""
        train_list, val_list = request.train_list, request.val_list
        train_root = request.train_root or self.train_root or os.path.dirname(train_list or val_list or "") or "."
        val_root = request.val_root or self.val_root or train_root
        if self.val_root:  # two trees (AFEW): a usual list belongs to its usual folder, and may be missing
            if not request.train_root and self.train_list and os.path.isfile(self.train_list):
                train_list = train_list or self.train_list
            if not request.val_root and self.val_list and os.path.isfile(self.val_list):
                val_list = val_list or self.val_list
        elif self.train_list and self.val_list:  # one tree with a list of each split (DFEW)
            train_list = train_list or os.path.join(train_root, self.train_list)
            val_list = val_list or os.path.join(train_root, self.val_list)
        else:  # one list may have both splits
            train_list, val_list = train_list or val_list, val_list or train_list
        train_list, val_list = _of_fold(train_list, request.fold), _of_fold(val_list, request.fold)
        return replace(request, train_root=train_root, val_root=val_root, train_list=train_list, val_list=val_list)

    def has_list_per_fold(self, request: Request) -> bool:
        """Whether each fold has lists of its own (DFEW), instead of being a part of one set."""
        return _of_folds(request.train_list or self.train_list, request.val_list or self.val_list)

    def needs_folds(self, request: Request) -> bool:
        """Whether the clips have no fixed split, so that they are evaluated in folds even without `--fold`."""
        if request.train_list or request.val_list:
            return _of_folds(request.train_list, request.val_list)
        return self.num_folds is not None

    def frames_per_sample(self, request: Request) -> int | None:
        """K, the frames per training sample, if it depends on the data; else None."""
        return None

    # From a request to clips

    def read(self, request: Request, split: str | None, labels: Sequence[str] | None = None) -> ClipSet:
        """Reads one split.

        Args:
            split: "train" or "val"; None reads all clips of the training root and list.
            labels: class names in the order of their indices; None takes the dataset's, the request's or the data's.

        Raises:
            DataError: all problems of the list and the folders.
        """
        request = self.located(request)
        root, path = request.train_root or "", request.train_list
        if split == "val":
            root, path = request.val_root or "", request.val_list
        names = tuple(labels or self.labels or request.labels or ())
        below = [os.path.join(root, name) for name in self.frame_folders]
        folder = next(filter(os.path.isdir, below), root)
        listing = Listing(folder, names, path or "", self.layout)
        if not path or not os.path.exists(path):
            listing.require_root()
        if path:
            one_list = request.train_list == request.val_list
            if one_list and split == "val":
                split = request.eval_split or "val"
            self._parse(listing, read_lines(path), request, split if one_list else None)
        elif self.scan:
            self.scan(listing, request)
        clips = listing.find_frames(skip_empty=request.skip_empty)
        pattern = request.person_pattern or self.person_pattern
        return name_persons(clips, pattern) if pattern else clips

    def _parse(self, listing: Listing, lines: Lines, request: Request, split: str | None) -> None:
        """Fills in the clips of a list, in the format of its first line; of a table, those of a split, or all."""
        first, parse_line = lines[0][1] if lines else "", self.parse_line
        if not lines:
            listing.problems.append(f"{listing.list_file}: the list is empty")
        elif is_shared_list(first):
            read_shared_list(listing, lines, request.labels or self.index_labels, request.root_map)
        elif is_table(first):
            read_table(listing, lines, split)
        elif parse_line:
            listing.parse(lines, lambda line, number: parse_line(line.strip("\t "), number, listing.labels))
        else:
            listing.problems.append(
                f"{listing.list_file}: neither a table (header path,label,...) nor a shared list (<folder> <frames> "
                "<label index>); see Data/README.md for both formats"
            )

    def read_pair(self, request: Request) -> tuple[ClipSet, ClipSet, int | None]:
        """Reads the training and validation sets. Also returns the number of folds, None without folds.

        Raises:
            DataError: the problems of the first set that has some.
            UsageError: there is no such fold.
        """
        count = None
        if isinstance(request.fold, int):
            folds = None if self.has_list_per_fold(request) else self.make_folds(request)
            count = folds.count if folds else self.count_folds(request)
            if request.fold > count:
                raise UsageError(
                    f"--fold {request.fold}: there are {count} folds; give a number from 1 to {count}, or all"
                )
            if folds:
                return folds.train(request.fold), folds.val(request.fold), count
        train = self.read(request, "train")
        return train, self.read(request, "val", train.labels), count

    # Folds

    def read_all(self, request: Request, labels: Sequence[str] | None = None) -> ClipSet:
        """Reads the clips of both splits as one set."""
        if self.has_list_per_fold(request):
            request = replace(request, fold=1)
        paths = self.located(request)
        one_list = request.train_list and not request.val_list
        if one_list or (paths.train_root, paths.train_list) == (paths.val_root, paths.val_list):
            return self.read(request, None, labels)
        train = self.read(request, "train", labels)
        val = self.read(request, "val", train.labels)
        names = {clip.name for clip in train.everything}
        if twice := [clip.name for clip in val.everything if clip.name in names]:
            raise DataError(f"{val.root}: {counted(len(twice), 'clip')} also in {train.root}, e.g. {twice[0]}")
        root = os.path.commonpath([os.path.abspath(train.root), os.path.abspath(val.root)])
        return ClipSet([*train.everything, *val.everything], train.labels, root, [*train.notes, *val.notes])

    def count_folds(self, request: Request) -> int:
        """The number of folds, k."""
        if self.has_list_per_fold(request):
            return request.folds or self.num_folds or DEFAULT_FOLDS
        return self.make_folds(request).count

    def make_folds(self, request: Request) -> Folds:
        """Divides all clips into folds: by a fold file or by their list, else by person.

        Raises:
            DataError: all problems of the data or the fold file.
        """
        clips = self.read_all(request)
        listed = any(clip.fold for clip in clips.everything)
        if listed:  # of CK+, by the fold file
            if request.folds and not request.fold_file:
                raise UsageError(f"--folds {request.folds}: the list has a fold for each clip; omit --folds")
            return Folds(clips, "folds as listed")
        if request.fold_file:
            return folds_from_file(clips, request.fold_file)
        return folds_by_person(clips, request.folds or self.num_folds or DEFAULT_FOLDS)


def _of_fold(path: str | None, fold: int | str | None) -> str | None:
    """A list with the fold's number in its name; None for "none"."""
    if path is None or path == "none":
        return None
    return path.replace("{fold}", str(fold)) if isinstance(fold, int) else path


def _of_folds(*paths: str | None) -> bool:
    return any("{fold}" in (path or "") for path in paths)
