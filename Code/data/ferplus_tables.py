"""FER+ images as a training sees them: which of a split's images count, with which targets."""

from __future__ import annotations

import numpy as np
import torch

from Code.data.clips import DataError
from Code.data.ferplus import FERPLUS_LABELS, FERPlusSplit, targets_of
from Code.data.store import ArrayStore, FrameTable


def table_of(split: FERPlusSplit, mode: str) -> tuple[FrameTable, ArrayStore]:
    """The images that a label mode keeps: one-frame clips, with class indices (majority) or class shares."""
    targets, kept = targets_of(split.votes, mode)
    if not kept.any():
        raise DataError(f"fer2013new.csv: label mode {mode} keeps none of {len(kept)} images of a split")
    names = [name for name, keep in zip(split.names, kept, strict=True) if keep]
    shares = torch.from_numpy(targets[kept])
    table = FrameTable(
        lengths=np.ones(len(names), dtype=np.int64),
        targets=shares.argmax(dim=1) if mode == "majority" else shares,
        names=names,
        labels=FERPLUS_LABELS,
        listed=len(names),
        skipped=[],
    )
    return table, ArrayStore(split.images[kept])


def plurality_table(split: FERPlusSplit) -> tuple[FrameTable, ArrayStore]:
    """Every image whose most voted label is an emotion, majority or not: the other way to count the test."""
    kept = (split.votes.argmax(axis=1) < len(FERPLUS_LABELS)) & (split.votes.sum(axis=1) > 0)
    names = [name for name, keep in zip(split.names, kept, strict=True) if keep]
    targets = torch.from_numpy(split.votes[kept, : len(FERPLUS_LABELS)].argmax(axis=1))
    table = FrameTable(np.ones(len(names), dtype=np.int64), targets, names, FERPLUS_LABELS, len(names), [])
    return table, ArrayStore(split.images[kept])
