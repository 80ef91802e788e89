"""AFEW and your own clips: `<root>/<Class>/<clip>/<frame>`, with or without a list, or any clips that a list names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ..common.errors import UsageError
from ..common.names import AFEW_LABELS, counted, printable, quoted
from ..data.clips import ClipSet
from ..data.intensity import intensities_of
from ..data.listing import Lines, ListedClip, Listing, two_spellings, unknown_class
from ..data.request import Protocol, Request
from .base import Labels, Reader, Sources

# Few epochs, from a network trained on faces, with a learning rate for fine-tuning all of it.
OWN_CLIPS = Protocol(epochs=15, lr=1e-2, decay_at=(5, 10), samples_per_clip=4)


def scan_folders(listing: Listing) -> None:
    """Fills in the clips of `<root>/<Class>/<clip>`. A folder that is not one of the labels is a problem.

    Without labels, the sorted folder names become the labels.
    """
    folders = sorted(listing.contents(listing.root)[0])
    if not listing.labels:
        listing.labels = tuple(folders)
        listing.problems += [f"{printable(listing.root)}: {line}; merge the folders" for line in two_spellings(folders)]
    for name in folders:
        if name not in listing.labels:
            path = printable(os.path.join(listing.root, name))
            listing.problems.append(f"{path}: {unknown_class(name, listing.labels)}")
    for label, name in enumerate(listing.labels):
        if name not in folders:
            continue
        path = os.path.join(listing.root, name)
        clips, images = listing.contents(path)
        listing.clips += [ListedClip(f"{name}/{clip}", label) for clip in clips]
        if images:
            listing.problems.append(
                f"{printable(path)}: {counted(len(images), 'image')} outside of any clip folder, for example "
                f"{quoted(images[0])}; move to {printable(name)}/<clip>/"
            )


def read_folders(
    root: str | os.PathLike[str], *, labels: Sequence[str] | None = None, skip_empty: bool = False
) -> ClipSet:
    """Reads any `<Class>/<clip>/<frame>` tree.

    Args:
        root: contains one folder per class.
        labels: the class names, in the order of their indices. A folder with another name is then an error, a
            missing folder is not. None takes the sorted folder names.
        skip_empty: skip clips that have no frames instead of raising.

    Raises:
        DataError: all problems of the folders.
    """
    listing = Listing(os.fspath(root), tuple(labels or ()))
    listing.require_root()
    scan_folders(listing)
    return listing.find_frames(skip_empty=skip_empty)


class Folders(Reader):
    """One folder per class. With folds, all clips are in the training root."""

    def check(self, request: Request) -> None:
        super().check(request)
        if request.fold and request.val_root:
            raise UsageError("--val-root: with --fold, all clips come from --train-root; omit --val-root")

    def is_missing(self, request: Request) -> bool:
        sources = self.sources(request)
        roots = [sources.train_root] if request.fold else [sources.train_root, sources.val_root]
        return not all(map(os.path.isdir, roots))

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        return self.read(request, None, labels)

    def parse_own_list(self, listing: Listing, lines: Lines) -> None:
        raise UsageError(
            f"{listing.list_file}: --dataset folders reads whole folders; omit the list, "
            "or use --dataset list (--dataset afew for AFEW's lines `Class/clip Class`)"
        )


class Lists(Reader):
    """Reads `--train-list` and `--val-list`. By default, paths are relative to the folder of the first list."""

    def check(self, request: Request) -> None:
        super().check(request)
        if not request.train_list and not request.val_list:
            raise UsageError("--dataset list: name it with --train-list FILE (and --val-list FILE if there are two)")

    def sources(self, request: Request) -> Sources:
        train, val = request.train_list or request.val_list, request.val_list or request.train_list
        root = request.train_root or os.path.dirname(train or "") or "."
        return super().sources(replace(request, train_root=root, train_list=train, val_list=val))

    def parse_own_list(self, listing: Listing, lines: Lines) -> None:
        listing.problems.append(
            f"{listing.list_file}: neither a table (header path,label,...) nor a shared list (<folder> <frames> <label "
            "index>); see Data/README.md for both formats"
        )


AFEW = Reader(
    name="afew",
    title="AFEW",
    trained_on="film clips (AFEW)",
    # Paper and first release: learning rate 4e-6, x 0.2 after 60 and 120 of 180 epochs, batches of 48.
    protocol=Protocol(),
    labels=AFEW_LABELS,
    train_root="Data/Train",
    val_root="Data/Val",
    train_list="Data/list_train.txt",
    val_list="Data/list_eval.txt",
    scan=scan_folders,
)
FOLDERS = Folders(
    name="folders",
    title="own clips",
    trained_on="your own clips (class folders)",
    protocol=OWN_CLIPS,
    train_root="Data/Train",
    val_root="Data/Val",
    makes_folds=True,
    scan=scan_folders,
    checkpoint_labels=True,  # the folders to evaluate may lack classes
    intensities=intensities_of,  # of generated clips
)
LISTS = Lists(
    name="list",
    title="own clips",
    trained_on="your own clips (a list)",
    protocol=OWN_CLIPS,
    makes_folds=True,
)
