"""The training of a FAN, from its settings and clips to its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..common.device import Compute, choose_compute, make_deterministic
from ..common.errors import UsageError
from ..common.names import DEFAULT_AT_TYPE
from ..data.augment import augmentation_named
from ..data.batches import FrameTable, Loading, TrainingBatches, open_stores
from ..data.clips import ClipSet
from ..data.intensity import Intensities
from ..data.request import Request, TrainingProtocol
from ..network.attention import HEADS
from ..network.checkpoints import read_checkpoint
from ..network.fan import FAN
from ..network.prior import class_shares
from ..network.start import keep_classifier, start_from, starting_file
from ..network.weights import load_fan, load_trained
from . import ddp
from .features import PlainView, store_features, view_named
from .loops import (
    Evaluation,
    EvaluationSplit,
    State,
    epoch_line,
    evaluate_split,
    loss_named,
    train_one_epoch,
)
from .run import BEST, LAST, Run
from .stopping import resumable, stop_if_asked

SELECTED = {
    "val": "best on the evaluated split",
    "heldout": "best on clips held out of training",
    "last": "last, none chosen",
}


@dataclass(frozen=True, kw_only=True)
class Settings(TrainingProtocol):
    """One run: the dataset's protocol, changed by flags, and all other flags.

    Attributes:
        data: which clips of the dataset are read; `sources`: from which folders and lists, for the record.
        num_folds: of the data, once they are read; None without folds.
        select_on: the clips that choose the best epoch: "val", the evaluated ones, "heldout", a tenth of the training
            clips, or "last": none, the last epoch counts as the best.
        pretrained: the file of the starting weights, "none", or None for the usual one.
        backbone: a network of torchvision; None for that of the starting weights.
        keep_classifier: leave the classifier of the starting weights unchanged.
        label_map: class of the data -> class of the starting weights, where they differ.
        output: parent of the folders of runs.
        flags: as they were given, which `--resume` restores.
    """

    dataset: str
    data: Request = field(default_factory=Request)
    sources: Mapping[str, str | None] = field(default_factory=dict)
    num_folds: int | None = None
    at_type: int = DEFAULT_AT_TYPE
    seed: int = 0
    select_on: str = "val"
    pretrained: str | None = None
    backbone: str | None = None
    keep_classifier: bool = False
    label_map: Mapping[str, str] = field(default_factory=dict)
    augmentation: str = "flip"
    loss: str = "cross-entropy"
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    cache: str | None = None
    compile: bool = False
    deterministic: bool = False
    print_freq: int = 0
    output: Path = Path("model")
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fold(self) -> int | None:
        """The fold to evaluate, from 1; None for a fixed split and for all folds."""
        return self.data.fold if isinstance(self.data.fold, int) else None

    def as_protocol(self) -> dict[str, Any]:
        """What checkpoints say about the training, as plain values."""
        trained = {
            each.name: getattr(self, each.name) for each in fields(TrainingProtocol) if each.name != "fixed_size"
        }
        return {
            **trained,
            "decay_at": list(self.decay_at),
            "dataset": self.dataset,
            **self.sources,
            "num_folds": self.num_folds,
            "fold": self.fold,
            "select_on": self.select_on,
            "data_flags": self.data.given(),
        }

    def resolved(self) -> dict[str, Any]:
        """What args.json says beside the flags as they were given."""
        return self.as_protocol() | {"at_type": self.at_type, "seed": self.seed}


@dataclass(frozen=True)
class Clips:
    """What a training reads."""

    train: ClipSet
    val: ClipSet  # of which the results are
    held_out: ClipSet | None = None  # choose the best epoch; None: `val` does
    # The true importance of the frames of a clip set, if it is known.
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
    labels, frozen = clips.train.labels, settings.freeze_backbone
    last = run.folder / LAST
    resumed = last.is_file()
    model, facts = stored_network(last) if resumed else new_network(settings, labels)
    model.backbone.requires_grad_(not frozen)
    model.classifier.requires_grad_(not settings.keep_classifier)
    # A run keeps its precision on another machine.
    compute = choose_compute(settings.device, settings.precision, trained_with=facts.get("precision"))
    size = facts["image_size"]
    settings = replace(settings, image_size=size)
    model.backbone.check_image_size(size)
    model.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    print(f"{model.head.title} on {compute.device}, {compute.precision}, frames of {size} x {size}")

    batches, val, chosen_on = open_batches(settings, clips, model, compute)
    transform = view_named(settings.augmentation) if frozen else augmentation_named(settings.augmentation)
    loss_function = loss_named(settings.loss)
    state = begin(settings, model, len(batches), compute)
    # How often each class was seen: what a change of the prior starts from. A kept classifier has its own.
    facts.setdefault("class_shares", class_shares(batches.table.targets, len(labels), batches.samples).tolist())
    facts |= {"labels": list(labels), "dataset": settings.dataset}
    facts |= {"protocol": settings.as_protocol(), "precision": compute.precision}
    if resumed:
        run.resume(state, labels, len(batches))
    else:
        start = str(starting_file(settings.pretrained) or "none")
        resolved = settings.resolved() | {"pretrained": start, "backbone": model.backbone.name}
        run.write_arguments(settings.flags, resolved, compute)
    if state.epoch >= settings.epochs:
        print(f"{run.folder}: all {settings.epochs} epochs are finished; its results are written again")
    run.write_log(state.log)

    with resumable(run.folder):
        for epoch in range(state.epoch + 1, settings.epochs + 1):
            trained = train_one_epoch(state, batches, epoch, transform, loss_function, settings.print_freq)
            ddp.share_buffers(model)
            metrics, evaluation = evaluate_split(state.saved, chosen_on, compute)
            line = log_line(epoch, trained, metrics, evaluation)
            state.finish_epoch(line, best=settings.select_on == "last")
            run.save_epoch(state, {**facts, "metrics": metrics})
            print(epoch_line(line, settings.epochs, "features" if frozen else "frames"), flush=True)
            stop_if_asked()
        about: dict[str, Any] = {"selected_on": SELECTED[settings.select_on]}
        if settings.fold is not None:
            about |= {"fold": settings.fold, "num_folds": settings.num_folds}
        return conclude(state, val, run, about)


def new_network(settings: Settings, labels: Sequence[str]) -> tuple[FAN, dict[str, Any]]:
    """The network at the start of a training, and what its checkpoints say: the size, and a kept classifier's prior."""
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
    print(start.message)
    size = settings.image_size if settings.fixed_size else start.image_size or settings.image_size
    facts: dict[str, Any] = {"image_size": size}
    if settings.keep_classifier:
        assert file is not None
        facts |= keep_classifier(start.fan, file, labels, settings.label_map)
        print("its classifier is kept, only attention is trained")
    return start.fan, facts


def stored_network(last: Path) -> tuple[FAN, dict[str, Any]]:
    """The network of last.pth and what that says, since what the run started from may be gone by now."""
    model, info = load_fan(last)
    print(f"resuming {last.parent}")
    facts = {name: info[name] for name in ("image_size", "precision", "class_shares", "recipe")}
    return model, {name: value for name, value in facts.items() if value is not None}


def begin(settings: Settings, network: FAN, steps: int, compute: Compute) -> State:
    """The state before the first epoch, in which SGD trains what is not frozen; `steps`: of an epoch."""
    optimizer = torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=compute.device.type == "cuda",  # then the loss scaling of fp16 does not wait for the GPU in each step
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, decay(settings, steps))
    forward: Callable[..., Any] = ddp.wrapped(network)
    return State(network, optimizer, scheduler, compute, torch.compile(forward) if settings.compile else forward)


def decay(protocol: TrainingProtocol, steps_per_epoch: int) -> Callable[[int], float]:
    """The factor on the learning rate after a number of steps (AFEW: x 0.2 after 60 and 120 of 180 epochs)."""
    return lambda step: protocol.decay ** sum(step / steps_per_epoch >= epoch for epoch in protocol.decay_at)


def open_batches(
    settings: Settings, clips: Clips, model: FAN, compute: Compute
) -> tuple[TrainingBatches, EvaluationSplit, EvaluationSplit]:
    """The training batches, the split of the results, and the split that chooses the best epoch.

    With a frozen backbone, they hold features, which are computed now.
    """
    frozen = settings.freeze_backbone
    splits = [clips.train, clips.val]
    if clips.held_out:
        splits.append(clips.held_out)
    stores, loading = open_stores(
        splits,
        settings.image_size,
        compute.device,
        cache=settings.cache or ("none" if frozen else None),
        workers=settings.workers,
    )
    table = FrameTable.of(clips.train)
    if frozen:
        print("the backbone is frozen: features are computed once, then the head is trained", flush=True)
        stores = [
            store_features(model, FrameTable.of(split), store, compute, mirrored=split is clips.train, loading=loading)
            for split, store in zip(splits, stores, strict=True)
        ]
        table.renewed = False  # features are the same in every epoch
        loading = Loading()
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
        EvaluationSplit.of(split, store, loading, compute, plain, clips.intensities(split))
        for split, store in zip(splits[1:], stores[1:], strict=True)
    ]
    return batches, evaluated[0], evaluated[-1]  # held-out clips are last


def log_line(epoch: int, trained: dict[str, float], metrics: dict[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The line of the log about an epoch."""
    line = {
        "epoch": epoch,
        **trained,
        "seconds": trained["seconds"] + evaluation.seconds,
        "val_loss": metrics["loss"],
        "val_war": metrics["accuracy"],
        "val_uar": metrics["uar"],
        "val_frames_per_second": evaluation.frames / evaluation.seconds,
        "val_attention_correlation": metrics.get("attention_correlation"),
    }
    return {name: value for name, value in line.items() if value is not None}


def conclude(state: State, val: EvaluationSplit, run: Run, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Evaluates last.pth and best.pth as `-e` would, and writes the results, per clip for the best.

    Args:
        about: more entries of results.json.
    """
    results: dict[str, dict[str, Any]] = {}
    ddp.barrier()  # the main process has written both
    for which, name in (("last", LAST), ("best", BEST)):
        checkpoint = read_checkpoint(run.folder / name)
        load_trained(state.saved, checkpoint)
        metrics, evaluation = evaluate_split(state.saved, val, state.compute)
        results[which] = {"epoch": checkpoint["epoch"], **metrics}
    run.write_results(val, results, evaluation, about)
    return results
