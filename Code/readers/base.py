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
from ..common.names import counted, quoted
from ..data.clips import ClipSet, DataError
from ..data.folds import Folds, folds_as_listed, folds_by_person, folds_from_file, name_persons
from ..data.intensity import Intensities
from ..data.listing import Lines, ListedClip, Listing, class_line, read_lines, two_spellings
from ..data.request import Protocol, Request
from .tables import SHARED_LABELS, is_shared_list, is_table, read_shared_list, read_table

DEFAULT_FOLDS = 5  # if neither the dataset nor a flag gives a number
Labels = Sequence[str] | None


@dataclass(frozen=True)
class Sources:
    """The folders and lists of the two splits. A list may be None, and `{fold}` in its name stands for a number."""

    train_root: str
    val_root: str
    train_list: str | None
    val_list: str | None

    def of(self, split: str) -> tuple[str, str | None]:
        """(root, list) of "train" or "val"."""
        return (self.train_root, self.train_list) if split == "train" else (self.val_root, self.val_list)

    def at_fold(self, fold: int) -> Sources:
        """With the number of a fold in the names of the lists."""
        train, val = (path and path.replace("{fold}", str(fold)) for path in (self.train_list, self.val_list))
        return replace(self, train_list=train, val_list=val)

    @property
    def list_per_fold(self) -> bool:
        """Whether each fold has lists of its own (DFEW), instead of being a part of one set."""
        return any("{fold}" in (path or "") for path in (self.train_list, self.val_list))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A dataset. Subclasses override what differs by more than a value or a function.

    Attributes:
        name: the value of `--dataset`.
        title: what reports call it: "AFEW".
        trained_on: what a network was trained on, in words: "film clips (AFEW)".
        protocol: how it is usually trained on.
        crop: how its faces are cropped: "paper" (as by Prepare_Faces.py, in color), "fer2013" (FER2013's crop, in gray)
            or "own".
        labels: the class names in the order of their indices; None if folders or a list name them.
        train_root, val_root: usual folders of the two splits. Without `val_root`, all clips are in one tree, and the
            usual lists are in it.
        train_list, val_list: usual lists, or None.
        num_folds: k of the dataset's cross-validation; None for a fixed split.
        makes_folds: the clips can be divided into folds, because persons are known or can be named.
        person_pattern: finds the person in a clip's name if no flag says how.
        frame_folders: where below the root the clips may be: the first of these that exists, else the root itself.
        layout: where its files belong, for users who have not put them in place; "" for AFEW's layout.
        parse_line: (line, its number, labels) -> the clip of a line of the dataset's own lists. Raises ValueError with
            what is wrong.
        line_form: what such a line looks like.
        header: the first line of its lists, names separated by commas; "" if they have none.
        scan: fills in the clips without a list.
        index_labels: the meaning of the indices in lists that other projects share of it.
        checkpoint_labels: an evaluation takes the order of the classes from the checkpoint.
        intensities: the true importance of every frame, [T] by clip name; None if it is unknown.
    """

    name: str
    title: str
    trained_on: str
    protocol: Protocol
    crop: Literal["paper", "fer2013", "own"] = "paper"
    labels: tuple[str, ...] | None = None
    train_root: str = ""
    val_root: str = ""
    train_list: str | None = None
    val_list: str | None = None
    num_folds: int | None = None
    makes_folds: bool = False
    person_pattern: str | None = None
    frame_folders: tuple[str, ...] = ()
    layout: str = ""
    parse_line: Callable[[str, int, Sequence[str]], ListedClip] = class_line
    line_form: str = "<Class>/<clip> <Class>"
    header: str = ""
    scan: Callable[[Listing], None] | None = None
    index_labels: tuple[str, ...] = SHARED_LABELS
    checkpoint_labels: bool = False
    intensities: Callable[[ClipSet], Intensities | None] = lambda clips: None

    # What a request means

    def check(self, request: Request) -> None:
        """Refuses flags that do not go with this dataset.

        Raises:
            UsageError: naming the flag.
        """
        if request.labels and self.labels:
            raise UsageError(f"--labels: {self.name} has its own classes; use --labels with --dataset list or folders")
        if twice := two_spellings(request.labels or ()):
            raise UsageError(f"--labels: {twice[0]}; name each class once")
        if request.fold and not (self.makes_folds or request.train_list or self.has_list_per_fold(request)):
            raise self._without_folds()

    def sources(self, request: Request) -> Sources:
        """The folders and lists of a request: those that flags name, else the usual ones."""
        root = request.train_root or self.train_root
        if self.val_root:
            sources = Sources(
                root,
                request.val_root or self.val_root,
                _list_file(request.train_list, self.train_list, request.train_root),
                _list_file(request.val_list, self.val_list, request.val_root),
            )
        else:
            usual = (name and os.path.join(root, name) for name in (self.train_list, self.val_list))
            lists = (given or name for given, name in zip((request.train_list, request.val_list), usual, strict=True))
            sources = Sources(root, request.val_root or root, *lists)
        return sources.at_fold(request.fold) if isinstance(request.fold, int) else sources

    def needs_folds(self, request: Request) -> bool:
        """Whether the clips have no fixed split, so that they are evaluated in folds even without `--fold`."""
        if request.train_list or request.val_list:
            return Sources("", "", request.train_list, request.val_list).list_per_fold
        return self.num_folds is not None

    def frames_per_sample(self, request: Request) -> int | None:
        """K, the frames per training sample, if it depends on the data; else None."""
        return None

    def prepare(self, request: Request) -> None:
        """Generates the data if they are generated and not there yet."""

    def is_missing(self, request: Request) -> bool:
        """Whether a root or a list is missing, so that reading raises an error."""
        sources = self.sources(request)
        if request.fold == "all":
            sources = sources.at_fold(1)
        return any(
            not os.path.isdir(root) or (path and not os.path.exists(path))
            for root, path in (sources.of("train"), sources.of("val"))
        )

    # From a request to clips

    def read_pair(self, request: Request) -> tuple[ClipSet, ClipSet, int | None]:
        """Reads the training and validation sets. Also returns the number of folds, None without folds.

        Raises:
            DataError: the problems of both sets.
            UsageError: there is no such fold.
        """
        count = None
        if request.fold is not None:
            assert isinstance(request.fold, int)
            folds = None if self.has_list_per_fold(request) else self.make_folds(request)
            count = folds.count if folds else self.count_folds(request)
            if request.fold > count:
                raise UsageError(
                    f"--fold {request.fold}: there are {count} folds; give a number from 1 to {count}, or all"
                )
            if folds:
                return folds.train(request.fold), folds.val(request.fold), count
        sets: list[ClipSet | None] = []
        errors = []
        for split in ("train", "val"):
            try:
                sets.append(self.read(request, split, sets[0].labels if sets and sets[0] else None))
            except DataError as error:
                sets.append(None)
                errors.append(error)
        if errors:
            raise DataError.joined(errors)
        train, val = sets
        assert train is not None and val is not None
        return train, val, count

    def read(self, request: Request, split: str | None, labels: Labels = None) -> ClipSet:
        """Reads one split.

        Args:
            split: "train" or "val"; None reads all clips of the training root and list.
            labels: class names in the order of their indices; None takes the dataset's, the request's or the data's.

        Raises:
            DataError: all problems of the list and the folders.
        """
        sources = self.sources(request)
        root, path = sources.of(split or "train")
        below = [os.path.join(root, name) for name in self.frame_folders]
        names = tuple(labels or self.labels or request.labels or ())
        listing = Listing(next(filter(os.path.isdir, below), root), names, layout=self.layout)
        if path is None:
            self.scan_folders(listing, request, split)
        else:
            listing.list_file = path
            try:
                lines = read_lines(path)
            except DataError as error:
                listing.problems += error.problems
            else:
                one_list = split is not None and sources.train_list == sources.val_list
                wanted = (request.eval_split or "val") if split == "val" else split
                self.parse_list(listing, lines, request, wanted if one_list else None)
        clips = listing.find_frames(skip_empty=request.skip_empty)
        pattern = request.person_pattern or self.person_pattern
        return name_persons(clips, pattern) if pattern else clips

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        """Reads the clips of both splits as one set."""
        if self.has_list_per_fold(request):
            request = replace(request, fold=1)
        sources = self.sources(request)
        if sources.of("train") == sources.of("val") or _is_table_file(sources.train_list):
            return self.read(request, None, labels)  # one tree, or one list for both
        train = self.read(request, "train", labels)
        return _joined(train, self.read(request, "val", train.labels))

    def scan_folders(self, listing: Listing, request: Request, split: str | None) -> None:
        """Fills in the clips without a list. `split`: see `read`."""
        listing.require_root()
        assert self.scan is not None, f"{self.name} needs a list"
        self.scan(listing)

    def parse_list(self, listing: Listing, lines: Lines, request: Request, split: str | None) -> None:
        """Fills in the clips of a list, in the format of its first line. `split`: rows of a table to read, or all."""
        first = lines[0][1] if lines else ""
        if is_shared_list(first):
            read_shared_list(listing, lines, request.labels or self.index_labels, request.root_map)
        elif is_table(first):
            read_table(listing, lines, split)
        else:
            self.parse_own_list(listing, lines)

    def parse_own_list(self, listing: Listing, lines: Lines) -> None:
        """Fills in the clips of a list in the dataset's own format."""
        path = listing.list_file
        if self.header and lines:
            (number, first), *lines = lines
            if [word.strip(' "').lower() for word in first.split(",")] != self.header.split(","):
                found = f"{quoted(first)} is not the header"
                listing.problems.append(f"{path}, line {number}: {found}; the first line should be {self.header}")
                return
        listing.parse(lines, lambda line, number: self.parse_line(line.strip("\t "), number, listing.labels))
        if not lines:
            listing.problems.append(f"{path}: the list is empty; lines are {self.line_form}")

    # Folds

    def count_folds(self, request: Request) -> int:
        """The number of folds, k."""
        if self.has_list_per_fold(request):
            return request.folds or self.num_folds or DEFAULT_FOLDS
        return self.make_folds(request).count

    def make_folds(self, request: Request) -> Folds:
        """Divides all clips into folds: by a fold file or by their list, else by person.

        Raises:
            UsageError: clips of this dataset have a fixed split.
            DataError: all problems of the data or the fold file.
        """
        if not self.makes_folds and not _is_table_file(self.sources(request).train_list):
            raise self._without_folds()
        clips = self.read_all(request)
        listed = any(clip.fold for clip in clips.everything)
        if request.fold_file and not listed:  # listed: CK+'s reader has read the file
            return folds_from_file(clips, request.fold_file)
        if not listed:
            return folds_by_person(clips, request.folds or self.num_folds or DEFAULT_FOLDS)
        if request.folds and not request.fold_file:
            raise UsageError(f"--folds {request.folds}: the list has a fold for each clip; omit --folds")
        return folds_as_listed(clips)

    def _without_folds(self) -> UsageError:
        return UsageError(
            f"--fold: {self.name} has a fixed split, no folds; omit --fold, or name one list per fold with "
            "{fold} in its name: --train-list set_{fold}_train.txt --val-list set_{fold}_test.txt"
        )

    def has_list_per_fold(self, request: Request) -> bool:
        """Whether each fold has lists of its own (DFEW), instead of being a part of one set."""
        return self.sources(replace(request, fold=None)).list_per_fold


def _list_file(given: str | None, usual: str | None, root_given: str | None) -> str | None:
    """The list that was given, else the usual one if it exists and the usual root is read."""
    if given is not None:
        return None if given.lower() == "none" else given
    return usual if usual and not root_given and os.path.isfile(usual) else None


def _is_table_file(path: str | None) -> bool:
    """Whether a list is a table. False if it cannot be read."""
    try:
        lines = read_lines(path) if path else []
    except DataError:
        return False
    return bool(lines) and is_table(lines[0][1])


def _joined(train: ClipSet, val: ClipSet) -> ClipSet:
    names = {clip.name for clip in train.everything}
    twice = [clip.name for clip in val.everything if clip.name in names]
    if twice:
        raise DataError(f"{val.root}: {counted(len(twice), 'clip')} also in {train.root}, e.g. {twice[0]}")
    root = os.path.commonpath([train.root, val.root]) or "."
    left_out, notes = [*train.left_out, *val.left_out], [*train.notes, *val.notes]
    return ClipSet([*train.clips, *val.clips], train.labels, root, left_out, notes)
