"""AFEW, and all data with its layout: `<root>/<Class>/<clip>/<frame>`, with or without a list."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..common.names import AFEW_LABELS
from ..data.clips import ClipSet
from ..data.listing import read_listed
from ..data.lists import read_list
from .base import Reader, Request
from .folders import read_folders


def read_afew(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] = AFEW_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one split of AFEW, or of data with the same layout.

    Args:
        root: contains `<Class>/<clip>/<frame>`.
        list_file: lines `<Class>/<clip> <Class>`; only these clips are read. None reads all folders.
        labels: the class names, in the order of their indices.
        skip_empty: skip clips that have no frames instead of raising.

    Raises:
        DataError: all problems of the list and the folders.
    """
    if list_file is None:
        return read_folders(root, labels=labels, skip_empty=skip_empty)
    return read_listed(root, list_file, lambda path: read_list(path, labels), labels, skip_empty)


reader = Reader(
    "afew",
    read_afew,
    Request(
        labels=AFEW_LABELS,
        train_root="Data/Train",
        val_root="Data/Val",
        train_list="Data/list_train.txt",
        val_list="Data/list_eval.txt",
    ),
)
