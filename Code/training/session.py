"""One training, one evaluation: from the flags of the main script to a run's folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from Code.data.augment import FlippedClips, PlainFrames
from Code.data.clips import ClipSet, describe
from Code.data.loaders import EvaluationBatches, Store, TrainingBatches
from Code.data.store import FrameTable
from Code.data.stores import choose_cache, open_stores
from Code.network.pretrained import load_fan, read_checkpoint
from Code.training import distributed
from Code.training.engine import Compute, choose_compute
from Code.training.errors import UsageError
from Code.training.inputs import (
    intensities_of,
    prepare_sample,
    read_both,
    read_split,
    refuse_broken_images,
    resolve_protocol,
)
from Code.training.protocols import ATTENTIONS
from Code.training.runs import Run, newest_best
from Code.training.setup import seeded_model, start_from, starting_file
from Code.training.trainer import (
    Judged,
    Training,
    conclude,
    decay_at_thirds,
    judge,
    per_step,
    run_training,
    summary,
    write_outcome,
)

BATCH_FRAMES = {"cpu": 128, "cuda": 512}  # frames the backbone sees at once in evaluation


@dataclass(frozen=True)
class Frames:
    """Where a run's frames come from.

    Attributes:
        cache: "none", "disk" or "device".
        stores: one per split.
        loading: what the splits' batches are made with: workers, pinned memory, this process's share.
    """

    cache: str
    stores: list[Store]
    loading: dict[str, Any]


def open_frames(args: argparse.Namespace, splits: Sequence[ClipSet], size: int, compute: Compute) -> Frames:
    """Opens the store that `--cache` names, or that suits the machine, and fills it where that is needed."""
    world, device = distributed.world(), compute.device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_frames = sum(len(clip) for clips in splits for clip in clips.clips)
    choice = distributed.from_main(lambda: choose_cache(args.cache, num_frames, size, device, args.cache_dir))
    print(f"cache: {choice.mode} ({choice.reason})")
    on_disk = choice.mode == "disk"
    if choice.mode == "none":
        refuse_broken_images(splits)
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


def judged_clips(args: argparse.Namespace, clips: ClipSet, store: Store, frames: Frames, compute: Compute) -> Judged:
    """A clip set to evaluate."""
    batch_frames = BATCH_FRAMES.get(compute.device.type, BATCH_FRAMES["cpu"])
    batches = EvaluationBatches(FrameTable.of(clips), store, batch_frames=batch_frames, **frames.loading)
    return Judged(batches, PlainFrames(), clips=clips.clips, intensities=intensities_of(args, clips))


def evaluate_checkpoint(args: argparse.Namespace) -> Path:
    """`-e`: a trained FAN on the validation set; writes results beside those of training runs.

    Returns:
        The folder of the results.
    """
    path = args.checkpoint or newest_best(args.output, args.dataset, args.at_type)
    if path is None:
        raise UsageError(
            f"-e: no trained network of dataset {args.dataset} in {args.output}; train one first (leave -e away), "
            "or name one with --checkpoint"
        )
    fan, info = load_fan(path)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    compute = choose_compute(args.device, args.precision, trained_with=info.get("precision"))
    prepare_sample(args)
    protocol = resolve_protocol(args)
    val = read_split(args, protocol, "val", tuple(info["labels"]) if protocol.labels is None else protocol.labels)
    if tuple(info["labels"]) != val.labels:
        raise UsageError(
            f"--checkpoint {path}: its classes are {', '.join(info['labels'])}; the data's {', '.join(val.labels)}"
        )
    print(f"evaluating {path} ({ATTENTIONS[fan.at_type]}) on {compute.device}, {compute.precision}")
    print(f"val:   {describe(val)}")
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    frames = open_frames(args, [val], args.image_size or info["image_size"], compute)
    judged = judged_clips(args, val, frames.stores[0], frames, compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, args.dataset, fan.at_type, suffix="_evaluation")
    run.write_arguments(args, {"checkpoint": path, "at_type": fan.at_type, "cache": frames.cache}, compute)
    write_outcome(run, judged, {"best": {"epoch": info.get("epoch"), **metrics}}, evaluation)
    run.close()
    print(summary(metrics))
    return run.folder


def train(args: argparse.Namespace) -> Path:
    """Trains, evaluates after every epoch, and writes the run's folder; returns it."""
    at_type = 1 if args.at_type is None else args.at_type
    compute = choose_compute(args.device, args.precision)
    prepare_sample(args)
    protocol = resolve_protocol(args)
    train_clips, val_clips = read_both(args, protocol)
    labels = train_clips.labels

    model = seeded_model(at_type, len(labels), args.seed)
    start = starting_file(args.pretrained)
    if args.resume:
        made_at = read_checkpoint(args.resume / "last.pth")["image_size"]
        message = f"resuming {args.resume}"
    else:
        made_at, message = start_from(model, start, protocol.image_size)
    size = args.image_size or made_at
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{ATTENTIONS[at_type]} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    frames = open_frames(args, [train_clips, val_clips], size, compute)
    batches = TrainingBatches(
        FrameTable.of(train_clips),
        frames.stores[0],
        num_frames=protocol.num_frames,
        batch_size=protocol.batch_size,
        seed=args.seed,
        samples_per_clip=protocol.samples_per_clip,
        **frames.loading,
    )
    forward = distributed.wrapped(model)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=compute.device.type == "cuda",  # which keeps fp16's loss scaling from waiting for the GPU each step
    )
    schedule = per_step(decay_at_thirds(protocol.epochs, protocol.decay), len(batches))
    judged = judged_clips(args, val_clips, frames.stores[1], frames, compute)
    flips = FlippedClips()
    training = Training(
        model=model,
        train=batches,
        val=judged,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
        compute=compute,
        transform=lambda epoch: flips,
        epochs=protocol.epochs,
        seed=args.seed,
        labels=labels,
        image_size=size,
        dataset=args.dataset,
        protocol=protocol.as_dict(),
        forward=torch.compile(forward) if args.compile else forward,
        print_freq=args.print_freq,
    )
    run = Run(args.resume) if args.resume else Run.create(args.output, args.dataset, at_type)
    if args.resume:
        training.resume(run.folder / "last.pth")
        run.cut_log(training.first_epoch - 1)
    else:
        resolved = {"at_type": at_type, "pretrained": str(start or "none"), "cache": frames.cache}
        resolved["workers"] = frames.loading["workers"]
        run.write_arguments(args, {**protocol.as_dict(), **resolved}, compute)
    run_training(training, run)
    results = conclude(run, model, judged, compute)
    run.close()
    for which, metrics in results.items():
        note = "best on these clips" if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}): {summary(metrics)}")
    return run.folder
