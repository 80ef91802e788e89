"""Where a run's frames come from: stores, how they are loaded, and the features of a fixed backbone.

`--cache`: which store holds a run's frames.

Training with a fixed backbone: the features of every frame are computed once, the head alone learns.

Attention and classifier have a few thousand parameters; on fixed features a step costs next to nothing, so that a
CPU trains them in the time that the frames need to pass the backbone twice, once plain and once mirrored.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from Code.common.files import free_disk, in_words
from Code.common.machine import free_memory, total_memory
from Code.data.augment import PlainFrames, to_float
from Code.data.cache import CacheError, CacheFile, Progress, read_in_chunks
from Code.data.clips import ClipSet, DataError
from Code.data.composed.clips import ComposedClips, ComposedStore
from Code.data.loaders import ArrayStore, EvaluationBatches, FileStore, FrameTable, Say, Store
from Code.data.readers import find_reader
from Code.network.fan import FAN, FANOutput
from Code.training import distributed
from Code.training.compute import Compute
from Code.training.engine import Judged, Transform, encode_all
from Code.training.protocols import Protocol

BATCH_FRAMES = {"cpu": 128, "cuda": 512}  # frames the backbone sees at once in evaluation


@dataclass(frozen=True)
class Frames:
    """Where a run's frames come from.

    Attributes:
        cache: "none", "disk" or "device".
        stores: one per split.
        loading: what the splits' batches are made with: workers, pinned memory, this process's share.
        features: the stores hold features of a fixed backbone.
    """

    cache: str
    stores: list[Store]
    loading: dict[str, Any]
    features: bool = False


def open_frames(args: argparse.Namespace, splits: Sequence[ClipSet], size: int, compute: Compute) -> Frames:
    """Opens the store that `--cache` names, or that suits the machine, and fills it where that is needed."""
    world, device = distributed.world(), compute.device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_frames = sum(len(clip) for clips in splits if clips.in_files for clip in clips.clips)
    choice = distributed.from_main(lambda: choose_cache(args.cache, num_frames, size, device, args.cache_dir))
    print(f"cache: {choice.mode} ({choice.reason})")
    on_disk = choice.mode == "disk"
    # One process of a machine fills the file, with all cores; into their own memory all do at once.
    with distributed.local_main_first() if on_disk else nullcontext():
        stores = open_stores(
            splits,
            size,
            choice,
            folder=args.cache_dir,
            device=device,
            workers=cores if on_disk else cores // world.local_size,
            say=print,
            show_progress=world.local_rank == 0,
        )
    cores = max(1, cores // world.local_size)
    if choice.mode == "device":
        workers = 0
    elif args.workers is not None:
        workers = int(args.workers)
    elif device.type == "cuda":
        workers = min(16, cores)
    else:  # the cores compute; frames of a cache are only copied
        workers = 0 if on_disk else min(4, cores // 4)
    loading = {
        "workers": workers,
        "pin_memory": device.type == "cuda" and choice.mode != "device",
        "rank": world.rank,
        "world_size": world.size,
    }
    return Frames(choice.mode, stores, loading)


def batch_frames_of(compute: Compute) -> int:
    """Frames the backbone sees at once where nothing is learnt."""
    return BATCH_FRAMES.get(compute.device.type, BATCH_FRAMES["cpu"])


def judged_clips(protocol: Protocol, clips: ClipSet, store: Store, frames: Frames, compute: Compute) -> Judged:
    """A clip set to evaluate."""
    batches = EvaluationBatches(FrameTable.of(clips), store, batch_frames=batch_frames_of(compute), **frames.loading)
    return Judged(
        batches,
        FirstView() if frames.features else PlainFrames(),
        clips=clips.clips,
        intensities=find_reader(protocol.reader).intensities(clips),
        from_features=frames.features,
    )


def features_of(frames: Frames, splits: Sequence[ClipSet], model: FAN, compute: Compute) -> Frames:
    """The frames' features, of the first split (training) plain and mirrored, in place of the frames."""
    print("features of the fixed backbone: computed once, then the head alone learns", flush=True)
    stores: list[Store] = [
        FeatureStore.of(
            model,
            FrameTable.of(clips),
            store,
            compute,
            mirrored=number == 0,
            batch_frames=batch_frames_of(compute),
            loading=frames.loading,
        )
        for number, (clips, store) in enumerate(zip(splits, frames.stores, strict=True))
    ]
    return replace(frames, stores=stores, features=True, loading={**frames.loading, "workers": 0, "pin_memory": False})


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


class FeatureStore:
    """Features in memory, read like frames.

    Args:
        features: float32 [N, V, D]: V views of frame i in row i.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @classmethod
    def of(
        cls,
        model: FAN,
        table: FrameTable,
        store: Store,
        compute: Compute,
        *,
        mirrored: bool,
        batch_frames: int,
        loading: dict[str, Any],
    ) -> FeatureStore:
        """Passes all frames of a table through the backbone, in the batches that an evaluation takes.

        Args:
            mirrored: a second view holds the features of the mirrored frames.
            loading: what `EvaluationBatches` is told of workers and processes.
        """
        views: list[Transform] = [_plain, _mirrored] if mirrored else [_plain]
        batches = EvaluationBatches(table, store, batch_frames=batch_frames, **loading)
        return cls(torch.stack([encode_all(model, batches, compute=compute, transform=view) for view in views], dim=1))

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Features as float32 [N, V, D]."""
        return self.features[torch.from_numpy(frame_ids)]


def _plain(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames)


def _mirrored(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames.flip(-1))


class DrawnView:
    """Training transform: one of the views, drawn per clip so that its frames agree (flips of `FlippedClips`)."""

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """[B, T, 2, D] -> [B, T, D]."""
        flip = (torch.rand(len(features), generator=generator) < 0.5).to(features.device)
        return torch.where(flip[:, None, None], features[:, :, 1], features[:, :, 0])


class FirstView:
    """Evaluation transform: the frames as they are."""

    def __call__(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, T, V, D] -> [B, T, D]."""
        return features[:, :, 0]


class Head(nn.Module):
    """A FAN seen from its features: attention and classifier."""

    def __init__(self, fan: FAN) -> None:
        super().__init__()
        self.fan = fan

    def forward(self, features: Tensor) -> FANOutput:
        """[B, T, D] -> what the FAN says."""
        return self.fan.attend(features)


def head_parameters(fan: FAN) -> list[nn.Parameter]:
    """Freezes the backbone; returns what is left to learn."""
    for name, parameter in fan.named_parameters():
        parameter.requires_grad = name.split(".")[0] in ("alpha", "beta", "pred_fc1", "pred_fc2")
    return [parameter for parameter in fan.parameters() if parameter.requires_grad]
