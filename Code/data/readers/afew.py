"""AFEW, and anything laid out like it: `<root>/<Class>/<clip>/<frame>`, with or without a list."""

from __future__ import annotations

import os
from collections.abc import Sequence

from Code.data.clips import AFEW_LABELS, ClipSet
from Code.data.lists import (
    ListedClip,
    Report,
    list_folder,
    printable,
    quoted,
    read_clips,
    read_list,
    require_root,
    unknown_class,
)


def read_afew(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] = AFEW_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one split of AFEW, or of anything laid out and listed like it.

    Args:
        root: holds `<Class>/<clip>/<frame>`.
        list_file: lines `<Class>/<clip> <Class>`; only the clips listed are read. None: all folders are.
        labels: the class names, in the order of their indices.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the list and the folders.
    """
    root = os.fspath(root)
    if list_file is None:
        return _scan(root, labels, skip_empty)
    list_file = os.fspath(list_file)
    report = Report(f"{root} (listed in {list_file})")
    listed, report.problems = read_list(list_file, labels)
    require_root(root, report, labels)
    return read_clips(root, listed, labels, skip_empty, report, list_file)


def read_folders(
    root: str | os.PathLike[str], *, labels: Sequence[str] | None = None, skip_empty: bool = False
) -> ClipSet:
    """Reads any `<Class>/<clip>/<frame>` tree.

    Args:
        root: holds a folder per class.
        labels: the training set's class names, for a set to be tested against them: a folder of another
            name is then an error, a missing one is not. None: the sorted folder names are the classes.
        skip_empty: leave out clips that have no frames instead of raising.

    Raises:
        DataError: everything that is wrong with the folders.
    """
    return _scan(os.fspath(root), labels, skip_empty)


def _scan(root: str, labels: Sequence[str] | None, skip_empty: bool) -> ClipSet:
    """Reads all of `<root>/<Class>/<clip>/`."""
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
