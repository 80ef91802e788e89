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
from Code.data.folds import hold_out
from Code.data.labels import relabelled
from Code.data.loaders import EvaluationBatches, Store, TrainingBatches
from Code.data.store import FrameTable
from Code.data.stores import choose_cache, open_stores
from Code.network.fan import FAN
from Code.network.pretrained import load_fan, read_checkpoint
from Code.training import distributed
from Code.training.engine import Compute, Transform, choose_compute
from Code.training.errors import UsageError
from Code.training.features import DrawnView, FeatureStore, FirstView, Head, head_parameters
from Code.training.inputs import (
    intensities_of,
    label_map,
    prepare_sample,
    read_both,
    read_evaluated,
    refuse_broken_images,
    resolve_protocol,
    say_labels,
    take_up_data,
)
from Code.training.protocols import ATTENTIONS, Protocol
from Code.training.runs import Run, fold_suffix, newest_best, newest_whole
from Code.training.setup import seeded_model, start_from, starting_file
from Code.training.trainer import (
    Judged,
    Training,
    conclude,
    decay_after,
    judge,
    per_step,
    run_training,
    summary,
    write_outcome,
)

SELECTED = {"val": "best on the evaluated split", "heldout": "best on clips held out of training"}
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


def open_frames(
    args: argparse.Namespace, splits: Sequence[ClipSet], size: int, compute: Compute, *, check_images: bool = True
) -> Frames:
    """Opens the store that `--cache` names, or that suits the machine, and fills it where that is needed."""
    world, device = distributed.world(), compute.device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_frames = sum(len(clip) for clips in splits for clip in clips.clips)
    choice = distributed.from_main(lambda: choose_cache(args.cache, num_frames, size, device, args.cache_dir))
    print(f"cache: {choice.mode} ({choice.reason})")
    on_disk = choice.mode == "disk"
    if choice.mode == "none" and check_images:
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


def evaluate_checkpoint(args: argparse.Namespace) -> Path:
    """`-e`: a trained FAN on the validation set; writes results beside those of training runs.

    Returns:
        The folder of the results.
    """
    if args.fold == "all" or args.seeds:
        raise UsageError("-e: evaluates one network; name a fold's or seed's with --checkpoint RUN/fold-01/best.pth")
    path = args.checkpoint or newest_best(args.output, args.dataset or "afew", args.at_type, args.fold)
    if path is None:
        raise UsageError(
            f"-e: no trained network of dataset {args.dataset or 'afew'} in {args.output}; train one first "
            "(leave -e away), or name one with --checkpoint"
        )
    fan, info = load_fan(path)
    take_up_data(args, info)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    compute = choose_compute(args.device, args.precision, trained_with=info.get("precision"))
    prepare_sample(args)
    protocol = resolve_protocol(args)
    val, protocol = read_evaluated(args, protocol, info)
    val = relabelled(val, info["labels"], label_map(args), f"--checkpoint {path}")
    print(f"evaluating {path} ({ATTENTIONS[fan.at_type]}) on {compute.device}, {compute.precision}")
    part = "" if protocol.fold is None else f" (fold {protocol.fold} of {protocol.num_folds} alone)"
    print(f"val:   {describe(val)}{part}")
    say_labels(val.labels)
    for note in val.notes:
        print(f"note:  {note}")
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    frames = open_frames(args, [val], args.image_size or info["image_size"], compute)
    judged = judged_clips(args, val, frames.stores[0], frames, compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, args.dataset, fan.at_type, suffix=fold_suffix(protocol.fold) + "_evaluation")
    run.write_arguments(args, {"checkpoint": path, "at_type": fan.at_type, "cache": frames.cache}, compute)
    about = {} if protocol.fold is None else {"fold": protocol.fold, "num_folds": protocol.num_folds}
    write_outcome(run, judged, {"best": {"epoch": info.get("epoch"), **metrics}}, evaluation, about)
    run.close()
    print(summary(metrics))
    return run.folder


def about_results(protocol: Protocol) -> dict[str, Any]:
    """What results.json says beside the metrics: how the best epoch was chosen, and which fold this is."""
    about: dict[str, Any] = {"selected_on": SELECTED[protocol.select_on]}
    if protocol.fold is not None:
        about |= {"fold": protocol.fold, "num_folds": protocol.num_folds}
    return about


def train(args: argparse.Namespace, into: Path | None = None, *, check_images: bool = True) -> Path:
    """Trains, evaluates after every epoch, and writes the run's folder.

    Args:
        args: the flags; `args.resume` goes on with a run.
        into: the run's folder, one of several folds or seeds; gone on with if it holds a `last.pth`.
        check_images: look at every image file first.

    Returns:
        The run's folder.
    """
    resumed = args.resume or (into if into and (into / "last.pth").is_file() else None)
    at_type = 1 if args.at_type is None else args.at_type
    compute = choose_compute(args.device, args.precision)
    prepare_sample(args)
    protocol = resolve_protocol(args)
    train_clips, val_clips, protocol = read_both(args, protocol)
    labels = train_clips.labels
    held_out = None
    if protocol.select_on == "heldout":
        train_clips, held_out, how = hold_out(train_clips, args.seed)
        print(f"held out of training to choose the epoch: {describe(held_out)} ({how})")

    model = seeded_model(at_type, len(labels), args.seed)
    start = starting_file(args.pretrained)
    if resumed:
        checkpoint = newest_whole(resumed)
        made_at = read_checkpoint(checkpoint)["image_size"]
        message = f"resuming {resumed}"
    else:
        made_at, message = start_from(model, start, protocol.image_size, labels, label_map(args))
    size = args.image_size or made_at
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{ATTENTIONS[at_type]} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    judged_sets = [val_clips] if held_out is None else [val_clips, held_out]
    frames = open_frames(args, [train_clips, *judged_sets], size, compute, check_images=check_images)
    learner: torch.nn.Module = model
    parameters = list(model.parameters())
    transform: Transform = FlippedClips()
    if protocol.freeze_backbone:
        parameters, transform, learner = head_parameters(model), DrawnView(), Head(model)
        frames = features_of(frames, [train_clips, *judged_sets], model, compute)
    batches = TrainingBatches(
        FrameTable.of(train_clips),
        frames.stores[0],
        num_frames=protocol.num_frames,
        batch_size=protocol.batch_size,
        seed=args.seed,
        samples_per_clip=protocol.samples_per_clip,
        **frames.loading,
    )
    forward = distributed.wrapped(learner)
    optimizer = torch.optim.SGD(
        parameters,
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=compute.device.type == "cuda",  # which keeps fp16's loss scaling from waiting for the GPU each step
    )
    schedule = per_step(decay_after(protocol.decay_at, protocol.decay), len(batches))
    judged, *chosen_on = (
        judged_clips(args, clips, store, frames, compute)
        for clips, store in zip(judged_sets, frames.stores[1:], strict=True)
    )
    training = Training(
        model=model,
        train=batches,
        val=chosen_on[0] if chosen_on else judged,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
        compute=compute,
        transform=lambda epoch: transform,
        epochs=protocol.epochs,
        seed=args.seed,
        labels=labels,
        image_size=size,
        dataset=args.dataset,
        protocol=protocol.as_dict(),
        forward=torch.compile(forward) if args.compile else forward,
        print_freq=args.print_freq,
    )
    if resumed or into:
        run = Run(resumed or into)  # type: ignore[arg-type]
    else:
        run = Run.create(args.output, args.dataset, at_type, suffix=fold_suffix(protocol.fold))
    if resumed:
        training.resume(checkpoint)
        run.cut_log(training.first_epoch - 1)
    else:
        resolved = {"at_type": at_type, "pretrained": str(start or "none"), "cache": frames.cache}
        resolved["workers"] = frames.loading["workers"]
        run.cut_log(0)  # of an attempt that was stopped in its first epoch
        run.write_arguments(args, {**protocol.as_dict(), **resolved}, compute)
    run_training(training, run)
    results = conclude(run, model, judged, compute, about=about_results(protocol))
    run.close()
    whole = "" if protocol.fold is None else f" of fold {protocol.fold} of {protocol.num_folds} alone"
    for which, metrics in results.items():
        note = SELECTED[protocol.select_on] if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}){whole}: {summary(metrics)}")
    return run.folder
