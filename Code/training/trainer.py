"""From the first epoch to the results: what every training of the project goes through."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel

from Code.data.loaders import TrainingBatches
from Code.network.fan import FAN
from Code.network.pretrained import CheckpointError, read_checkpoint
from Code.training import distributed
from Code.training.board import is_shown
from Code.training.compute import Compute
from Code.training.engine import Evaluation, Loss, Transform, train_one_epoch
from Code.training.judging import Judged, judge
from Code.training.runs import Run, checkpoint_payload


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
    first_epoch: int = 1
    best: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scaler = self.compute.scaler()

    @property
    def judged_model(self) -> FAN:
        """The weights that count: the averaged ones where there are any."""
        return self.average.module if self.average is not None else self.model  # type: ignore[return-value]

    def payload(self, epoch: int, metrics: dict[str, Any], *, resumable: bool) -> dict[str, Any]:
        """The checkpoint after an epoch."""
        state = {
            "model": self.model.state_dict() if self.average is not None else None,
            "average": int(self.average.n_averaged) if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seed": self.seed,
            "epochs": self.epochs,
            "best": self.best,
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
        """Takes up after the last whole epoch of a run.

        Raises:
            CheckpointError: if the file is not a run's `last.pth` or belongs to another seed or length.
        """
        checkpoint = read_checkpoint(path)
        state = checkpoint.get("training")
        if not state:
            raise CheckpointError(f"{path}: holds weights but no training state; --resume needs a run's last.pth")
        for name in ("seed", "epochs"):
            if state[name] != getattr(self, name):
                raise CheckpointError(f"{path}: was trained with --{name} {state[name]}; resume with the same")
        if list(self.labels) != checkpoint["labels"]:
            raise CheckpointError(
                f"{path}: its classes are {', '.join(checkpoint['labels'])}; the data's {', '.join(self.labels)}"
            )
        self.judged_model.load_state_dict(checkpoint["state_dict"])
        if self.average is not None:
            self.model.load_state_dict(state["model"])
            self.average.n_averaged.fill_(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.first_epoch = state["best"], checkpoint["epoch"] + 1


def run_training(training: Training, run: Run) -> dict[str, Any]:
    """Trains all epochs, a line and a checkpoint each; returns the metrics of the last epoch.

    `best.pth` is the epoch with the highest validation accuracy, the earlier one where two agree.
    """
    width = len(str(training.epochs))
    metrics: dict[str, Any] = {}
    average = training.average
    update = (lambda: average.update_parameters(training.model)) if average is not None else None
    for epoch in range(training.first_epoch, training.epochs + 1):
        start = time.perf_counter()
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
            after_step=update,
            print_freq=training.print_freq,
            forward=training.forward,
        )
        distributed.share_buffers(training.model)
        distributed.share_buffers(training.judged_model)
        if training.val_transform:
            training.val.transform = training.val_transform(epoch)
        metrics, evaluation = judge(training.judged_model, training.val, training.compute)
        line = {
            "epoch": epoch,
            "lr": trained["lr"],
            "train_loss": trained["loss"],
            "train_war": trained["war"],
            "val_loss": metrics["loss"],
            "val_war": metrics["accuracy"],
            "val_uar": metrics["uar"],
            "seconds": time.perf_counter() - start,
            "frames_per_second": trained["frames_per_second"],
            "val_frames_per_second": evaluation.frames / evaluation.seconds,
        }
        if metrics.get("attention_correlation") is not None:
            line["val_attention_correlation"] = metrics["attention_correlation"]
        if not training.best or metrics["accuracy"] > training.best["accuracy"]:
            training.best = {"epoch": epoch, "accuracy": metrics["accuracy"]}
            run.save("best.pth", training.payload(epoch, metrics, resumable=False))
        run.log(line)
        if is_shown(epoch, training.epochs):
            run.log_figures(
                epoch, training.labels, metrics["confusion"], training.val.clips, evaluation, training.val.intensities
            )
        run.save("last.pth", training.payload(epoch, metrics, resumable=True))
        print(
            f"epoch {epoch:{width}}/{training.epochs}  lr {line['lr']:.1e}  "
            f"train loss {line['train_loss']:.4f} WAR {100 * line['train_war']:5.2f} %  |  "
            f"val loss {line['val_loss']:.4f} WAR {100 * line['val_war']:5.2f} % UAR {100 * line['val_uar']:5.2f} %"
            + (f" corr {line['val_attention_correlation']:.2f}" if "val_attention_correlation" in line else "")
            + f"  |  {line['seconds']:.1f} s, {line['frames_per_second']:.0f} frames/s",
            flush=True,
        )
    return metrics


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
