"""One training, one evaluation: from the flags of the main script to a run's folder."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from Code.data.augment import FlippedClips, PlainFrames
from Code.data.clips import ClipSet, describe
from Code.data.folds import hold_out
from Code.data.labels import relabelled
from Code.data.loaders import EvaluationBatches, TrainingBatches
from Code.data.store import FileStore, FrameTable
from Code.network.pretrained import load_fan, read_checkpoint
from Code.training.engine import Compute, choose_compute
from Code.training.errors import UsageError
from Code.training.inputs import (
    intensities_of,
    label_map,
    prepare_sample,
    read_both,
    read_evaluated,
    resolve_protocol,
    say_labels,
    take_up_data,
)
from Code.training.protocols import ATTENTIONS, Protocol
from Code.training.runs import Run, fold_suffix, newest_best
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
BATCH_FRAMES = 128  # frames the backbone sees at once in evaluation


def workers_of(args: argparse.Namespace, compute: Compute) -> int:
    """Decoding processes: a few beside a GPU; beside a CPU that computes, one, and none where cores are scarce."""
    if args.workers is not None:
        return int(args.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores) if compute.device.type == "cuda" else min(4, cores // 4)


def judged_clips(args: argparse.Namespace, clips: ClipSet, size: int, compute: Compute) -> Judged:
    """A clip set to evaluate."""
    batches = EvaluationBatches(
        FrameTable.of(clips),
        FileStore(clips, size),
        batch_frames=BATCH_FRAMES,
        workers=workers_of(args, compute),
        pin_memory=compute.device.type == "cuda",
    )
    return Judged(batches, PlainFrames(), clips=clips.clips, intensities=intensities_of(args, clips))


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
    judged = judged_clips(args, val, args.image_size or info["image_size"], compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, args.dataset, fan.at_type, suffix=fold_suffix(protocol.fold) + "_evaluation")
    run.write_arguments(args, {"checkpoint": path, "at_type": fan.at_type}, compute)
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
    train_clips, val_clips, protocol = read_both(args, protocol, check_images=check_images)
    labels = train_clips.labels
    held_out = None
    if protocol.select_on == "heldout":
        train_clips, held_out, how = hold_out(train_clips, args.seed)
        print(f"held out of training to choose the epoch: {describe(held_out)} ({how})")

    model = seeded_model(at_type, len(labels), args.seed)
    start = starting_file(args.pretrained)
    if resumed:
        made_at = read_checkpoint(resumed / "last.pth")["image_size"]
        message = f"resuming {resumed}"
    else:
        made_at, message = start_from(model, start, protocol.image_size, labels, label_map(args))
    size = args.image_size or made_at
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{ATTENTIONS[at_type]} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    workers, pin = workers_of(args, compute), compute.device.type == "cuda"
    batches = TrainingBatches(
        FrameTable.of(train_clips),
        FileStore(train_clips, size),
        num_frames=protocol.num_frames,
        batch_size=protocol.batch_size,
        seed=args.seed,
        samples_per_clip=protocol.samples_per_clip,
        workers=workers,
        pin_memory=pin,
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
    )
    schedule = per_step(decay_after(protocol.decay_at, protocol.decay), len(batches))
    judged = judged_clips(args, val_clips, size, compute)
    flips = FlippedClips()
    training = Training(
        model=model,
        train=batches,
        val=judged if held_out is None else judged_clips(args, held_out, size, compute),
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
        forward=torch.compile(model) if args.compile else None,
        print_freq=args.print_freq,
    )
    if resumed or into:
        run = Run(resumed or into)  # type: ignore[arg-type]
    else:
        run = Run.create(args.output, args.dataset, at_type, suffix=fold_suffix(protocol.fold))
    if resumed:
        training.resume(run.folder / "last.pth")
        run.cut_log(training.first_epoch - 1)
    else:
        resolved = {**protocol.as_dict(), "at_type": at_type, "pretrained": str(start or "none"), "workers": workers}
        run.cut_log(0)  # of an attempt that was stopped in its first epoch
        run.write_arguments(args, resolved, compute)
    run_training(training, run)
    results = conclude(run, model, judged, compute, about=about_results(protocol))
    run.close()
    whole = "" if protocol.fold is None else f" of fold {protocol.fold} of {protocol.num_folds} alone"
    for which, metrics in results.items():
        note = SELECTED[protocol.select_on] if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}){whole}: {summary(metrics)}")
    return run.folder
