"""Clips named by a list: a plain list of your own, or a list shared by other projects."""

from __future__ import annotations

import os
from dataclasses import replace

from ..common.errors import UsageError
from ..data.clips import ClipSet, DataError
from ..data.lists import read_text
from .base import Labels, Reader, Request


class Lists(Reader):
    """Reads `--train-list` and `--val-list`. By default, paths are relative to the folder of the first list."""

    makes_folds = True

    def locate(self, request: Request) -> Request:
        flags = request.flags
        named = [flags[name] for name in ("train_list", "val_list") if name in flags]
        if not named:
            raise UsageError("--dataset list: name it with --train-list FILE (and --val-list FILE if there are two)")
        root = flags.get("train_root") or os.path.dirname(named[0]) or "."
        val_root = flags.get("val_root") or root
        return replace(request, train_root=root, val_root=val_root, train_list=named[0], val_list=named[-1])

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        path = request.list_file(split)
        if path is None or not os.path.isfile(path):
            raise DataError(f"{path}: no such list file; correct --{split}-list")
        read_text(path)  # raises if it is not text
        raise DataError(
            f"{path}: neither a plain list (header path,label,...) nor a shared one (<folder> <frames> <label index>); "
            "see Data/README.md for both formats"
        )


reader = Lists("list", None, Request(one_root=True))
