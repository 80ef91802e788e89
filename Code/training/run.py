"""One training and one evaluation: from the flags of the main script to the folder of a run."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..check import check_before_training, refuse_broken_images
from ..common.device import choose_compute, make_deterministic
from ..common.errors import UsageError
from ..common.names import DEFAULT_AT_TYPE
from ..data.clips import describe
from ..data.folds import hold_out
from ..data.labels import map_labels
from ..network import attention_titles
from ..network.attention import HEADS
from ..network.backbone import DEFAULT_BACKBONE, check_backbone
from ..network.checkpoints import facts_of, read_checkpoint
from ..network.fan import FAN, FeatureFAN
from ..network.weights import (
    OF_FER2013,
    keep_classifier,
    knows_fer2013,
    load_fan,
    start_from,
    starting_file,
    stored_backbone,
)
from . import distributed
from .engine import evaluate_split, summary
from .features import check_augmentation
from .frames import features_of, open_frames
from .launch import plain, remember_folder
from .losses import loss_named
from .protocols import (
    Protocol,
    label_map,
    print_labels,
    read_evaluated,
    read_training,
    resolve,
    training_label_map,
)
from .run_folder import LAST, Run, check_space, checkpoint_bytes, newest_whole
from .run_places import fold_suffix, new_run, newest_best, writer_of
from .schedules import decay_after, per_step
from .trainer import Training, check_resumable, conclude, load_state, run_training, write_results


@dataclass(frozen=True)
class Member:
    """One training of several: its folder, its seed, and its fold, from 1; None for a fixed split."""

    folder: Path
    seed: int
    fold: int | None = None


SELECTED = {
    "val": "best on the evaluated split",
    "heldout": "best on clips held out of training",
    "last": "last, none chosen",
}


def evaluate_checkpoint(args: argparse.Namespace) -> Path:
    """`-e`: evaluates a trained FAN on the validation set, and writes the results to a folder of their own.

    Returns:
        The folder of the results.
    """
    if args.fold == "all" or args.seeds:
        raise UsageError("-e: evaluates one network; name a fold's or seed's with --checkpoint RUN/fold-01/best.pth")
    path = args.checkpoint or newest_best(args.output, args.dataset or "afew", args.at_type, args.fold)
    if path is None:
        raise UsageError(
            f"-e: no trained network for dataset {args.dataset or 'afew'} in {args.output}; train one first "
            "(without -e), or name one with --checkpoint"
        )
    fan, info = load_fan(path)
    if info["kind"] == "published" and args.at_type not in (None, fan.at_type):  # such a file has all heads
        fan, info = load_fan(path, at_type=args.at_type)
    protocol = resolve(args, info)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    compute = choose_compute(args.device, args.precision, trained_with=info.get("precision"))
    val, protocol = read_evaluated(protocol, info)
    fold, num_folds = protocol.fold, protocol.num_folds
    val = map_labels(val, info["labels"], label_map(args), f"--checkpoint {path}")
    print(f"evaluating {path} ({fan.head.title}) on {compute.device}, {compute.precision}")
    part = "" if fold is None else f" (fold {fold} of {num_folds} alone)"
    print(f"val:   {describe(val)}{part}")
    print_labels(val.labels)
    for note in val.notes:
        print(f"note:  {note}")
    distributed.from_main(lambda: refuse_broken_images(val))
    size = args.image_size or info["image_size"]
    fan.backbone.check_image_size(size)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    gray = knows_fer2013(info) and val.in_files and protocol.dataset not in OF_FER2013
    if gray:
        print(
            f"note:  {path} was trained on FER2013's crop, in gray; frames are read in gray, but the crop of "
            "Prepare_Faces.py is another one: see docs/expect.md"
        )
    frames = open_frames(
        [val], size, compute, cache=args.cache, cache_dir=args.cache_dir, workers=args.workers, gray=gray
    )
    split = frames.evaluation_split(val, frames.stores[0], compute, protocol.reader.intensities(val))
    metrics, evaluation = evaluate_split(fan, split, compute)
    resolved = {"checkpoint": path, "at_type": fan.at_type, "cache": frames.cache}
    asked = {"dataset": protocol.dataset, "fold": fold, **protocol.data.given()}
    about = {} if fold is None else {"fold": fold, "num_folds": num_folds}
    with new_run(
        args.output, protocol.dataset, attention_titles()[fan.at_type], fold_suffix(fold) + "_evaluation"
    ) as run:
        run.write_arguments(plain(args), {**asked, **resolved}, compute)
        write_results(run, split, {"best": {"epoch": info.get("epoch"), **metrics}}, evaluation, about)
        run.close()
    print(summary(metrics))
    return run.folder


def about_results(protocol: Protocol) -> dict[str, Any]:
    """The entries of results.json besides the metrics: how the best epoch was chosen, and which fold it is."""
    about: dict[str, Any] = {"selected_on": SELECTED[protocol.select_on]}
    if protocol.fold is not None:
        about |= {"fold": protocol.fold, "num_folds": protocol.num_folds}
    return about


def train(
    args: argparse.Namespace, protocol: Protocol, member: Member | None = None, *, check_images: bool = True
) -> Path:
    """Trains, evaluates after every epoch, and writes the folder of the run.

    Args:
        args: the flags. `args.resume` resumes a run; from the beginning, if it has no `last.pth` yet.
        protocol: resolved from the flags.
        member: which of several folds or seeds this is; None: the run that the flags ask for.
        check_images: look at every image file first.

    Returns:
        The folder of the run.
    """
    into, seed = (args.resume, args.seed) if member is None else (member.folder, member.seed)
    with nullcontext() if into is None else writer_of(into):
        return _train(args, protocol, into, seed, member is not None, check_images)


def _train(
    args: argparse.Namespace, protocol: Protocol, into: Path | None, seed: int, of_several: bool, check_images: bool
) -> Path:
    """`train`, in a folder that exists or is locked already, or a new one."""
    resumed = into if into and (into / LAST).is_file() else None
    at_type = DEFAULT_AT_TYPE if args.at_type is None else args.at_type
    if args.deterministic:
        make_deterministic()
    checkpoint = newest_whole(resumed) if resumed else None
    stored = read_checkpoint(checkpoint) if checkpoint else {}
    facts = facts_of(stored, checkpoint or "")
    # A run keeps its precision on another machine.
    compute = choose_compute(args.device, args.precision, trained_with=facts.precision)
    check_augmentation(args.augmentation, protocol.freeze_backbone)
    loss = loss_named(args.loss)
    if args.keep_classifier and protocol.freeze_backbone and not HEADS[at_type].weighs_frames:
        raise UsageError("--keep-classifier: leaves nothing to train without attention; use --at_type 0 or 1")
    check_backbone(args.backbone or DEFAULT_BACKBONE)
    train_clips, val_clips, protocol = read_training(protocol)
    warnings = distributed.from_main(
        lambda: check_before_training(
            train_clips,
            val_clips,
            num_frames=protocol.num_frames,
            known_labels=protocol.reader.labels,
            headers=check_images,
        )
    )
    if distributed.world().is_main:
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
    labels, fold = train_clips.labels, protocol.fold
    mapping = training_label_map(args, labels)
    held_out = None
    if protocol.select_on == "heldout":
        train_clips, held_out, how = hold_out(train_clips, seed)
        print(f"held out of training, to choose the epoch: {describe(held_out)} ({how})")

    start = starting_file(args.pretrained)
    prior: dict[str, Any] | None = None
    if checkpoint:
        # Now, not with the rest of its state: a frozen backbone computes its features before the first epoch.
        check_resumable(stored, checkpoint, labels)
        torch.manual_seed(seed)
        model = FAN(at_type, len(labels), backbone=stored_backbone(stored))
        load_state(model, stored, checkpoint)
        if args.keep_classifier:
            getattr(model.head, model.head.classifier).requires_grad_(False)
            prior = {name: stored[name] for name in ("class_shares", "recipe") if name in stored}
        made_at, message = facts.image_size or protocol.image_size, f"resuming {resumed}"
        stored.clear()  # as large as the network
    else:
        started = start_from(start, at_type, labels, seed=seed, backbone=args.backbone, mapping=mapping)
        model, made_at, message = started.fan, protocol.input_side(started.image_size), started.message
        if args.keep_classifier:
            assert start is not None  # see `resolve`
            prior = keep_classifier(model, start, labels, mapping)
            message += "; its classifier is kept, only attention is trained"
    size = args.image_size or made_at
    model.backbone.check_image_size(size)
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{model.head.title} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    evaluated = [val_clips] if held_out is None else [val_clips, held_out]
    distributed.agree_on_error(lambda: check_space(into or args.output, checkpoint_bytes(model)))
    frames = open_frames(
        [train_clips, *evaluated],
        size,
        compute,
        cache=args.cache,
        cache_dir=args.cache_dir,
        workers=args.workers,
        # With a frozen backbone no worker loads batches of training: the features are computed before.
        training_batch=0 if protocol.freeze_backbone else protocol.batch_size * protocol.num_frames,
    )
    network: torch.nn.Module = model
    if protocol.freeze_backbone:
        model.backbone.requires_grad_(False)
        network = FeatureFAN(model)
        frames = features_of(frames, [train_clips, *evaluated], model, compute)
    batches = frames.training_batches(
        train_clips,
        frames.stores[0],
        num_frames=protocol.num_frames,
        batch_size=protocol.batch_size,
        seed=seed,
        samples_per_clip=protocol.samples_per_clip,
    )
    forward = distributed.wrapped(network)
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=compute.device.type == "cuda",  # then the loss scaling of fp16 does not wait for the GPU in each step
    )
    schedule = per_step(decay_after(protocol.decay_at, protocol.decay), len(batches))
    transform = frames.training_transform(args.augmentation)
    split, *chosen_on = (
        frames.evaluation_split(clips, store, compute, protocol.reader.intensities(clips))
        for clips, store in zip(evaluated, frames.stores[1:], strict=True)
    )
    training = Training(
        model=model,
        train=batches,
        val=chosen_on[0] if chosen_on else split,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
        compute=compute,
        transform=lambda epoch: transform,
        epochs=protocol.epochs,
        seed=seed,
        labels=labels,
        image_size=size,
        dataset=protocol.dataset,
        protocol=protocol.as_dict(),
        loss_function=loss,
        from_features=protocol.freeze_backbone,
        forward=torch.compile(forward) if args.compile else forward,
        print_freq=args.print_freq,
        prior=prior,
        checkpoint_every=args.checkpoint_every,
    )
    kind = attention_titles()[at_type]
    with nullcontext(Run(into)) if into else new_run(args.output, protocol.dataset, kind, fold_suffix(fold)) as run:
        run.clear_leftovers()
        if checkpoint:
            training.resume(checkpoint)
            if training.first_epoch > training.epochs:
                print(f"{run.folder}: all {training.epochs} epochs are finished; its results are written again")
        elif of_several or not (run.folder / "args.json").exists():
            resolved = {"at_type": at_type, "backbone": model.backbone.name, "pretrained": str(start or "none")}
            resolved |= {"cache": frames.cache, "workers": frames.loading["workers"]}
            given = plain(args)
            if of_several:  # so that `--resume` of this folder alone means this run
                given |= {"seed": seed, "seeds": None, "fold": fold, "resume": None}
            run.write_arguments(given, {**protocol.as_dict(), **resolved}, compute)
        run.begin_log(training.lines)
        remember_folder(run.folder)
        run_training(training, run)
        results = conclude(training, run, split, about=about_results(protocol))
        run.close()
    which_fold = "" if fold is None else f" of fold {fold} of {protocol.num_folds} alone"
    if protocol.select_on == "last":
        results = {"best": results["best"]}  # the last epoch, too
    for which, metrics in results.items():
        note = SELECTED[protocol.select_on] if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}){which_fold}: {summary(metrics)}")
    return run.folder
