"""AFEW and your own clips: `<root>/<Class>/<clip>/<frame>`, with or without a list, or any clips that a list names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ..common.names import AFEW_LABELS, counted, printable, quoted
from ..data.clips import ClipSet
from ..data.intensity import intensities_of
from ..data.listing import ListedClip, Listing, two_spellings, unknown_class
from ..data.request import Request, TrainingProtocol
from .base import Reader

# Few epochs, from a network trained on faces, with a learning rate for fine-tuning all of it.
OWN_CLIPS = TrainingProtocol(epochs=15, lr=1e-2, decay_at=(5, 10), samples_per_clip=4)


def scan_folders(listing: Listing, request: Request) -> None:
    """Fills in the clips of `<root>/<Class>/<clip>`. Without labels, the sorted folder names become the labels."""
    folders = sorted(listing.contents(listing.root)[0])
    if not listing.labels:
        listing.labels = tuple(folders)
        listing.problems += [f"{printable(listing.root)}: {line}; merge the folders" for line in two_spellings(folders)]
    for name in folders:
        if name not in listing.labels:
            path = printable(os.path.join(listing.root, name))
            listing.problems.append(f"{path}: {unknown_class(name, listing.labels)}")
    for label, name in enumerate(listing.labels):
        if name in folders:
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
    return FOLDERS.read(Request(train_root=os.fspath(root), skip_empty=skip_empty), None, labels)


class Folders(Reader):
    """One folder per class. With folds, all clips are in the training root, or in both roots that flags name."""

    def located(self, request: Request) -> Request:
        if request.fold and not request.val_root:
            request = replace(request, val_root=request.train_root or self.train_root)
        return super().located(request)


AFEW = Reader(
    name="afew",
    title="AFEW",
    trained_on="film clips (AFEW)",
    # Paper and first release: learning rate 4e-6, x 0.2 after 60 and 120 of 180 epochs, batches of 48.
    protocol=TrainingProtocol(),
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
    parse_line=None,
    scan=scan_folders,
    intensities=intensities_of,  # of generated clips
)
LISTS = Reader(
    name="list",
    title="own clips",
    trained_on="your own clips (a list)",
    protocol=OWN_CLIPS,
    makes_folds=True,
    parse_line=None,
)
