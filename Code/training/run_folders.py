"""Finding what earlier runs left: the newest best network, the checkpoint to go on from."""

from __future__ import annotations

import sys
from pathlib import Path

from Code.network.checkpoints import DamagedCheckpointError, read_checkpoint
from Code.training import distributed
from Code.training.protocols import ATTENTIONS
from Code.training.runs import LAST, PREVIOUS


def newest_whole(folder: Path) -> Path:
    """The checkpoint that `--resume` goes on from: last.pth, or previous.pth where that is damaged, and says so.

    Raises:
        CheckpointError: if neither can be read; about last.pth.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        read_checkpoint(last)
    except DamagedCheckpointError as error:
        if not previous.is_file():
            raise
        read_checkpoint(previous)
        if distributed.world().is_main:
            print(f"warning: {error}; going on from {previous}, the checkpoint before it", file=sys.stderr)
        return previous
    return last


def newest_best(parent: Path, dataset: str, at_type: int | None = None, fold: int | None = None) -> Path | None:
    """The newest best.pth of a dataset (and attention) below `parent`; None if there is none.

    Args:
        fold: of this fold. Without it, networks of single folds are not looked at.
    """
    attention = "*" if at_type is None else ATTENTIONS[at_type]
    name = f"*_{dataset}_{attention}"
    if fold is None:
        words = ATTENTIONS.values() if at_type is None else [ATTENTIONS[at_type]]
        patterns = [f"*_{dataset}_{word}{end}" for word in words for end in ("", "-[0-9]*")]
    else:
        patterns = [f"{name}{fold_suffix(fold)}", f"{name}{fold_suffix(fold)}-[0-9]*", f"{name}_folds*/fold-{fold:02d}"]
    found = [path for pattern in patterns for path in parent.glob(f"{pattern}/best.pth")]
    return max(found, key=lambda path: (path.relative_to(parent).parts[0], path.stat().st_mtime), default=None)


def fold_suffix(fold: int | None) -> str:
    """The end of a folder's name that says it holds one fold's results only."""
    return "" if fold is None else f"_fold-{fold}"
