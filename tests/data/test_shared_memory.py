"""Worker processes and shared memory: too little of it is noticed before, named, and never waited for."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch

from Code.common.commandline import run_script
from Code.data import loaders
from Code.data.loaders import SharedMemoryError, TrainingBatches, workers_that_fit
from Code.data.stores import FrameTable

MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "batch", "free", "expected"),
    [
        (4, MIB, 17 * MIB, (4, 4)),
        (4, MIB, 16 * MIB, (4, 3)),
        (4, MIB, 5 * MIB, (4, 1)),
        (4, MIB, 3 * MIB, (2, 1)),
        (2, 74 * MIB, 64 * MIB, (0, 4)),
        (0, MIB, 0, (0, 4)),
    ],
)
def test_workers_are_as_many_as_there_is_shared_memory_for(
    wanted: int, batch: int, free: int, expected: tuple[int, int]
) -> None:
    assert workers_that_fit(wanted, batch, free) == expected


class Plain:
    """A store of plain frames."""

    def read(self, frame_ids: np.ndarray) -> torch.Tensor:
        return torch.full((len(frame_ids), 3, 8, 8), 7, dtype=torch.uint8)


def batches(store: loaders.Store) -> TrainingBatches:
    table = FrameTable(
        lengths=np.full(4, 3),
        targets=torch.zeros(4, dtype=torch.int64),
        names="abcd",
        labels=("x", "y"),
        listed=4,
        skipped=[],
    )
    return TrainingBatches(table, store, num_frames=2, batch_size=4, seed=0, workers=1)


@pytest.mark.timeout(120)
def test_a_worker_that_cannot_hand_over_its_frames_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # workers are forked and inherit it
    with pytest.raises(SharedMemoryError, match=r"a worker process cannot pass on .* No space left.*--workers 0"):
        list(batches(Plain()))


@pytest.mark.timeout(120)
def test_frames_of_a_worker_arrive_in_shared_memory() -> None:
    frames = next(iter(batches(Plain())))["frames"]
    assert frames.is_shared()
    assert frames.shape == (4, 2, 3, 8, 8)
    assert (frames == 7).all()


class Dying(Plain):
    """A store whose process is killed."""

    def read(self, frame_ids: np.ndarray) -> torch.Tensor:
        os._exit(9)


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        list(batches(Dying()))
        return 0

    assert run_script(main) == 1
    assert re.search(r"error: a process that loads data was killed.*fewer --workers", capsys.readouterr().err)
