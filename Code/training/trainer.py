"""From the first epoch to the results: what every training of the project goes through.

How the learning rate goes over a training, and averages of weights over its steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from Code.common.errors import TrainingDivergedError
from Code.data.loaders import TrainingBatches
from Code.network.fan import FAN
from Code.network.pretrained import CheckpointError, read_checkpoint
from Code.training import distributed
from Code.training.compute import Compute
from Code.training.engine import Evaluation, Judged, Loss, Transform, epoch_line, judge, train_one_epoch
from Code.training.epoch_state import EpochProgress, joined
from Code.training.run_folder import LAST, Run, checkpoint_payload
from Code.training.stopping import Keeper, deferred
from Code.training.tensorboard import is_shown


@dataclass
class Training:
    """Everything a training consists of.

    Attributes:
        transform: the training transform of an epoch (counted from 1).
        seed: of plan, augmentation and dropout; weights are initialised by whoever makes the model.
        labels, image_size, dataset, protocol: what checkpoints say of themselves.
        average: weights averaged over steps; they are evaluated and saved in place of the model's.
        before_epoch: called with the epoch's number (labels drawn anew, say).
        val_transform: the evaluation's transform of an epoch, where it changes over the training.
        checkpoint_every: minutes between checkpoints inside an epoch; 0: none.
        best, lines, metrics: of the epochs done: the best one, the log's lines, the last one's metrics.
        progress: of the epoch that is under way.
    """

    model: FAN
    train: TrainingBatches
    val: Judged
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    compute: Compute
    transform: Callable[[int], Transform]
    epochs: int
    seed: int
    labels: Sequence[str]
    image_size: int
    dataset: str
    protocol: dict[str, Any]
    loss_function: Loss = F.cross_entropy
    average: AveragedModel | None = None
    before_epoch: Callable[[int], None] | None = None
    val_transform: Callable[[int], Transform] | None = None
    forward: Callable[..., Any] | None = None
    print_freq: int = 0
    checkpoint_every: float = 0
    first_epoch: int = 1
    best: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    progress: EpochProgress | None = None

    def __post_init__(self) -> None:
        self.scaler = self.compute.scaler()

    @property
    def judged_model(self) -> FAN:
        """The weights that count: the averaged ones where there are any."""
        return self.average.module if self.average is not None else self.model  # type: ignore[return-value]

    def payload(
        self,
        epoch: int,
        metrics: dict[str, Any],
        *,
        resumable: bool = True,
        position: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The checkpoint after an epoch.

        Args:
            resumable: with all that a training needs beside the weights.
            position: inside the epoch after that.
        """
        state = {
            "model": self.model.state_dict() if self.average is not None else None,
            "average": int(self.average.n_averaged) if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seed": self.seed,
            "epochs": self.epochs,
            "best": self.best,
            "log": self.lines,
            "position": position,
        }
        return checkpoint_payload(
            self.judged_model,
            labels=self.labels,
            image_size=self.image_size,
            dataset=self.dataset,
            protocol=self.protocol,
            precision=self.compute.precision,
            epoch=epoch,
            metrics=metrics,
            training=state if resumable else None,
        )

    def resume(self, path: Path) -> None:
        """Takes up where a run's checkpoint was written: after an epoch, or inside one.

        Raises:
            CheckpointError: if the file is not a run's `last.pth` or belongs to another seed or length.
        """
        checkpoint = read_checkpoint(path)
        refuse_foreign(checkpoint, path, self.labels)
        state = checkpoint["training"]
        for name in ("seed", "epochs"):
            if state[name] != getattr(self, name):
                raise CheckpointError(f"{path}: was trained with --{name} {state[name]}; resume with the same")
        self.judged_model.load_state_dict(checkpoint["state_dict"])
        if self.average is not None:
            self.model.load_state_dict(state["model"])
            self.average.n_averaged.fill_(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.lines, self.metrics = state["best"], list(state["log"]), checkpoint["metrics"]
        self.first_epoch = checkpoint["epoch"] + 1
        if state["position"] is not None:
            self.progress = EpochProgress.taken_up(state["position"], self.train.table.names)
            if self.progress.steps != len(self.train):
                raise CheckpointError(
                    f"{path}: was left in an epoch of {self.progress.steps} steps, which are {len(self.train)} now; "
                    "the training set has changed, so start again"
                )


def refuse_foreign(checkpoint: dict[str, Any], path: Path, labels: Sequence[str]) -> None:
    """A run goes on from its own state, with the classes it was begun with.

    Raises:
        CheckpointError: if the checkpoint holds no such state, or the data has other classes.
    """
    if not checkpoint.get("training"):
        raise CheckpointError(f"{path}: holds weights but no training state; --resume needs a run's last.pth")
    theirs = checkpoint["labels"]
    if list(labels) != theirs:
        raise CheckpointError(f"{path}: its classes are {', '.join(theirs)}; the data's {', '.join(labels)}")
    if "log" not in checkpoint["training"]:
        raise CheckpointError(f"{path}: was written by an older version of this project, which has to finish it")


def run_training(training: Training, run: Run) -> None:
    """Trains all epochs, a line and a checkpoint each; goes on inside an epoch where one was left.

    `best.pth` is the epoch with the highest validation accuracy, the earlier one where two agree.

    Raises:
        Interrupted: a signal asked for it; `last.pth` holds the state after the last step.
        TrainingDivergedError: the loss is not finite; `last.pth` holds the state of the last time it was saved.
    """
    keeper = Keeper(lambda: save_inside(training, run), training.checkpoint_every)
    average = training.average

    def after_step() -> None:
        if average is not None:
            average.update_parameters(training.model)
        keeper.look()

    with deferred():
        for epoch in range(training.first_epoch, training.epochs + 1):
            try:
                run_epoch(training, run, epoch, after_step, keeper.look)
            except TrainingDivergedError as error:
                kept = f"; {run.folder / LAST} is from before" if (run.folder / LAST).exists() else ""
                raise TrainingDivergedError(f"{error}{kept}") from None
            keeper.was_saved()
        keeper.finish()


def save_inside(training: Training, run: Run) -> None:
    """Writes `last.pth` between two steps, or between the batches of an epoch's evaluation."""
    assert training.progress is not None
    training.progress.losses.check(training.model)
    position = joined(training.progress)
    if distributed.world().is_main:
        run.save(LAST, training.payload(training.progress.epoch - 1, training.metrics, position=position))


def run_epoch(
    training: Training, run: Run, epoch: int, after_step: Callable[[], None], after_batch: Callable[[], None]
) -> None:
    """Trains and evaluates one epoch, writes its line and its checkpoint."""
    progress = training.progress if training.progress and training.progress.epoch == epoch else None
    training.progress = progress = progress or EpochProgress(epoch, training.train.table.names)
    earlier, start = progress.seconds, time.perf_counter()
    if training.before_epoch:
        training.before_epoch(epoch)
    trained = train_one_epoch(
        training.model,
        training.train,
        training.optimizer,
        training.scheduler,
        training.scaler,
        compute=training.compute,
        transform=training.transform(epoch),
        epoch=epoch,
        seed=training.seed,
        loss_function=training.loss_function,
        after_step=after_step,
        print_freq=training.print_freq,
        forward=training.forward,
        progress=progress,
    )
    distributed.share_buffers(training.model)
    distributed.share_buffers(training.judged_model)
    if training.val_transform:
        training.val.transform = training.val_transform(epoch)
    metrics, evaluation = judge(training.judged_model, training.val, training.compute, after_batch=after_batch)
    line = {
        "epoch": epoch,
        "lr": trained["lr"],
        "train_loss": trained["loss"],
        "train_war": trained["war"],
        "val_loss": metrics["loss"],
        "val_war": metrics["accuracy"],
        "val_uar": metrics["uar"],
        "seconds": earlier + time.perf_counter() - start,
        "frames_per_second": trained["frames_per_second"],
        "val_frames_per_second": evaluation.frames / evaluation.seconds,
    }
    if metrics.get("attention_correlation") is not None:
        line["val_attention_correlation"] = metrics["attention_correlation"]
    training.metrics = metrics
    training.lines.append(line)
    better = not training.best or metrics["accuracy"] > training.best["accuracy"]
    if better or training.protocol.get("select_on") == "last":
        training.best = {"epoch": epoch, "accuracy": metrics["accuracy"]}
        run.save("best.pth", training.payload(epoch, metrics, resumable=False))
    run.log(line)
    if is_shown(epoch, training.epochs):
        run.log_figures(
            epoch, training.labels, metrics["confusion"], training.val.clips, evaluation, training.val.intensities
        )
    run.save(LAST, training.payload(epoch, metrics))
    print(epoch_line(line, training.epochs), flush=True)


def load_weights(model: FAN, path: Path) -> dict[str, Any]:
    """Puts a run's checkpoint into a model of the same shape; returns the checkpoint."""
    checkpoint = read_checkpoint(path)
    model.load_state_dict(checkpoint["state_dict"])
    return checkpoint


def conclude(
    run: Run, model: FAN, judged: Judged, compute: Compute, about: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Evaluates `last.pth` and `best.pth` as `-e` would, and writes results and per-clip files (of the best).

    Args:
        about: what results.json says beside the metrics.
    """
    results: dict[str, dict[str, Any]] = {}
    distributed.barrier()  # the main process has written both
    for which in ("last", "best"):
        checkpoint = load_weights(model, run.folder / f"{which}.pth")
        metrics, evaluation = judge(model, judged, compute)
        results[which] = {"epoch": checkpoint["epoch"], **metrics}
    write_outcome(run, judged, results, evaluation, about)
    run.log_outcome(results["last"])
    return results


def write_outcome(
    run: Run,
    judged: Judged,
    results: dict[str, dict[str, Any]],
    evaluation: Evaluation,
    about: dict[str, Any] | None = None,
) -> None:
    """results.json, predictions.csv and, where frames have names, attention.csv and clips.csv."""
    table = judged.table
    run.write_results(table.labels, results, about)
    run.write_predictions(table.labels, table.names, table.targets.tolist(), evaluation)
    if judged.clips is not None:
        run.write_attention(judged.clips, evaluation, judged.intensities)


def per_step(schedule: Callable[[float], float], steps_per_epoch: int) -> Callable[[int], float]:
    """A LambdaLR function from one of the epoch: schedule(epochs done, fractional) -> factor."""
    return lambda step: schedule(step / steps_per_epoch)


def decay_after(epochs: Sequence[float], factor: float) -> Callable[[float], float]:
    """x factor after each of these numbers of epochs (AFEW: 60 and 120 of 180)."""
    return lambda done: factor ** sum(done >= at for at in epochs)


def one_cycle(epochs: float, warm_up: float = 0.2, first: float = 0.1, last: float = 0.001) -> Callable[[float], float]:
    """Cosine up from `first` over the `warm_up` share of the epochs, then cosine down to `last`."""

    def factor(done: float) -> float:
        share = min(done / epochs, 1.0)
        if share < warm_up:
            begin, end, position = first, 1.0, share / warm_up
        else:
            begin, end, position = 1.0, last, (share - warm_up) / (1 - warm_up)
        return end + (begin - end) * (1 + float(np.cos(np.pi * position))) / 2

    return factor


def averaged(model: FAN, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, quick at first: decay
    min(decay, (1 + n) / (10 + n)) after n steps."""

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)  # batch counters

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
