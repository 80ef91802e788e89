"""From clips to batches of frames.

`FrameTable` numbers the frames of all clips, and a store reads frames by these numbers. `TrainingBatches` draws K
frames per sample, one from each of K equal segments. `EvaluationBatches` packs all frames of all clips into full
batches, across clip borders. An epoch is planned in one place, from a seed; worker processes have no state.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..common.device import free_memory, world
from ..common.errors import STOP_SIGNALS, ProjectError, UsageError, WorkerError
from ..common.names import in_words
from ..common.progress import Progress, available_cores
from .clips import ClipSet, DataError
from .images import read_image

Batch = dict[str, Tensor]
BATCH_FRAMES = {"cpu": 128, "cuda": 512, "mps": 128}  # that the backbone sees at once in evaluation
PREFETCHED = 4  # batches, by each worker process
DECODED = 64  # frames in a chunk while a cache is filled
MEMORY_SHARE = 0.5  # of the free memory that frames take unless `--cache memory` asks for more


@dataclass
class FrameTable:
    """The frames of all clips in one row: clip c has the numbers offsets[c] to offsets[c + 1] - 1.

    Attributes:
        targets: int64 [clips] class indices, or float32 [clips, C] class probabilities.
        renewed: every training epoch has new frames; their numbers are number + epoch * num_frames.
    """

    lengths: np.ndarray  # int64 [clips], in frames
    targets: Tensor
    names: Sequence[str]  # of the clips
    labels: tuple[str, ...]  # the class names
    skipped: int = 0  # number of clips without frames, beside these
    renewed: bool = False

    def __post_init__(self) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Of all clips together."""
        return int(self.offsets[-1])

    @classmethod
    def of(cls, clips: ClipSet) -> FrameTable:
        """The table of a `ClipSet`, in the same order."""
        lengths = np.array([len(clip) for clip in clips.clips], dtype=np.int64)
        targets = torch.tensor([clip.label for clip in clips.clips], dtype=torch.int64)
        names = [clip.name for clip in clips.clips]
        return cls(lengths, targets, names, clips.labels, len(clips.skipped), renewed=not clips.in_files)


class Store(typing.Protocol):
    """Reads frames by their numbers."""

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, channels, H, W]."""
        ...


class FileStore:
    """Decodes image files when they are read, and squeezes them to a square, as the published pipeline does."""

    def __init__(self, clips: ClipSet, image_size: int, *, gray: bool = False) -> None:
        self.clips, self.image_size, self.gray = clips.clips, image_size, gray
        self.offsets = FrameTable.of(clips).offsets

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 3, S, S], RGB. Raises DataError naming a file that cannot be read."""
        out = np.empty((len(frame_ids), self.image_size, self.image_size, 3), dtype=np.uint8)
        clips = np.searchsorted(self.offsets, frame_ids, side="right") - 1  # [N]
        for row, (clip, frame) in enumerate(zip(clips, frame_ids - self.offsets[clips], strict=True)):
            out[row] = read_image(self.clips[clip].path(frame), self.image_size, gray=self.gray)
        return torch.from_numpy(out).permute(0, 3, 1, 2)


class ArrayStore:
    """Frames in the memory of the host or of a GPU, uint8 [N, 1 or 3, H, W], or features of them; row i is frame i."""

    def __init__(self, frames: np.ndarray | Tensor) -> None:
        self.frames = torch.as_tensor(frames)

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1 or 3, H, W], on the device of the store."""
        return self.frames[torch.from_numpy(frame_ids).to(self.frames.device, non_blocking=True)]


@dataclass(frozen=True)
class Loading:
    """How batches reach this process: workers that read frames (0: itself), for a GPU or not."""

    workers: int = 0
    pin_memory: bool = False


LOCAL = Loading()  # this process alone reads everything


class _Frames(Dataset):
    """The frames of a store by arrays of their numbers, int64 [...].

    An error is returned, since an exception of a worker process would arrive wrapped in the worker's traceback.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, ids: np.ndarray) -> Tensor | ProjectError:
        try:
            frames = self.store.read(ids.reshape(-1)).unflatten(0, ids.shape)
        except DataError as error:
            return error
        if get_worker_info() is None:
            return frames
        try:  # else the worker's queue does it in a thread whose errors get lost, and the training waits for ever
            return frames.share_memory_()
        except RuntimeError as error:
            return WorkerError(f"/dev/shm is full ({error}); use --workers 0, or enlarge it (docker run --shm-size 8g)")


class FrameReader:
    """Reads frames by arrays of their numbers, with workers that live as long as it does."""

    def __init__(self, store: Store, loading: Loading) -> None:
        if loading.workers:
            atexit.register(_end_workers)
        self._batches: list[np.ndarray] = []
        self._loader = DataLoader(
            _Frames(store),
            sampler=self._batches,
            batch_size=None,
            num_workers=loading.workers,
            persistent_workers=loading.workers > 0,
            prefetch_factor=PREFETCHED if loading.workers else None,
            pin_memory=loading.pin_memory,
            # Without a generator of its own, it draws from torch's, and dropout depends on the number of workers.
            generator=torch.Generator(),
            worker_init_fn=_ignore_signals,
        )

    def read(self, batches: list[np.ndarray]) -> Iterator[Tensor]:
        """Reads one array of numbers, int64 [...], after the other: uint8 [..., channels, H, W].

        Raises DataError naming a file that cannot be read, or WorkerError if a worker cannot pass on its frames.
        """
        self._batches[:] = batches  # the loader's sampler is this list, so its workers live from epoch to epoch
        for frames in self._loader:
            if isinstance(frames, ProjectError):
                raise frames
            yield frames


def _ignore_signals(worker: int) -> None:
    """Leaves signals that stop all processes to the parent, which finishes its step first."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_workers() -> None:
    """Ends the workers that an error has left: at exit, Python would send them SIGTERM, and wait for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch reports a worker that was killed
    for process in multiprocessing.active_children():
        process.kill()


def draw_segments(
    lengths: np.ndarray, num_frames: int, rng: np.random.Generator, samples_per_clip: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Plans an epoch: draws the frames of each training sample.

    A clip of L frames is divided into K = `num_frames` equal segments [i L / K, (i + 1) L / K) without overlap, with
    bounds rounded down, and one frame is drawn from each. A clip with fewer than K frames repeats frames in order.

    Args:
        lengths: int64 [clips], all above zero.
        samples_per_clip: None draws as many as the clip has frames (the published protocol).

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


class TrainingBatches:
    """Batches of training samples, drawn again in every epoch.

    A smaller last batch is dropped, since batch norm needs several samples, unless it is the only batch of the epoch.

    Args:
        num_frames, samples_per_clip: see `draw_segments`.
        batch_size: samples per batch, of all processes together. Raises UsageError if they cannot share it equally.
        seed: combined with the epoch's number, so that epoch 7 does not depend on what ran before it.
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
        loading: Loading = LOCAL,
    ) -> None:
        self.table, self.store, self.loading = table, store, loading
        self.reader = FrameReader(store, loading)
        self.num_frames, self.samples_per_clip, self.seed = num_frames, samples_per_clip, seed
        samples = table.num_frames if samples_per_clip is None else len(table) * samples_per_clip
        self.batch_size = min(batch_size, samples)
        self.steps = samples // self.batch_size
        self.world = world()
        if self.batch_size % self.world.size:
            count = self.world.size
            raise UsageError(f"--batch-size {self.batch_size}: choose a multiple of the {count} processes")

    def __len__(self) -> int:
        return self.steps

    @property
    def samples(self) -> Tensor | None:
        """How many samples of each clip an epoch has, int64 [clips]; None: of all equally many."""
        return torch.from_numpy(self.table.lengths) if self.samples_per_clip is None else None

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yields this process's part of each batch: frames uint8 [B, K, channels, H, W], labels, clips int64 [B]."""
        rng = np.random.default_rng([self.seed, number])
        clips, frames = draw_segments(self.table.lengths, self.num_frames, rng, self.samples_per_clip)
        ids = self.table.offsets[clips][:, None] + frames  # [samples, K]
        if self.table.renewed:
            ids += number * self.table.num_frames
        part = self.batch_size // self.world.size
        starts = range(self.world.rank * part, self.steps * self.batch_size, self.batch_size)
        for start, batch in zip(starts, self.reader.read([ids[at : at + part] for at in starts]), strict=True):
            of_batch = torch.from_numpy(clips[start : start + part])
            yield {"frames": batch, "labels": self.table.targets[of_batch], "clips": of_batch}


class EvaluationBatches:
    """All frames of all clips, in order, packed into batches of `batch_frames` across clip borders.

    Several processes take turns: their number does not change the batches. The r-th batches of all processes are
    round r; `rounds` has the number of frames in each of them, 0 if a process has no batch left.
    """

    def __init__(self, table: FrameTable, store: Store, *, batch_frames: int, loading: Loading = LOCAL) -> None:
        self.table, self.reader = table, FrameReader(store, loading)
        processes = world().size
        batches = _in_order(table.num_frames, batch_frames)
        batches += [np.arange(0)] * (-len(batches) % processes)
        sizes = [len(batch) for batch in batches]
        self.rounds = [sizes[at : at + processes] for at in range(0, len(sizes), processes)]
        self.batches = batches[world().rank :: processes]

    def __len__(self) -> int:
        return len(self.rounds)

    def __iter__(self) -> Iterator[Tensor]:
        """Yields uint8 [N, channels, H, W]."""
        return self.reader.read(self.batches)


def _in_order(num_frames: int, size: int) -> list[np.ndarray]:
    """The numbers of all frames, in parts of `size`."""
    return np.split(np.arange(num_frames), range(size, num_frames, size))


def open_stores(
    splits: Sequence[ClipSet],
    image_size: int,
    device: torch.device,
    *,
    cache: str | None = None,
    workers: int | None = None,
    gray: bool = False,
) -> tuple[list[Store], Loading]:
    """A store per split: of files, or of frames that are decoded now and kept as one uint8 tensor.

    Args:
        image_size: side of the frames, pixels.
        cache: "none", "memory" or "device"; None: memory if the frames fit well.
        workers: that read files; None: what suits the machine. On a CPU, most cores are busy with computing.

    Returns:
        The stores, and how batches are loaded from them. UsageError if the frames do not fit.
    """
    on_gpu = device.type == "cuda"
    cores = max(1, available_cores() // world().local_size)
    size = sum(len(clip) for clips in splits if clips.in_files for clip in clips.clips) * image_size**2 * 3
    free = torch.cuda.mem_get_info(device)[0] if on_gpu and cache == "device" else free_memory() // world().local_size
    if cache is None:
        cache = "memory" if size <= MEMORY_SHARE * free else "none"
        print(f"cache: {cache} ({in_words(size)} of frames, {in_words(free)} of memory free)")
    if cache != "none" and size > free:
        raise UsageError(
            f"--cache {cache}: {in_words(size)} of frames do not fit {in_words(free)} of free memory; use --cache none"
        )
    stores: list[Store] = [
        clips.renderer(clips, image_size) if clips.renderer else FileStore(clips, image_size, gray=gray)
        for clips in splits
    ]
    if cache == "none":
        if workers is None:
            workers = min(16, cores) if on_gpu else min(4, cores // 4)
        return stores, Loading(workers, on_gpu)
    target = torch.device("cpu") if cache == "memory" else device
    decoded = [_decoded(store, target, cores) if isinstance(store, FileStore) else store for store in stores]
    return decoded, Loading(0, on_gpu and cache == "memory")


def _decoded(store: FileStore, device: torch.device, workers: int) -> ArrayStore:
    """All frames of a store in memory."""
    num_frames, size = int(store.offsets[-1]), store.image_size
    frames = torch.empty((num_frames, size, size, 3), dtype=torch.uint8, device=device)
    reader = FrameReader(store, Loading(workers if num_frames > DECODED else 0))
    with Progress("decoding frames", num_frames) as progress:
        chunks = reader.read(_in_order(num_frames, DECODED))
        for rows, chunk in zip(frames.split(DECODED), chunks, strict=True):  # uint8 [N, 3, S, S]
            rows.copy_(chunk.permute(0, 2, 3, 1))
            progress(len(chunk))
    return ArrayStore(frames.permute(0, 3, 1, 2))
