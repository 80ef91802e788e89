"""`--cache`: which store holds a run's frames."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from Code.data.cache import CacheError, CacheFile, in_words
from Code.data.clips import ClipSet, DataError
from Code.data.composed.clips import ComposedClips, ComposedStore
from Code.data.loaders import Store
from Code.data.parallel import Progress, read_in_chunks
from Code.data.store import ArrayStore, FileStore, Say

CACHES = ("auto", "none", "disk", "device")
# What auto leaves to others: of a GPU's free memory to activations, of the disk to everything else.
DEVICE_SHARE = 0.5
DISK_SHARE = 0.9
MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class CacheChoice:
    """Where the frames of a run are kept.

    Attributes:
        mode: "none", "disk" or "device".
        reason: for people.
    """

    mode: str
    reason: str


def choose_cache(mode: str, num_frames: int, image_size: int, device: torch.device, folder: Path) -> CacheChoice:
    """Turns `--cache` into what is done.

    `auto` keeps the frames on a GPU if they take at most half of its free memory; else in a file if they fit
    the disk's free room and the machine's memory (a file that does not stay in memory is read at random,
    with a dozen times the bytes of its JPEGs); else it decodes on demand.

    Args:
        num_frames: of all splits of the run.
        folder: where cache files lie.
    """
    size = num_frames * image_size * image_size * 3
    if mode != "auto":
        return CacheChoice(mode, f"{in_words(size)} of frames")
    room = []
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if size <= DEVICE_SHARE * free:
            return CacheChoice("device", f"auto: {in_words(size)} of frames, {in_words(free)} free on the GPU")
        room.append(f"{in_words(free)} free on the GPU")
    free, memory = free_disk(folder), total_memory()
    room += [f"{in_words(free)} free in {folder}", f"{in_words(memory)} of memory"]
    mode = "disk" if size <= DISK_SHARE * free and size <= MEMORY_SHARE * memory else "none"
    return CacheChoice(mode, f"auto: {in_words(size)} of frames, {', '.join(room)}")


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
) -> list[Store]:
    """A store per split, all of one kind; clips that are composed when they are read have their own.

    Args:
        workers: processes that decode while a cache is filled.
        say: told in a line what is done.

    Raises:
        DataError: naming the frames that cannot be decoded, of all splits.
        CacheError: if the cache cannot be built.
    """
    stores: list[Store] = []
    errors = []
    for clips in splits:
        try:
            if isinstance(clips, ComposedClips):
                stores.append(ComposedStore(clips, image_size))
            elif choice.mode == "none":
                stores.append(FileStore(clips, image_size))
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
    """All frames in the device's memory, from their cache file if there is one, else decoded."""
    source: Store = FileStore(clips, image_size)
    num_frames = sum(map(len, clips.clips))
    size = num_frames * image_size * image_size * 3
    if folder.is_dir():
        cache = CacheFile(clips, image_size, folder)
        if cache.fault() is None:
            source = cache.open(workers, say)
    full = CacheError(
        f"--cache device: {in_words(size)} of frames do not fit the memory of {device}; take --cache disk or none"
    )
    if device.type == "cpu" and size > free_memory():
        raise full
    try:
        frames = torch.empty((num_frames, image_size, image_size, 3), dtype=torch.uint8, device=device)
    except RuntimeError as error:  # of which torch.OutOfMemoryError is one
        raise full from error
    problems: list[str] = []
    with Progress(num_frames, "decoding frames", say, show_progress) as progress:
        for ids, chunk in read_in_chunks(_Chunks(source), num_frames, workers):
            if isinstance(chunk, DataError):
                problems += chunk.problems
            else:
                frames[int(ids[0]) : int(ids[-1]) + 1] = chunk.permute(0, 2, 3, 1).to(device)
            progress.update(len(ids))
    if problems:
        raise DataError(problems)
    return ArrayStore(frames.permute(0, 3, 1, 2))


class _Chunks(Dataset):
    """Key: frame ids. Value: their pixels, or the error."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, ids: np.ndarray) -> Tensor | DataError:
        try:
            return self.store.read(ids)
        except DataError as error:
            return error  # as a value: see Code.data.loaders


def free_disk(folder: Path) -> int:
    """Bytes that are free where `folder` is or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _number_in("/sys/fs/cgroup/memory.max")
    return memory if limit is None else min(memory, limit)


def free_memory() -> int:
    """Bytes of it that are not in use, the file cache counted as free; all of it where the system does not say."""
    free = total_memory()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = min(free, int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass  # not Linux
    return free


def _number_in(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # no such file, or "max"
        return None
