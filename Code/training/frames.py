"""Where a run's frames come from: stores, how they are loaded, and the features of a fixed backbone."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from Code.data.augment import PlainFrames
from Code.data.clips import ClipSet
from Code.data.loaders import EvaluationBatches, Store
from Code.data.store import FrameTable
from Code.data.stores import choose_cache, open_stores
from Code.network.fan import FAN
from Code.training import distributed
from Code.training.compute import Compute
from Code.training.features import FeatureStore, FirstView
from Code.training.inputs import intensities_of
from Code.training.judging import Judged

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


def judged_clips(args: argparse.Namespace, clips: ClipSet, store: Store, frames: Frames, compute: Compute) -> Judged:
    """A clip set to evaluate."""
    batches = EvaluationBatches(FrameTable.of(clips), store, batch_frames=batch_frames_of(compute), **frames.loading)
    return Judged(
        batches,
        FirstView() if frames.features else PlainFrames(),
        clips=clips.clips,
        intensities=intensities_of(args, clips),
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
