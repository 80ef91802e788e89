"""A training from its first epoch to its results.

Every training of the project goes through here: FAN on clips, and the backbone on single images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from ..common.device import Compute
from ..common.errors import ProjectError, TrainingDivergedError
from ..data.augment import PlainFrames
from ..data.clips import DataError
from ..data.loaders import TrainingBatches
from ..network.checkpoints import CheckpointError, read_checkpoint, read_part
from ..network.fan import FAN, FeatureFAN
from ..network.prior import class_shares
from ..network.weights import load_trained, published_weights, stored_labels
from . import distributed
from .engine import (
    Evaluation,
    EvaluationSplit,
    Network,
    Transform,
    epoch_line,
    evaluate_split,
    train_one_epoch,
)
from .epoch_state import EpochState, joint_position
from .losses import Loss, cross_entropy
from .records import LogLine
from .run_folder import LAST, Run, checkpoint_payload
from .stopping import Saver, deferred
from .tensorboard import is_shown


@dataclass
class Training:
    """Everything that a training consists of.

    Attributes:
        model: the network that is trained and saved.
        train: batches of frames; of features, if they are computed once (`from_features`).
        val: evaluated after every epoch.
        transform: maps the number of an epoch, from 1, to its training transform.
        seed: of samples, augmentation and dropout; not of the weights, which the model has already.
        labels, image_size, dataset, protocol: what checkpoints say about themselves.
        from_features: batches hold the features of a frozen backbone; only the head is trained.
        average: weights averaged over steps. If there are any, they are evaluated and saved, not those of the model.
        before_epoch: called with the number of the epoch, to draw new labels, for example.
        size_of: maps the number of an epoch to the side of its pictures, if that changes. The epoch is evaluated at
            this size, and its checkpoint says it. The best epoch is one of those at the last size.
        forward: called instead of the model in training: a compiled or wrapped version of it.
        checkpoint_every: minutes between checkpoints inside an epoch; 0: none.
        prior: what checkpoints say about the classifier's prior: `class_shares`, and a `recipe` with the `balance` of
            the training; None: the shares of the training samples, and no balance.
        best, lines, metrics: of the epochs done: the best one, the lines of the log, the metrics of the last one.
        epoch_state: of the epoch that is under way.
    """

    model: FAN
    train: TrainingBatches
    val: EvaluationSplit
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
    loss_function: Loss = cross_entropy
    from_features: bool = False
    average: AveragedModel | None = None
    before_epoch: Callable[[int], None] | None = None
    size_of: Callable[[int], int] | None = None
    forward: Callable[..., Any] | None = None
    print_freq: int = 0
    prior: dict[str, Any] | None = None
    checkpoint_every: float = 0
    first_epoch: int = 1
    best: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    epoch_state: EpochState | None = None

    def __post_init__(self) -> None:
        self.scaler = self.compute.scaler()

    @property
    def saved_model(self) -> FAN:
        """The weights that count: the averaged ones if there are any."""
        return self.average.module if self.average is not None else self.model  # type: ignore[return-value]

    def network(self, fan: FAN) -> Network:
        """A FAN as the batches need it."""
        return FeatureFAN(fan) if self.from_features else fan

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
            resumable: with the state of optimizer, schedule and epoch, which resuming needs.
            position: where the next epoch was interrupted, see `joint_position`.
        """
        state = {
            "model": published_weights(self.model) if self.average is not None else None,
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
        payload = checkpoint_payload(
            self.saved_model,
            labels=self.labels,
            image_size=self.size_of(max(epoch, 1)) if self.size_of else self.image_size,
            dataset=self.dataset,
            protocol=self.protocol,
            precision=self.compute.precision,
            epoch=epoch,
            metrics=metrics,
            training=state if resumable else None,
        )
        # How often each class was seen: what a change of the prior (`Code.recipes.change_prior`) starts from.
        if self.prior is not None:
            return {**payload, **self.prior}
        shares = class_shares(self.train.table.targets, len(self.labels), self.train.samples)
        return {**payload, "class_shares": shares.tolist()}

    def resume(self, path: Path) -> None:
        """Resumes from a checkpoint that was written after an epoch, or inside one.

        Raises:
            CheckpointError: the file is not the `last.pth` of a run, or of a run with another seed or other epochs.
        """
        checkpoint = read_checkpoint(path)
        check_resumable(checkpoint, path, self.labels)
        state = checkpoint["training"]
        try:
            self._restore(checkpoint, state, path)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if isinstance(error, ProjectError):
                raise
            reason = (str(error).splitlines() or [""])[0][:200]
            raise CheckpointError(
                f"{path}: its training state does not fit this run ({type(error).__name__}: {reason}); start a new run"
            ) from None

    def _restore(self, checkpoint: dict[str, Any], state: dict[str, Any], path: Path) -> None:
        for name in ("seed", "epochs"):
            if state[name] != getattr(self, name):
                raise CheckpointError(f"{path}: was trained with --{name} {state[name]}; resume with the same")
        load_state(self.saved_model, checkpoint, path)
        if self.average is not None:
            load_state(self.model, state["model"], path)
            self.average.n_averaged.fill_(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        log = read_part(state["log"], list[LogLine], f"{path}: log")
        done = read_part({**checkpoint, "best": state["best"] or None}, Done, path)
        if [line.epoch for line in log] != list(range(1, done.epoch + 1)):
            raise CheckpointError(f"{path}: its log does not have one line for each of {done.epoch} epochs")
        self.best, self.lines, self.metrics = state["best"], list(state["log"]), checkpoint["metrics"]
        if self.prior is not None:  # what the run started from may be gone by now, or be another file
            self.prior |= {name: checkpoint[name] for name in self.prior if name in checkpoint}
        self.first_epoch = done.epoch + 1
        if state["position"] is not None:
            self.epoch_state = EpochState.resumed(state["position"], self.train.table.names)
            if self.epoch_state.steps != len(self.train):
                raise CheckpointError(
                    f"{path}: was written in an epoch of {self.epoch_state.steps} steps, but an epoch now has "
                    f"{len(self.train)} steps; the training set has changed, so start again"
                )


@dataclass
class Best:
    """The best epoch so far, in a checkpoint."""

    epoch: int
    accuracy: float


@dataclass
class Done:
    """What a checkpoint to resume from says about the epochs done."""

    epoch: int
    metrics: dict[str, Any]
    best: Best | None


def check_resumable(checkpoint: dict[str, Any], path: Path, labels: Sequence[str]) -> None:
    """Makes sure that a run can be resumed from this checkpoint.

    Raises:
        CheckpointError: it has no training state, or the data has other classes than it.
    """
    if not checkpoint.get("training") or not isinstance(checkpoint["training"], dict):
        raise CheckpointError(f"{path}: has weights but no training state; --resume needs the last.pth of a run")
    try:
        theirs = list(stored_labels(checkpoint, None))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if list(labels) != theirs:
        raise CheckpointError(f"{path}: its classes are {', '.join(theirs)}; the data's {', '.join(labels)}")
    if "log" not in checkpoint["training"]:
        raise CheckpointError(
            f"{path}: was written by an older version of this project; finish the run with that version"
        )


def run_training(training: Training, run: Run) -> None:
    """Trains all epochs and writes a line of the log and a checkpoint after each. Resumes inside an epoch if need be.

    `best.pth` is of the epoch with the highest validation accuracy; of equal ones, of the earlier.

    Raises:
        Interrupted: a signal asked to stop; `last.pth` has the state after the last step.
        TrainingDivergedError: the loss is not finite; `last.pth` is from before.
    """
    saver = Saver(lambda: save_inside(training, run), training.checkpoint_every)
    average = training.average

    def after_step() -> None:
        if average is not None:
            average.update_parameters(training.model)
        saver.check()

    with deferred():
        for epoch in range(training.first_epoch, training.epochs + 1):
            try:
                run_epoch(training, run, epoch, after_step, saver.check)
            except TrainingDivergedError as error:
                kept = f"; {run.folder / LAST} is from before" if (run.folder / LAST).exists() else ""
                raise TrainingDivergedError(f"{error}{kept}") from None
            except DataError as error:
                raise _saved_before(error, training, run) from None
            saver.was_saved()
        saver.finish()


def _saved_before(error: DataError, training: Training, run: Run) -> DataError:
    """Frames were lost or replaced: saves what is trained, so that the run can be resumed when they are back."""
    state = training.epoch_state
    # Several processes save together, so all of them must be here.
    together = distributed.world().size == 1 or isinstance(error, distributed.LostFramesError)
    if together and state is not None and state.step:
        try:
            save_inside(training, run)
        except ProjectError as other:
            error.advice.append(f"The steps since the last checkpoint are not saved: {other}")
    if (run.folder / LAST).is_file():
        error.advice.append(f"The training is saved in {run.folder}; it can be resumed when the frames are back")
        error.resumable = True
    return error


def save_inside(training: Training, run: Run) -> None:
    """Writes `last.pth` between two steps, or between two batches of the evaluation after an epoch."""
    assert training.epoch_state is not None
    training.epoch_state.losses.check(training.model)
    position = joint_position(training.epoch_state)
    if distributed.world().is_main:
        run.save(LAST, training.payload(training.epoch_state.epoch - 1, training.metrics, position=position))


def run_epoch(
    training: Training, run: Run, epoch: int, after_step: Callable[[], None], after_batch: Callable[[], None]
) -> None:
    """Trains and evaluates one epoch; writes its line and its checkpoint."""
    state = training.epoch_state if training.epoch_state and training.epoch_state.epoch == epoch else None
    training.epoch_state = state = state or EpochState(epoch, training.train.table.names)
    earlier, start = state.seconds, time.perf_counter()
    if training.before_epoch:
        training.before_epoch(epoch)
    trained = train_one_epoch(
        training.network(training.model),
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
        state=state,
    )
    distributed.share_buffers(training.model)
    distributed.share_buffers(training.saved_model)
    if training.size_of:
        training.val.transform = PlainFrames(training.size_of(epoch))
    network = training.network(training.saved_model)
    metrics, evaluation = evaluate_split(network, training.val, training.compute, after_batch=after_batch)
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
    better |= bool(
        training.best and training.size_of and training.size_of(epoch) != training.size_of(training.best["epoch"])
    )
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
    """Loads the weights of a checkpoint into a model of the same shape; returns the checkpoint."""
    checkpoint = read_checkpoint(path)
    load_state(model, checkpoint, path)
    return checkpoint


def load_state(model: FAN, checkpoint: dict[str, Any], path: Path) -> None:
    """Loads the weights of a checkpoint that was read.

    Raises:
        CheckpointError: they are not those of this network.
    """
    try:
        load_trained(model, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def conclude(
    training: Training, run: Run, split: EvaluationSplit, about: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Evaluates `last.pth` and `best.pth` as `-e` would, and writes the results, per clip for the best.

    Args:
        about: more entries of results.json, besides the metrics.
    """
    results: dict[str, dict[str, Any]] = {}
    distributed.barrier()  # the main process has written both
    for which in ("last", "best"):
        checkpoint = load_weights(training.model, run.folder / f"{which}.pth")
        if training.size_of:
            split.transform = PlainFrames(checkpoint["image_size"])
        metrics, evaluation = evaluate_split(training.network(training.model), split, training.compute)
        results[which] = {"epoch": checkpoint["epoch"], **metrics}
    write_results(run, split, results, evaluation, about)
    run.log_outcome(results["last"])
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
