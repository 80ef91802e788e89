"""From clips to batches.

`TrainingBatches` draws K frames per sample, one from each of K equal segments. `EvaluationBatches` packs all frames of
all clips into full batches, across clip borders. Both use one `DataLoader` dataset whose keys are arrays of frame ids
(see `Code.data.stores`): an epoch is planned in one place, from a seed, and workers have no state.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..common.errors import ProjectError
from ..common.files import in_words
from ..common.machine import free_shared_memory
from .clips import DataError
from .stores import FrameTable, Store

Say = Callable[[str], None]  # prints one line
Batch = dict[str, Tensor]
PREFETCHED = 4  # batches, by each worker process


def draw_segments(
    lengths: np.ndarray, num_frames: int, rng: np.random.Generator, samples_per_clip: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Plans an epoch: draws the frames of each training sample.

    A clip of L frames is divided into K = `num_frames` equal segments [i L / K, (i + 1) L / K) without overlap, with
    bounds rounded down, and one frame is drawn from each. A clip with fewer than K frames repeats frames in order.

    Args:
        lengths: int64 [clips], all above zero.
        num_frames: K.
        rng: the generator of the epoch.
        samples_per_clip: samples per clip; None draws as many as the clip has frames, so that an epoch has as many
            samples as the training set has frames (the published protocol).

    Returns:
        clips int64 [samples] and frames int64 [samples, K] (index within the clip, ascending), shuffled.
    """
    counts = lengths if samples_per_clip is None else np.full_like(lengths, samples_per_clip)
    clips = rng.permutation(np.repeat(np.arange(len(lengths)), counts))
    length = lengths[clips][:, None]  # [samples, 1]
    segment = np.arange(num_frames)[None, :]  # [1, K]
    start = segment * length // num_frames
    stop = np.maximum((segment + 1) * length // num_frames, start + 1)
    frames = start + (rng.random((len(clips), num_frames)) * (stop - start)).astype(np.int64)
    return clips, np.minimum(frames, length - 1)


class SharedMemoryError(ProjectError, RuntimeError):
    """A worker process cannot pass its frames on."""

    status = 1
    resumable = True


def shared(frames: Tensor) -> Tensor | SharedMemoryError:
    """Moves the frames of a worker process to shared memory; returns others unchanged.

    The queue of the worker would do the same, but in a thread whose errors get lost, and the main process would wait
    forever for the frames.
    """
    if get_worker_info() is None:
        return frames
    try:
        return frames.share_memory_()
    except RuntimeError as error:
        size = in_words(frames.nbytes)
        return SharedMemoryError(
            f"a worker process cannot pass on {size} of frames: {in_words(free_shared_memory())} of /dev/shm are "
            f"free ({error}); use --workers 0, or enlarge /dev/shm (docker run --shm-size 8g)"
        )


def workers_that_fit(workers: int, batch_bytes: int, free: int) -> tuple[int, int]:
    """The number of worker processes, and of batches that each prefetches, that fit into shared memory.

    Args:
        workers: the number that is wanted.
        batch_bytes: size of the largest batch.
        free: free bytes of shared memory.

    Returns:
        Worker processes and prefetched batches; 0 workers if not even one fits.
    """
    choices = [(workers, batches) for batches in range(PREFETCHED, 0, -1)]
    choices += [(fewer, 1) for fewer in range(workers - 1, 0, -1)]
    # Plus the batch that is being used.
    return next((c for c in choices if c[0] and (c[0] * c[1] + 1) * batch_bytes <= free), (0, PREFETCHED))


class _FrameDataset(Dataset):
    """Maps an int64 array of frame ids [...] to the frames, or to the error of reading them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, key: np.ndarray) -> Tensor | ProjectError:
        try:
            return shared(self.store.read(key.reshape(-1)).unflatten(0, key.shape))
        except DataError as error:
            return error  # not raised: an exception of a worker process arrives wrapped in the worker's traceback


class _Plan:
    """A batch sampler whose list of keys can be replaced every epoch."""

    def __init__(self) -> None:
        self.keys: list[np.ndarray] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def _loader(store: Store, plan: _Plan, workers: int, pin_memory: bool, prefetched: int) -> DataLoader:
    options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": prefetched} if workers else {}
    return DataLoader(
        _FrameDataset(store),
        sampler=plan,  # type: ignore[arg-type]  # keys are whole batches
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        # Without a generator of its own, the loader draws from torch's, and dropout depends on the number of workers.
        generator=torch.Generator(),
        worker_init_fn=ignore_signals,
        **options,
    )


class TrainingBatches:
    """Batches of training samples, drawn again in every epoch.

    Args:
        table, store: the training set.
        num_frames: K.
        batch_size: samples per batch. A smaller last batch is dropped, since batch norm needs several samples, unless
            it is the only batch of the epoch.
        seed: of the plan. Combined with the epoch's number, so that epoch 7 is the same whether or not epochs 1 to 6
            ran in this process.
        samples_per_clip: see `draw_segments`.
        workers, pin_memory: of the `DataLoader`.
        prefetched: batches that each worker loads before they are needed.
        rank, world_size: of several processes, which draw the same plan and take a share of every batch each.

    Attributes:
        shares: per batch, the number of this process's samples relative to an even split. Averaged over processes, a
            loss weighted by it is the mean over the whole batch.
    """

    def __init__(
        self,
        table: FrameTable,
        store: Store,
        *,
        num_frames: int,
        batch_size: int,
        seed: int,
        samples_per_clip: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
        prefetched: int = PREFETCHED,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.table, self.num_frames, self.batch_size = table, num_frames, batch_size
        self.seed, self.samples_per_clip = seed, samples_per_clip
        self.rank, self.world_size = rank, world_size
        self.plan = _Plan()
        self.clips: list[np.ndarray] = []
        self.shares: list[float] = []
        self.loader = _loader(store, self.plan, workers, pin_memory, prefetched)
        self.set_epoch(1)

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Draws the plan of an epoch, counted from 1.

        Args:
            epoch: its number.
            done: batches to skip, because they were trained on before an interruption.

        Raises:
            DataError: a batch has fewer samples than there are processes.
        """
        rng = np.random.default_rng([self.seed, epoch])
        clips, frames = draw_segments(self.table.lengths, self.num_frames, rng, self.samples_per_clip)
        ids = self.table.offsets[clips][:, None] + frames  # [samples, K]
        if self.table.renewed:
            ids += epoch * self.table.num_frames
        whole = len(ids) // self.batch_size
        stop = whole * self.batch_size if whole else len(ids)
        starts = range(0, stop, self.batch_size)[done:]
        size = min(self.batch_size, stop)  # of every batch
        first, last = self.rank * size // self.world_size, (self.rank + 1) * size // self.world_size
        if size < self.world_size:
            raise DataError(f"batches have {size} samples for {self.world_size} processes; start fewer processes")
        self.plan.keys = [ids[start + first : start + last] for start in starts]
        self.clips = [clips[start + first : start + last] for start in starts]
        self.shares = [(last - first) * self.world_size / size] * len(starts)

    @property
    def samples(self) -> Tensor | None:
        """How many samples of each clip an epoch has, int64 [clips]; None: of all equally many."""
        return torch.from_numpy(self.table.lengths) if self.samples_per_clip is None else None

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Yields {frames uint8 [B, K, channels, H, W], lengths int64 [B], labels, clips int64 [B]}."""
        for clips, frames in zip(self.clips, self.loader, strict=True):
            yield {
                "frames": _checked(frames),
                "lengths": torch.full((len(clips),), self.num_frames),
                "labels": self.table.targets[torch.from_numpy(clips)],
                "clips": torch.from_numpy(clips),
            }


class EvaluationBatches:
    """All frames of all clips, in order, packed into batches of `batch_frames` across clip borders.

    With several processes, each takes every `world_size`-th batch; their number does not change the batches.
    The r-th batches of all processes are round r.

    Attributes:
        rounds: per round, the number of frames in the batch of each process, 0 if it has no batch left.
    """

    def __init__(
        self,
        table: FrameTable,
        store: Store,
        *,
        batch_frames: int,
        workers: int = 0,
        pin_memory: bool = False,
        prefetched: int = PREFETCHED,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.table, self.batch_frames = table, batch_frames
        ids = np.arange(table.num_frames)
        keys = [ids[start : start + batch_frames] for start in range(0, len(ids), batch_frames)]
        keys += [ids[:0]] * (-len(keys) % world_size)
        lengths = [len(key) for key in keys]
        self.rounds = [lengths[start : start + world_size] for start in range(0, len(keys), world_size)]
        plan = _Plan()
        plan.keys = keys[rank::world_size]
        self.loader = _loader(store, plan, workers, pin_memory, prefetched)

    def __len__(self) -> int:
        return len(self.rounds)

    def __iter__(self) -> Iterator[Tensor]:
        """Yields uint8 [N, channels, H, W]."""
        return map(_checked, self.loader)


def _checked(frames: Tensor | ProjectError) -> Tensor:
    # A copy: raising the local itself makes a cycle of error and frame, which keeps the workers alive.
    if isinstance(frames, DataError):
        raise DataError.joined([frames])
    if isinstance(frames, ProjectError):
        raise type(frames)(str(frames))
    return frames


def ignore_signals(worker: int) -> None:
    """A `worker_init_fn` of `DataLoader`: leaves signals that stop all processes to the parent.

    The parent finishes its step first, which needs its workers. They end with the parent.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
