"""One training, one evaluation: from the flags of the main script to a run's folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from Code.common.errors import UsageError
from Code.data.augment import FlippedClips
from Code.data.clips import describe
from Code.data.folds import hold_out
from Code.data.labels import relabelled
from Code.data.loaders import FrameTable, TrainingBatches
from Code.network.pretrained import load_fan, read_checkpoint, seeded_model, starting_file
from Code.network.weights import start_from
from Code.training import distributed
from Code.training.compute import choose_compute, make_deterministic
from Code.training.datasets import label_map, print_labels, read_evaluated, read_training, resolve
from Code.training.doctor import check_before_training, refuse_broken_images
from Code.training.engine import Transform, judge, summary
from Code.training.frames import DrawnView, Head, features_of, head_parameters, judged_clips, open_frames
from Code.training.launch import remember_folder
from Code.training.protocols import ATTENTIONS, Protocol
from Code.training.run_folder import LAST, Run, check_room, checkpoint_bytes, fold_suffix, newest_best, newest_whole
from Code.training.trainer import Training, conclude, decay_after, per_step, refuse_foreign, run_training, write_outcome

SELECTED = {
    "val": "best on the evaluated split",
    "heldout": "best on clips held out of training",
    "last": "last, none chosen",
}


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
    protocol = resolve(args, info)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    compute = choose_compute(args.device, args.precision, trained_with=info.get("precision"))
    val, protocol = read_evaluated(protocol, info)
    fold, num_folds = protocol.data.fold, protocol.data.num_folds
    val = relabelled(val, info["labels"], label_map(args), f"--checkpoint {path}")
    print(f"evaluating {path} ({ATTENTIONS[fan.at_type]}) on {compute.device}, {compute.precision}")
    part = "" if fold is None else f" (fold {fold} of {num_folds} alone)"
    print(f"val:   {describe(val)}{part}")
    print_labels(val.labels)
    for note in val.notes:
        print(f"note:  {note}")
    refuse_broken_images(val)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    frames = open_frames(args, [val], args.image_size or info["image_size"], compute)
    judged = judged_clips(protocol, val, frames.stores[0], frames, compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, protocol.dataset, fan.at_type, suffix=fold_suffix(fold) + "_evaluation")
    resolved = {"checkpoint": path, "at_type": fan.at_type, "cache": frames.cache}
    asked = {"dataset": protocol.dataset, "fold": fold, **protocol.data.flags}
    run.write_arguments(args, {**asked, **resolved}, compute)
    about = {} if fold is None else {"fold": fold, "num_folds": num_folds}
    write_outcome(run, judged, {"best": {"epoch": info.get("epoch"), **metrics}}, evaluation, about)
    run.close()
    print(summary(metrics))
    return run.folder


def about_results(protocol: Protocol) -> dict[str, Any]:
    """What results.json says beside the metrics: how the best epoch was chosen, and which fold this is."""
    about: dict[str, Any] = {"selected_on": SELECTED[protocol.select_on]}
    if protocol.data.fold is not None:
        about |= {"fold": protocol.data.fold, "num_folds": protocol.data.num_folds}
    return about


def train(args: argparse.Namespace, into: Path | None = None, *, check_images: bool = True) -> Path:
    """Trains, evaluates after every epoch, and writes the run's folder.

    Args:
        args: the flags; `args.resume` goes on with a run, from the beginning if it holds no `last.pth` yet.
        into: the run's folder, one of several folds or seeds, as `args.resume`.
        check_images: look at every image file first.

    Returns:
        The run's folder.
    """
    into = args.resume or into
    resumed = into if into and (into / LAST).is_file() else None
    at_type = 1 if args.at_type is None else args.at_type
    if args.deterministic:
        make_deterministic()
    checkpoint = newest_whole(resumed) if resumed else None
    held = read_checkpoint(checkpoint) if checkpoint else {}
    # Another machine than the run was begun on goes on in the same precision.
    compute = choose_compute(args.device, args.precision, trained_with=held.get("precision"))
    train_clips, val_clips, protocol = read_training(resolve(args))
    check_before_training(train_clips, val_clips, protocol, check_images)
    labels, fold = train_clips.labels, protocol.data.fold
    held_out = None
    if protocol.select_on == "heldout":
        train_clips, held_out, how = hold_out(train_clips, args.seed)
        print(f"held out of training to choose the epoch: {describe(held_out)} ({how})")

    model = seeded_model(at_type, len(labels), args.seed)
    start = starting_file(args.pretrained)
    if checkpoint:
        # Now, not with the rest of its state: a fixed backbone computes its features before the first epoch.
        refuse_foreign(held, checkpoint, labels)
        model.load_state_dict(held["state_dict"])
        made_at, message = held["image_size"], f"resuming {resumed}"
        held.clear()  # as large as the network
    else:
        made_at, message = start_from(model, start, protocol.image_size, labels, label_map(args))
    size = args.image_size or made_at
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{ATTENTIONS[at_type]} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    judged_sets = [val_clips] if held_out is None else [val_clips, held_out]
    distributed.agree_on_error(lambda: check_room(into or args.output, checkpoint_bytes(model)))
    frames = open_frames(args, [train_clips, *judged_sets], size, compute)
    learner: torch.nn.Module = model
    parameters = list(model.parameters())
    transform: Transform = FlippedClips()
    if protocol.freeze_backbone:
        parameters, transform, learner = head_parameters(model), DrawnView(), Head(model)
        frames = features_of(frames, [train_clips, *judged_sets], model, compute)
    table = FrameTable.of(train_clips)
    if protocol.freeze_backbone:
        table.renewed = False  # features are computed once
    batches = TrainingBatches(
        table,
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
        judged_clips(protocol, clips, store, frames, compute)
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
        dataset=protocol.dataset,
        protocol=protocol.as_dict(),
        forward=torch.compile(forward) if args.compile else forward,
        print_freq=args.print_freq,
        checkpoint_every=args.checkpoint_every,
    )
    run = Run(into) if into else Run.create(args.output, protocol.dataset, at_type, suffix=fold_suffix(fold))
    run.clear_leftovers()
    if checkpoint:
        training.resume(checkpoint)
    else:
        resolved = {"at_type": at_type, "pretrained": str(start or "none"), "cache": frames.cache}
        resolved["workers"] = frames.loading["workers"]
        if not args.resume:
            run.write_arguments(args, {**protocol.as_dict(), **resolved}, compute)
    run.begin_log(training.lines)
    remember_folder(run.folder)
    run_training(training, run)
    results = conclude(run, model, judged, compute, about=about_results(protocol))
    run.close()
    whole = "" if fold is None else f" of fold {fold} of {protocol.data.num_folds} alone"
    if protocol.select_on == "last":
        results = {"best": results["best"]}  # the last epoch, too
    for which, metrics in results.items():
        note = SELECTED[protocol.select_on] if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}){whole}: {summary(metrics)}")
    return run.folder
