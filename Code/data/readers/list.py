"""Clips that a list names: a plain list of one's own, or a list that peers share."""

from __future__ import annotations

import os
from dataclasses import replace

from Code.common.errors import UsageError
from Code.data.clips import ClipSet, DataError
from Code.data.lists import ListError, read_text
from Code.data.readers.base import Labels, Reader, Request


class Lists(Reader):
    """Reads the lists that `--train-list` and `--val-list` name; folders are relative to the first list's folder."""

    makes_folds = True

    def locate(self, request: Request) -> Request:
        flags = request.flags
        named = [flags[name] for name in ("train_list", "val_list") if name in flags]
        if not named:
            raise UsageError("--dataset list: name the list, --train-list FILE (and --val-list FILE if it is another)")
        root = flags.get("train_root") or os.path.dirname(named[0]) or "."
        val_root = flags.get("val_root") or root
        return replace(request, train_root=root, val_root=val_root, train_list=named[0], val_list=named[-1])

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        path = request.list_file(split)
        if not os.path.isfile(path or ""):
            raise DataError(f"{path}: no such list file; correct --{split}-list")
        try:
            read_text(path or "")
        except ListError as error:
            raise DataError(str(error)) from error
        raise DataError(
            f"{path}: neither a plain list (header path,label,...) nor a shared one (<folder> <frames> <label index>); "
            "Data/README.md says how both look"
        )


reader = Lists("list", None, Request(one_root=True))
