"""Frames and batches: decoding, the frames of an epoch, parts for several processes, frames in memory, broken files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from Code.common.commandline import run_script
from Code.common.device import World
from Code.common.errors import UsageError, WorkerError
from Code.common.files import PROJECT
from Code.data import batches
from Code.data.batches import (
    ArrayStore,
    EvaluationBatches,
    FileStore,
    FrameReader,
    FrameTable,
    Loading,
    TrainingBatches,
    draw_segments,
    open_stores,
)
from Code.data.clips import Clip, ClipSet, DataError

CPU = torch.device("cpu")
clip_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def make_table(lengths: list[int]) -> FrameTable:
    """Clip c is named `c` and of class c % 3."""
    targets = torch.arange(len(lengths)) % 3
    return FrameTable(np.array(lengths), targets, [str(c) for c in range(len(lengths))], ("a", "b", "c"))


def numbered_store(total: int) -> ArrayStore:
    """Every pixel of frame i has the value i."""
    return ArrayStore(np.broadcast_to(np.arange(total, dtype=np.uint8)[:, None, None, None], (total, 1, 2, 2)).copy())


# The frames of an epoch


@settings(deadline=None)
@given(clip_lengths, st.integers(1, 8), st.integers(0, 2**32), st.one_of(st.none(), st.integers(1, 6)))
def test_one_frame_of_each_segment_and_short_clips_repeat_in_order(lengths, k, seed, samples_per_clip):
    clips, frames = draw_segments(np.array(lengths), k, np.random.default_rng(seed), samples_per_clip)
    expected = lengths if samples_per_clip is None else [samples_per_clip] * len(lengths)
    assert np.bincount(clips, minlength=len(lengths)).tolist() == expected
    assert frames.shape == (sum(expected), k)
    for clip, row in zip(clips, frames, strict=True):
        bounds = [i * lengths[clip] // k for i in range(k + 1)]
        if lengths[clip] < k:
            assert list(row) == bounds[:-1]
            assert set(row) == set(range(lengths[clip]))
        else:
            assert all(low <= frame < high for low, frame, high in zip(bounds, row, bounds[1:], strict=False))


@pytest.mark.parametrize(("length", "k"), [(2, 3), (3, 3), (7, 1), (7, 3), (11, 3)])
def test_every_frame_is_drawn_and_frames_of_a_segment_equally_often(length, k):
    _, frames = draw_segments(np.array([length]), k, np.random.default_rng(1), 4000)
    counts = np.bincount(frames.ravel(), minlength=length)
    assert (counts > 0).all()
    for i in range(k if length >= k else 0):
        part = counts[i * length // k : (i + 1) * length // k]
        assert part == pytest.approx(4000 / len(part), abs=5 * (4000 / len(part)) ** 0.5)


def test_samples_are_shuffled_over_clips():
    clips, _ = draw_segments(np.full(20, 10), 3, np.random.default_rng(0))
    assert np.abs(np.diff(clips)).mean() > 4  # in clip order it would be 0.1; of random pairs it is 6.7


# Training and evaluation batches


def batches_of(seed: int = 0, loading: Loading = batches.LOCAL, batch_size: int = 4) -> TrainingBatches:
    table = make_table([5, 7, 9])
    return TrainingBatches(table, numbered_store(21), num_frames=3, batch_size=batch_size, seed=seed, loading=loading)


def frames_of(batches: TrainingBatches, epoch: int) -> list[list[int]]:
    """The numbers of the frames in each batch."""
    return [batch["frames"][..., 0, 0, 0].ravel().tolist() for batch in batches.epoch(epoch)]


def test_an_epoch_depends_on_seed_and_number_alone():
    batches = batches_of()
    for epoch in range(1, 7):
        frames_of(batches, epoch)
    assert frames_of(batches, 7) == frames_of(batches_of(), 7)
    assert frames_of(batches_of(), 7) != frames_of(batches_of(), 8)
    assert frames_of(batches_of(), 7) != frames_of(batches_of(seed=1), 7)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_frames_of_the_right_clips_in_every_epoch(workers):
    batches = batches_of(loading=Loading(workers))
    table = batches.table
    assert len(batches) == 5  # 21 samples: one more would be another batch
    for epoch in (1, 2):
        for batch in batches.epoch(epoch):
            assert batch["frames"].shape == (4, 3, 1, 2, 2) and batch["frames"].dtype == torch.uint8
            numbers, clips = batch["frames"][..., 0, 0, 0].numpy(), batch["clips"].numpy()
            assert (table.offsets[clips][:, None] <= numbers).all()
            assert (numbers < table.offsets[clips + 1][:, None]).all()
            assert torch.equal(batch["labels"], batch["clips"] % 3)
        assert frames_of(batches, epoch) == frames_of(batches_of(), epoch)


@pytest.mark.parametrize(("lengths", "sizes"), [([5], [4]), ([3], [3]), ([4, 4], [4, 4])])
def test_small_last_batch_is_left_out_unless_it_is_the_only_one(lengths, sizes):
    batches = TrainingBatches(make_table(lengths), numbered_store(sum(lengths)), num_frames=2, batch_size=4, seed=0)
    assert [len(batch["labels"]) for batch in batches.epoch(1)] == sizes


def in_process(rank: int, size: int):
    """A context in which this process is one of several."""
    return mock.patch.object(batches, "world", lambda: World(rank, size, rank, size))


@pytest.mark.parametrize("size", [2, 4])
def test_parts_of_all_processes_make_up_the_batches_of_one(size):
    parts = []
    for rank in range(size):
        with in_process(rank, size):
            parts.append(list(batches_of(4, batch_size=8).epoch(3)))
    for step, whole in enumerate(batches_of(4, batch_size=8).epoch(3)):
        for name, value in whole.items():
            assert torch.equal(torch.cat([part[step][name] for part in parts]), value)
    with in_process(1, 3), pytest.raises(UsageError, match="--batch-size 8: choose a multiple of the 3 processes"):
        batches_of(4, batch_size=8)


@given(clip_lengths, st.integers(1, 20), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_every_frame_is_evaluated_once_in_the_batches_of_one_process(lengths, batch_frames, size):
    def packed(rank: int, size: int) -> EvaluationBatches:
        with in_process(rank, size):
            return EvaluationBatches(make_table(lengths), numbered_store(sum(lengths)), batch_frames=batch_frames)

    alone = list(packed(0, 1))
    assert [len(frames) for frames in alone[:-1]] == [batch_frames] * (len(packed(0, 1)) - 1)
    assert torch.cat(alone)[:, 0, 0, 0].tolist() == list(range(sum(lengths)))
    parts = [packed(rank, size) for rank in range(size)]
    together = []
    for counts, *frames in zip(parts[0].rounds, *parts, strict=True):
        assert [len(part) for part in frames] == counts
        together += [part for part in frames if len(part)]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


# Stores


@pytest.fixture
def clip_set(tmp_path: Path) -> ClipSet:
    """Two clips of 3 and 2 frames; frame i has the gray value 40 * i."""
    clips = []
    for number, name in enumerate([("0", "1", "2"), ("3", "4")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for frame in name:
            Image.new("L", (8, 8), 40 * int(frame)).save(folder / f"{frame}.png")
        clips.append(Clip(f"{number}", str(folder), tuple(f"{frame}.png" for frame in name), number))
    return ClipSet(clips, ("a", "b"), str(tmp_path))


@pytest.mark.parametrize("cache", ["none", "memory", "device"])
def test_frames_are_read_in_the_order_asked_wherever_they_are_kept(clip_set, cache):
    (store,), _ = open_stores([clip_set], 4, CPU, cache=cache)
    assert isinstance(store, FileStore if cache == "none" else ArrayStore)
    frames = store.read(np.array([4, 0, 3, 3]))
    assert frames.shape == (4, 3, 4, 4) and frames.dtype == torch.uint8
    assert frames[:, 0, 0, 0].tolist() == [160, 0, 120, 120]


def test_frames_are_kept_in_memory_where_they_fit_well(clip_set, monkeypatch, capsys):
    def in_memory(cache: str | None = None) -> bool:
        return isinstance(open_stores([clip_set], 4, CPU, cache=cache)[0][0], ArrayStore)

    assert in_memory() and capsys.readouterr().out.startswith("cache: memory (")
    monkeypatch.setattr(batches, "free_memory", lambda: 5 * 4 * 4 * 3 * 2 - 1)
    assert not in_memory() and in_memory("memory")  # it fits, if not well
    monkeypatch.setattr(batches, "free_memory", lambda: 100)
    with pytest.raises(UsageError, match=r"--cache memory: .* do not fit .* use --cache none"):
        in_memory("memory")


def test_workers_suit_the_machine(clip_set, monkeypatch):
    monkeypatch.setattr(batches, "available_cores", lambda: 32)

    def loading(cache: str = "none", **options) -> Loading:
        return open_stores([clip_set], 4, CPU, cache=cache, **options)[1]

    assert loading() == Loading(4)
    with in_process(1, 8):
        assert loading() == Loading(1)
    assert loading("memory", workers=5) == Loading(0) and loading(workers=5) == Loading(5)


# Errors and worker processes


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named_without_a_traceback(clip_set, workers):
    Path(clip_set.clips[1].path(0)).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        list(FrameReader(FileStore(clip_set, 4), Loading(workers)).read([np.arange(5)]))
    (message,) = caught.value.problems
    assert message.startswith(f"{clip_set.clips[1].path(0)}: ")
    assert "Traceback" not in message and "worker" not in message


@pytest.mark.timeout(120)
def test_a_worker_that_cannot_hand_over_its_frames_ends_the_training(monkeypatch):
    """As with the 64 MB of /dev/shm that Docker gives a container."""

    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # workers are forked and inherit it
    with pytest.raises(WorkerError, match=r"/dev/shm is full .*No space left.*--workers 0"):
        list(FrameReader(numbered_store(4), Loading(workers=1)).read([np.arange(4)]))


class Dying:
    """A store whose process is killed."""

    def read(self, frame_ids: np.ndarray) -> torch.Tensor:
        os._exit(9)


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_named(capsys):
    assert run_script(lambda: len(list(FrameReader(Dying(), Loading(workers=1)).read([np.arange(4)])))) == 1
    assert re.search(r"error: a process that loads data was killed.*fewer --workers", capsys.readouterr().err)


@pytest.mark.timeout(60)
def test_workers_that_an_error_leaves_end_with_their_process():
    """They leave SIGTERM to their parent, and Python would wait for them; its traceback keeps them alive."""
    code = """
import numpy as np
from Code.data.batches import ArrayStore, FrameReader, Loading
batches = FrameReader(ArrayStore(np.zeros((9, 1, 4, 4), np.uint8)), Loading(2)).read([np.arange(9)] * 50)
next(batches)
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 3 and done.stderr == ""
