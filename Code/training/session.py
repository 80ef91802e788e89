"""One training, one evaluation: from the flags of the main script to a run's folder."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from Code.data.augment import FlippedClips, PlainFrames
from Code.data.clips import ClipSet, describe
from Code.data.loaders import EvaluationBatches, TrainingBatches
from Code.data.store import FileStore, FrameTable
from Code.network.pretrained import load_fan, read_checkpoint
from Code.training.engine import Compute, choose_compute
from Code.training.errors import UsageError
from Code.training.inputs import intensities_of, prepare_sample, read_both, read_split, resolve_protocol
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
    judged = judged_clips(args, val, args.image_size or info["image_size"], compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, args.dataset, fan.at_type, suffix="_evaluation")
    run.write_arguments(args, {"checkpoint": path, "at_type": fan.at_type}, compute)
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
    schedule = per_step(decay_at_thirds(protocol.epochs, protocol.decay), len(batches))
    judged = judged_clips(args, val_clips, size, compute)
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
        forward=torch.compile(model) if args.compile else None,
        print_freq=args.print_freq,
    )
    run = Run(args.resume) if args.resume else Run.create(args.output, args.dataset, at_type)
    if args.resume:
        training.resume(run.folder / "last.pth")
        run.cut_log(training.first_epoch - 1)
    else:
        resolved = {**protocol.as_dict(), "at_type": at_type, "pretrained": str(start or "none"), "workers": workers}
        run.write_arguments(args, resolved, compute)
    run_training(training, run)
    results = conclude(run, model, judged, compute)
    run.close()
    for which, metrics in results.items():
        note = "best on these clips" if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}): {summary(metrics)}")
    return run.folder
