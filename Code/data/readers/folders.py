"""Any tree `<root>/<Class>/<clip>/<frame>`: the folders' names are the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from Code.common.conventions import AFEW_LABELS
from Code.common.errors import UsageError
from Code.data.clips import ClipSet
from Code.data.lists import (
    ListedClip,
    Report,
    list_folder,
    printable,
    quoted,
    read_clips,
    require_root,
    unknown_class,
)
from Code.data.readers.base import Labels, Reader, Request


def read_folders(
    root: str | os.PathLike[str], *, labels: Sequence[str] | None = None, skip_empty: bool = False
) -> ClipSet:
    """Reads any `<Class>/<clip>/<frame>` tree.

    Args:
        root: holds a folder per class.
        labels: the class names, in the order of their indices: a folder of another name is then an error, a
            missing one is not. None: the sorted folder names are the classes.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the folders.
    """
    root = os.fspath(root)
    report = Report(root)
    require_root(root, report, labels or AFEW_LABELS)
    folders = sorted(list_folder(root, report.problems)[0])
    if labels is None:
        labels = folders
    for name in folders:
        if name not in labels:
            report.problems.append(f"{printable(os.path.join(root, name))}: {unknown_class(name, labels)}")
    listed = []
    for label, name in enumerate(labels):
        if name not in folders:
            continue
        folder = os.path.join(root, name)
        try:
            clips, images = list_folder(folder, report.problems)
        except OSError as error:
            report.add_folder(folder, error)
            continue
        listed += [ListedClip(f"{name}/{clip}", label) for clip in clips]
        if images:
            report.problems.append(
                f"{printable(folder)}: {len(images)} images outside of any clip folder, for example "
                f"{quoted(images[0])}; put them into {printable(name)}/<clip>/"
            )
    return read_clips(root, listed, labels, skip_empty, report)


class Folders(Reader):
    """A folder per class; with folds, all clips are in the training root."""

    makes_folds = True
    checkpoint_labels = True  # a folder of clips to evaluate may lack classes

    def locate(self, request: Request) -> Request:
        if (request.fold or request.all_folds) and "val_root" in request.flags:
            raise UsageError("--val-root: with --fold all clips come from --train-root; leave --val-root away")
        return super().locate(request)

    def is_missing(self, request: Request) -> bool:
        in_folds = request.fold or request.all_folds
        return not all(map(os.path.isdir, [request.train_root] if in_folds else [request.train_root, request.val_root]))

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        return self._with_persons(request, self._read(request, None, labels or request.label_order))

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        if request.list_file(split):
            raise UsageError(
                f"--{split}-list: --dataset folders reads whole folders; leave it away, "
                "or use --dataset list (--dataset afew for AFEW's lines `Class/clip Class`)"
            )
        return read_folders(request.root(split), labels=labels, skip_empty=request.skip_empty)


reader = Folders("folders", None, Request(train_root="Data/Train", val_root="Data/Val"))
