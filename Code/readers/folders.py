"""Any tree `<root>/<Class>/<clip>/<frame>`: the names of the folders are the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..common.errors import UsageError
from ..common.names import AFEW_LABELS
from ..common.wording import counted, printable, quoted
from ..data.clips import ClipSet
from ..data.intensity import Intensities, intensities_of
from ..data.listing import Report, list_folder, read_clips, require_root
from ..data.lists import ListedClip, unknown_class
from .base import Labels, Reader, Request


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
                f"{printable(folder)}: {counted(len(images), 'image')} outside of any clip folder, for example "
                f"{quoted(images[0])}; move to {printable(name)}/<clip>/"
            )
    return read_clips(root, listed, labels, skip_empty, report)


class Folders(Reader):
    """One folder per class. With folds, all clips are in the training root."""

    makes_folds = True
    checkpoint_labels = True  # the folders to evaluate may lack classes

    def locate(self, request: Request) -> Request:
        if (request.fold or request.all_folds) and "val_root" in request.flags:
            raise UsageError("--val-root: with --fold, all clips come from --train-root; omit --val-root")
        return super().locate(request)

    def is_missing(self, request: Request) -> bool:
        in_folds = request.fold or request.all_folds
        return not all(map(os.path.isdir, [request.train_root] if in_folds else [request.train_root, request.val_root]))

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        return self._with_persons(request, self._read(request, None, labels or request.label_order))

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        if request.list_file(split):
            raise UsageError(
                f"--{split}-list: --dataset folders reads whole folders; omit it, "
                "or use --dataset list (--dataset afew for AFEW's lines `Class/clip Class`)"
            )
        return read_folders(request.root(split), labels=labels, skip_empty=request.skip_empty)

    def intensities(self, clips: ClipSet) -> Intensities | None:
        return intensities_of(clips)  # known of clips that tools.onset has made


reader = Folders("folders", None, Request(train_root="Data/Train", val_root="Data/Val"))
