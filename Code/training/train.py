"""The training of a FAN, from its clips to its results: the loop over epochs and what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..common.device import Compute, choose_compute, make_deterministic
from ..common.errors import UsageError
from ..data.batches import FrameTable, Loading, TrainingBatches, open_stores
from ..data.clips import ClipSet
from ..data.intensity import Intensities
from ..data.request import Protocol
from ..network.attention import HEADS
from ..network.backbone import DEFAULT_BACKBONE
from ..network.checkpoints import facts_of, read_checkpoint
from ..network.fan import FAN, FeatureFAN
from ..network.prior import class_shares
from ..network.start import keep_classifier, start_from, starting_file
from ..network.weights import stored_backbone
from . import ddp
from .features import FeatureStore, PlainView, training_transform
from .loops import Evaluation, EvaluationSplit, epoch_line, evaluate_split, train_one_epoch
from .losses import loss_named
from .records import LogLine, as_dict
from .resume import resumable
from .run import BEST, LAST, Run, State, check_resumable, load_weights
from .settings import Settings
from .stopping import deferred_signals, stop_if_asked


@dataclass(frozen=True)
class Clips:
    """What a training reads.

    Attributes:
        train: to train on.
        val: of which the results are.
        held_out: choose the best epoch; None: `val` does.
        intensities: the true importance of the frames of a clip set, if it is known.
    """

    train: ClipSet
    val: ClipSet
    held_out: ClipSet | None = None
    intensities: Callable[[ClipSet], Intensities | None] = lambda clips: None


def train(settings: Settings, clips: Clips, run: Run) -> dict[str, dict[str, Any]]:
    """Trains, evaluates after every epoch, and writes the run's folder. Goes on after the last epoch that is there.

    Returns:
        The metrics of the last and of the best epoch, as results.json has them.

    Raises:
        Interrupted: a signal asked to stop; last.pth is of the epoch before.
        TrainingDivergedError: the loss is not finite; last.pth is of the epoch before.
    """
    if settings.deterministic:
        make_deterministic()
    labels, last = clips.train.labels, run.folder / LAST
    checkpoint = read_checkpoint(last) if last.is_file() else {}
    facts = facts_of(checkpoint, last)
    # A run keeps its precision on another machine.
    compute = choose_compute(settings.device, settings.precision, trained_with=facts.precision)
    transform = training_transform(settings.augmentation, settings.freeze_backbone)
    loss_function = loss_named(settings.loss)
    if checkpoint:
        check_resumable(checkpoint, last, labels)
        model, prior = resumed_network(settings, checkpoint, last)
        size = settings.image_size if settings.fixed_size else facts.image_size or settings.image_size
        print(f"resuming {run.folder}")
    else:
        model, size, prior = new_network(settings, labels)
    settings = replace(settings, image_size=size)
    model.backbone.check_image_size(size)
    print(f"{model.head.title} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs

    batches, val, chosen_on, cache = open_batches(settings, clips, model, compute)
    network = FeatureFAN(model) if settings.freeze_backbone else model
    forward: Callable[..., Any] = ddp.wrapped(network)
    forward = torch.compile(forward) if settings.compile else forward
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=compute.device.type == "cuda",  # then the loss scaling of fp16 does not wait for the GPU in each step
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, decay(settings, len(batches)))
    state = State(model, optimizer, scheduler, compute.scaler())
    about = {
        "labels": list(labels),
        "image_size": size,
        "dataset": settings.dataset,
        "protocol": settings.as_protocol(),
        "precision": compute.precision,
        # How often each class was seen: what a change of the prior starts from.
        "class_shares": class_shares(batches.table.targets, len(labels), batches.samples).tolist(),
        **prior,
    }
    if checkpoint:
        state.resume(checkpoint, last, seed=settings.seed, epochs=settings.epochs, steps=len(batches))
        checkpoint.clear()  # as large as the network
    else:
        resolved = settings.resolved() | {
            "pretrained": str(starting_file(settings.pretrained) or "none"),
            "backbone": model.backbone.name,
            "cache": cache,
            "workers": batches.loading.workers,
        }
        run.write_arguments(settings.flags, resolved, compute)
    run.write_log(state.log)

    if state.epoch >= settings.epochs:
        print(f"{run.folder}: all {settings.epochs} epochs are finished; its results are written again")
    with resumable(run.folder), deferred_signals():
        for epoch in range(state.epoch + 1, settings.epochs + 1):
            start = time.perf_counter()
            trained = train_one_epoch(
                network,
                batches,
                optimizer,
                scheduler,
                state.scaler,
                compute=compute,
                transform=transform,
                epoch=epoch,
                seed=settings.seed,
                loss_function=loss_function,
                print_freq=settings.print_freq,
                forward=forward,
            )
            ddp.share_buffers(model)
            metrics, evaluation = evaluate_split(network, chosen_on, compute)
            line = log_line(epoch, trained, metrics, evaluation, time.perf_counter() - start)
            best = state.finish_epoch(line, metrics, best=settings.select_on == "last")
            run.save_epoch(state, about, best=best, seed=settings.seed, epochs=settings.epochs)
            print(epoch_line(line, settings.epochs, "features" if settings.freeze_backbone else "frames"), flush=True)
            stop_if_asked()
        return conclude(network, model, val, run, compute, settings)


def decay(protocol: Protocol, steps_per_epoch: int) -> Callable[[int], float]:
    """The factor on the learning rate after a number of steps (AFEW: x 0.2 after 60 and 120 of 180 epochs)."""
    return lambda step: protocol.decay ** sum(step / steps_per_epoch >= epoch for epoch in protocol.decay_at)


def new_network(settings: Settings, labels: Sequence[str]) -> tuple[FAN, int, dict[str, Any]]:
    """The network at the start of a training.

    Returns:
        The network, the side of its input in pixels, and what checkpoints say about the prior of its classifier, if
        that is not of this training.
    """
    if settings.keep_classifier and settings.freeze_backbone and not HEADS[settings.at_type].weighs_frames:
        raise UsageError("--keep-classifier: leaves nothing to train without attention; use --at_type 0 or 1")
    file = starting_file(settings.pretrained)
    start = start_from(
        file,
        settings.at_type,
        labels,
        seed=settings.seed,
        backbone=settings.backbone,
        mapping=settings.label_map,
        with_head=settings.pretrained is not None,
    )
    prior: dict[str, Any] = {}
    message = start.message
    if settings.keep_classifier:
        if file is None:
            raise UsageError("--keep-classifier: needs a trained classifier; omit --pretrained none")
        prior = keep_classifier(start.fan, file, labels, settings.label_map)
        message += "; its classifier is kept, only attention is trained"
    print(message)
    start.fan.backbone.requires_grad_(not settings.freeze_backbone)
    size = settings.image_size if settings.fixed_size else start.image_size or settings.image_size
    return start.fan, size, prior


def resumed_network(settings: Settings, checkpoint: dict[str, Any], path: Path) -> tuple[FAN, dict[str, Any]]:
    """The network of a checkpoint and the prior of its classifier: what the run started from may be gone by now."""
    torch.manual_seed(settings.seed)
    model = FAN(settings.at_type, len(checkpoint["labels"]), backbone=stored_backbone(checkpoint) or DEFAULT_BACKBONE)
    load_weights(model, checkpoint, path)
    model.backbone.requires_grad_(not settings.freeze_backbone)
    prior: dict[str, Any] = {}
    if settings.keep_classifier:
        getattr(model.head, model.head.classifier).requires_grad_(False)
        prior = {name: checkpoint[name] for name in ("class_shares", "recipe") if name in checkpoint}
    return model, prior


def open_batches(
    settings: Settings, clips: Clips, model: FAN, compute: Compute
) -> tuple[TrainingBatches, EvaluationSplit, EvaluationSplit, str]:
    """Opens the frames, or computes the features of a frozen backbone.

    Returns:
        The training batches, the split of the results, the split that chooses the best epoch, and the cache.
    """
    frozen, splits = settings.freeze_backbone, [clips.train, clips.val] + ([clips.held_out] if clips.held_out else [])
    stores, loading, cache = open_stores(
        splits,
        settings.image_size,
        compute.device,
        cache="none" if frozen and settings.cache is None else settings.cache,
        workers=settings.workers,
        world=ddp.world(),
    )
    table = FrameTable.of(clips.train)
    if frozen:
        print("the backbone is frozen: features are computed once, then the head is trained", flush=True)
        stores = [
            FeatureStore.of(model, FrameTable.of(split), store, compute, mirrored=split is clips.train, loading=loading)
            for split, store in zip(splits, stores, strict=True)
        ]
        table.renewed = False  # features are the same in every epoch
        loading = Loading(world=loading.world)
    batches = TrainingBatches(
        table,
        stores[0],
        num_frames=settings.num_frames,
        batch_size=settings.batch_size,
        seed=settings.seed,
        samples_per_clip=settings.samples_per_clip,
        loading=loading,
    )
    plain = PlainView() if frozen else None
    evaluated = [
        EvaluationSplit.of(split, store, loading, compute, transform=plain, intensities=clips.intensities(split))
        for split, store in zip(splits[1:], stores[1:], strict=True)
    ]
    return batches, evaluated[0], evaluated[-1], cache


def log_line(
    epoch: int, trained: dict[str, float], metrics: dict[str, Any], evaluation: Evaluation, seconds: float
) -> dict[str, Any]:
    """The line of the log about an epoch."""
    line = LogLine(
        epoch=epoch,
        lr=trained["lr"],
        train_loss=trained["loss"],
        train_war=trained["war"],
        val_loss=metrics["loss"],
        val_war=metrics["accuracy"],
        val_uar=metrics["uar"],
        seconds=seconds,
        frames_per_second=trained["frames_per_second"],
        val_frames_per_second=evaluation.frames / evaluation.seconds,
        val_attention_correlation=metrics.get("attention_correlation"),
    )
    return as_dict(line)


SELECTED = {
    "val": "best on the evaluated split",
    "heldout": "best on clips held out of training",
    "last": "last, none chosen",
}


def conclude(
    network: FAN | FeatureFAN, model: FAN, val: EvaluationSplit, run: Run, compute: Compute, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Evaluates last.pth and best.pth as `-e` would, and writes the results, per clip for the best."""
    results: dict[str, dict[str, Any]] = {}
    ddp.barrier()  # the main process has written both
    for which, name in (("last", LAST), ("best", BEST)):
        checkpoint = read_checkpoint(run.folder / name)
        load_weights(model, checkpoint, run.folder / name)
        metrics, evaluation = evaluate_split(network, val, compute)
        results[which] = {"epoch": checkpoint["epoch"], **metrics}
    about: dict[str, Any] = {"selected_on": SELECTED[settings.select_on]}
    if settings.fold is not None:
        about |= {"fold": settings.fold, "num_folds": settings.num_folds}
    write_results(run, val, results, evaluation, about)
    return results


def write_results(
    run: Run,
    split: EvaluationSplit,
    results: dict[str, dict[str, Any]],
    evaluation: Evaluation,
    about: dict[str, Any] | None = None,
) -> None:
    """Writes predictions.csv, attention.csv and clips.csv if frames have names, and last results.json."""
    table = split.table
    run.write_predictions(table.labels, table.names, table.targets.tolist(), evaluation)
    if split.clips is not None:
        run.write_attention(split.clips, evaluation, split.intensities)
    run.write_results(table.labels, results, about)
