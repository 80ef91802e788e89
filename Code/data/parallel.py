"""One pass over all frames of a split, by several processes, with its progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from Code.data.store import Say
from Code.data.workers import leave_stopping_to_the_parent

CHUNK_FRAMES = 32  # decoded by a worker at a time
SECONDS_BETWEEN_LINES = 20.0  # of progress, where there is no terminal


class Progress:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(self, total: int, label: str, say: Say, show: bool) -> None:
        self.bar = tqdm(total=total, desc=label, leave=False, disable=None if show else True, unit="frame")
        self.say = say if show and self.bar.disable else None
        self.total, self.label, self.done = total, label, 0
        self.last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def update(self, count: int) -> None:
        """`count` more frames are done."""
        self.bar.update(count)
        self.done += count
        if self.say and time.monotonic() - self.last > SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.say(f"  {self.label}: {self.done} of {self.total}")


def read_in_chunks(dataset: Dataset, num_frames: int, workers: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields (ids, dataset[ids]) for all frames in order, computed in parallel."""
    keys = [np.arange(start, min(start + CHUNK_FRAMES, num_frames)) for start in range(0, num_frames, CHUNK_FRAMES)]
    loader = DataLoader(
        dataset,
        sampler=keys,  # type: ignore[arg-type]  # keys are whole chunks
        batch_size=None,
        num_workers=min(workers, len(keys)),
        collate_fn=_as_it_is,
        worker_init_fn=leave_stopping_to_the_parent,
    )
    return zip(keys, loader, strict=True)


def _as_it_is(value: Any) -> Any:
    return value
