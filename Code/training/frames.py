"""Where the frames of a run come from: the store that `--cache` names, filled if need be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..common.device import Compute
from ..common.errors import ProjectError
from ..common.files import free_disk, in_words
from ..common.machine import available_cores, free_memory, free_shared_memory, total_memory
from ..common.progress import Progress
from ..common.wording import counted
from ..data.augment import PlainFrames, augmentation_named
from ..data.cache import CHUNK_FRAMES, CacheError, CacheFile, read_in_chunks
from ..data.clips import ClipSet, DataError
from ..data.intensity import Intensities
from ..data.loaders import (
    PREFETCHED,
    EvaluationBatches,
    Say,
    SharedMemoryError,
    TrainingBatches,
    shared,
    workers_that_fit,
)
from ..data.stores import ArrayStore, FileStore, FrameTable, Store
from ..network.fan import FAN
from . import distributed
from .engine import EvaluationSplit, Transform
from .features import VIEWS, FeatureStore, PlainView

BATCH_FRAMES = {"cpu": 128, "cuda": 512}  # that the backbone sees at once in evaluation
# The shares that `--cache auto` uses at most: of a GPU's free memory (activations need the rest), of the free disk
# space, and of the memory.
DEVICE_SHARE = 0.5
DISK_SHARE = 0.9
MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Frames:
    """Where the frames of a run come from.

    Attributes:
        cache: "none", "disk" or "device".
        stores: one per split.
        loading: arguments of the splits' batches: workers, pinned memory, rank and number of processes.
        are_features: the stores hold the features of a frozen backbone in place of frames.
    """

    cache: str
    stores: list[Store]
    loading: dict[str, Any]
    are_features: bool = False

    def training_batches(self, clips: ClipSet, store: Store, **settings: Any) -> TrainingBatches:
        """Batches of training samples; `settings` are those of `TrainingBatches`."""
        table = FrameTable.of(clips)
        if self.are_features:
            table.renewed = False  # features are computed once, so they are the same in every epoch
        return TrainingBatches(table, store, **settings, **self.loading)

    def evaluation_split(
        self, clips: ClipSet, store: Store, compute: Compute, intensities: Intensities | None = None
    ) -> EvaluationSplit:
        """A clip set to evaluate on."""
        batches = EvaluationBatches(FrameTable.of(clips), store, batch_frames=batch_frames(compute), **self.loading)
        transform = PlainView() if self.are_features else PlainFrames()
        return EvaluationSplit(batches, transform, clips=clips.clips, intensities=intensities)

    def training_transform(self, augmentation: str) -> Transform:
        """What `--augmentation` does to these frames, or to features of them; see `check_augmentation`."""
        return VIEWS[augmentation]() if self.are_features else augmentation_named(augmentation)


def open_frames(
    splits: Sequence[ClipSet],
    size: int,
    compute: Compute,
    *,
    cache: str = "auto",
    cache_dir: Path = Path("Data/Cache"),
    workers: int | None = None,
    training_batch: int = 0,
    gray: bool = False,
) -> Frames:
    """Opens the store that `--cache` names, or the one that suits the machine, and fills it if need be.

    Args:
        splits: of the run.
        size: side of the frames, pixels.
        cache: "auto", "none", "disk" or "device".
        cache_dir: folder of the cache files.
        workers: processes that load frames during the run; None: by the number of cores.
        training_batch: frames in a batch of training.
        gray: read files in gray, see `read_image`; without a cache, whose frames are in color.
    """
    world, device = distributed.world(), compute.device
    cores = available_cores()
    num_frames = sum(len(clip) for clips in splits if clips.in_files for clip in clips.clips)
    choice = distributed.from_main(
        lambda: CacheChoice("none", "gray") if gray else choose_cache(cache, num_frames, size, device, cache_dir)
    )
    print(f"cache: {choice.mode} ({choice.reason})")
    on_disk = choice.mode == "disk"

    def opened(choice: CacheChoice) -> list[Store]:
        return open_stores(
            splits,
            size,
            choice,
            folder=cache_dir,
            device=device,
            workers=cores if on_disk else cores // world.local_size,
            say=print,
            show_progress=world.local_rank == 0,
            gray=gray,
        )

    # One process of a machine fills the file, with all cores; their own memory all processes fill at the same time.
    with distributed.local_main_first() if on_disk else nullcontext():
        try:
            stores = opened(choice)
        except CacheError as error:
            if cache != "auto":
                raise
            print(f"note: {error.problems[0]}; frames are decoded when they are needed (--cache none)")
            choice = CacheChoice("none", "auto")
            on_disk = False
            stores = opened(choice)
    cores = max(1, cores // world.local_size)
    if choice.mode == "device":
        workers = 0
    elif workers is None and device.type == "cuda":
        workers = min(16, cores)
    elif workers is None:  # the cores are busy with computing, and frames of a cache are only copied
        workers = 0 if on_disk else min(4, cores // 4)
    prefetched = PREFETCHED
    if workers:
        batch_bytes = max(training_batch, batch_frames(compute)) * size * size * 3
        workers, prefetched = _fit_shared_memory(workers, batch_bytes, free_shared_memory() // world.local_size)
    loading = {
        "workers": workers,
        "prefetched": prefetched,
        "pin_memory": device.type == "cuda" and choice.mode != "device",
        "rank": world.rank,
        "world_size": world.size,
    }
    return Frames(choice.mode, stores, loading)


def _fit_shared_memory(wanted: int, batch_bytes: int, free: int) -> tuple[int, int]:
    """(worker processes, batches prefetched by each) for which there is shared memory; says so if that is fewer."""
    workers, prefetched = workers_that_fit(wanted, batch_bytes, free)
    if workers < wanted:
        by = counted(workers, "worker process", "worker processes") if workers else "the training process itself"
        print(
            f"note: /dev/shm has {in_words(free)} free, too little for {wanted} worker processes with batches of "
            f"{in_words(batch_bytes)}: frames are loaded by {by} (docker run --shm-size 8g gives it more)"
        )
    return workers, prefetched


def batch_frames(compute: Compute) -> int:
    """Frames that the backbone sees at once in evaluation."""
    return BATCH_FRAMES.get(compute.device.type, BATCH_FRAMES["cpu"])


def features_of(frames: Frames, splits: Sequence[ClipSet], model: FAN, compute: Compute) -> Frames:
    """The features of the frames; of the first split, the training set, plain and mirrored."""
    print("the backbone is frozen: features are computed once, then the head is trained", flush=True)
    stores: list[Store] = [
        FeatureStore.of(
            model,
            FrameTable.of(clips),
            store,
            compute,
            mirrored=number == 0,
            batch_frames=batch_frames(compute),
            loading=frames.loading,
        )
        for number, (clips, store) in enumerate(zip(splits, frames.stores, strict=True))
    ]
    loading = {**frames.loading, "workers": 0, "pin_memory": False}
    return replace(frames, stores=stores, are_features=True, loading=loading)


@dataclass(frozen=True)
class CacheChoice:
    """Where the frames of a run are kept.

    Attributes:
        mode: "none", "disk" or "device".
        reason: a few words for the user.
    """

    mode: str
    reason: str


def choose_cache(mode: str, num_frames: int, image_size: int, device: torch.device, folder: Path) -> CacheChoice:
    """Decides where the frames are kept.

    `auto` keeps them on a GPU if they take at most half of its free memory; else in a file if they fit the free disk
    space and the memory of the machine (a file that does not stay in memory would be read at random, with a dozen
    times the bytes of its JPEGs); else it decodes on demand.

    Args:
        mode: the value of `--cache`.
        num_frames: of all splits of the run.
        folder: of the cache files.
    """
    size = num_frames * image_size * image_size * 3
    if mode != "auto":
        return CacheChoice(mode, f"{in_words(size)} of frames")
    reasons = []
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if size <= DEVICE_SHARE * free:
            return CacheChoice("device", f"auto: {in_words(size)} of frames, {in_words(free)} free on the GPU")
        reasons.append(f"{in_words(free)} free on the GPU")
    try:
        free, memory = free_disk(folder), total_memory()
        reasons += [f"{in_words(free)} free in {folder}", f"{in_words(memory)} of memory"]
        fits = size <= DISK_SHARE * free and size <= MEMORY_SHARE * memory
        if fits:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        fits = False
        reasons.append(f"{folder} cannot be written ({error.strerror})")
    return CacheChoice("disk" if fits else "none", f"auto: {in_words(size)} of frames, {', '.join(reasons)}")


def open_stores(
    splits: Sequence[ClipSet],
    image_size: int,
    choice: CacheChoice,
    *,
    folder: Path,
    device: torch.device,
    workers: int,
    say: Say,
    show_progress: bool = True,
    gray: bool = False,
) -> list[Store]:
    """A store per split, all of one kind. Clips that are composed when they are read have a store of their own.

    Args:
        workers: processes that decode while a cache is filled.
        say: is called with lines for the user.

    Raises:
        DataError: names the frames, of all splits, that cannot be decoded.
        CacheError: the cache cannot be built.
    """
    stores: list[Store] = []
    errors = []
    for clips in splits:
        try:
            if clips.renderer is not None:
                stores.append(clips.renderer(clips, image_size))
            elif choice.mode == "none":
                stores.append(FileStore(clips, image_size, gray=gray))
            elif choice.mode == "disk":
                stores.append(CacheFile(clips, image_size, folder).open(workers, say, show_progress))
            else:
                stores.append(_in_memory(clips, image_size, folder, device, workers, say, show_progress))
        except CacheError:
            raise
        except DataError as error:
            errors.append(error)
    if errors:
        raise DataError.joined(errors)
    return stores


def _in_memory(
    clips: ClipSet, image_size: int, folder: Path, device: torch.device, workers: int, say: Say, show_progress: bool
) -> ArrayStore:
    """All frames in the memory of the device, from their cache file if there is one, else decoded."""
    source: Store = FileStore(clips, image_size)
    num_frames = sum(map(len, clips.clips))
    size = num_frames * image_size * image_size * 3
    if folder.is_dir():
        cache = CacheFile(clips, image_size, folder)
        if cache.fault() is None:
            source = cache.open(workers, say)
    full = CacheError(
        f"--cache device: {in_words(size)} of frames do not fit the memory of {device}; use --cache disk or none"
    )
    if device.type == "cpu" and size > free_memory():
        raise full
    try:
        frames = torch.empty((num_frames, image_size, image_size, 3), dtype=torch.uint8, device=device)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        raise full from error
    chunk_bytes = 2 * CHUNK_FRAMES * image_size * image_size * 3  # a DataLoader prefetches two
    workers, _ = workers_that_fit(workers, chunk_bytes, free_shared_memory() // distributed.world().local_size)
    problems: list[str] = []
    with Progress("decoding frames", num_frames, show=show_progress) as progress:
        for ids, chunk in read_in_chunks(_Chunks(source), num_frames, workers):
            if isinstance(chunk, DataError):
                problems += chunk.problems
            elif isinstance(chunk, SharedMemoryError):
                raise SharedMemoryError(str(chunk))
            else:
                frames[int(ids[0]) : int(ids[-1]) + 1] = chunk.permute(0, 2, 3, 1).to(device)
            progress(len(ids))
    if problems:
        raise DataError(problems)
    return ArrayStore(frames.permute(0, 3, 1, 2))


class _Chunks(Dataset):
    """Key: frame ids. Value: their pixels, or the error."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, ids: np.ndarray) -> Tensor | ProjectError:
        try:
            return shared(self.store.read(ids))
        except DataError as error:
            return error  # as a value, see `_FrameDataset` in Code.data.loaders
