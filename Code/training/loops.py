"""Losses, one epoch of training, and evaluation: the only loops over batches in the project.

A new loss is one function here and its entry in `LOSSES`; `--loss` chooses it.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel

from ..common.device import Compute
from ..common.errors import TrainingDivergedError, UsageError
from ..common.names import counted
from ..common.progress import Progress
from ..data.augment import PlainFrames
from ..data.batches import BATCH_FRAMES, Batch, EvaluationBatches, FrameTable, Loading, Store, TrainingBatches
from ..data.clips import Clip, ClipSet
from ..data.intensity import Intensities
from ..network.attention import FANOutput
from ..network.fan import FAN
from . import ddp
from .intervals import interval_text
from .metrics import attention_metrics, classification_metrics
from .stopping import stop_if_asked

# uint8 frames on the device -> float frames [B, K, 3, H, W]; or stored features -> features [B, K, D].
Transform = Callable[[Tensor, torch.Generator], Tensor]
# The output for B samples and their batch (see `TrainingBatches`; labels are on the device, int64 [B] or float32 [B, C]
# shares) -> a scalar, the mean over the samples.
Loss = Callable[[FANOutput, Batch], Tensor]
Step = tuple[int, Tensor, Tensor]  # number, from 1; loss, a scalar; indices of its clips, int64 [B]
CLIPS_AT_ONCE = 64  # that the attention sees in evaluation; bounds the memory
CHECKED_STEPS = 32  # between two checks of the loss, which wait for the device


def cross_entropy(output: FANOutput, batch: Batch) -> Tensor:
    """Mean cross-entropy of the logits [B, C] with class indices [B], or with class shares [B, C]."""
    return F.cross_entropy(output.logits, batch["labels"])


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy}


def loss_named(name: str) -> Loss:
    """The loss that `--loss` names. Raises UsageError if there is none."""
    if name not in LOSSES:
        raise UsageError(f"--loss {name}: unknown; Code/training/loops.py has {', '.join(LOSSES)}")
    return LOSSES[name]


@dataclass
class State:
    """What a training changes: all that it takes to go on after an epoch, and to end with the same bytes.

    Attributes:
        network: its weights are trained.
        forward: the network as a step calls it: itself, compiled, or wrapped for several processes.
        average: an average of the network's weights over the steps, if one is kept.
    """

    network: FAN
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    compute: Compute
    forward: Callable[..., FANOutput]
    average: AveragedModel | None = None
    epoch: int = 0  # how many are done
    best: dict[str, Any] = field(default_factory=dict)  # "epoch" and "accuracy" of the best one
    log: list[dict[str, Any]] = field(default_factory=list)  # a line for each

    def __post_init__(self) -> None:
        self.scaler = self.compute.scaler()

    @property
    def saved(self) -> FAN:
        """The network that is evaluated and saved: the average, if one is kept."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]

    def finish_epoch(self, line: dict[str, Any], *, best: bool = False) -> None:
        """Notes an epoch that is done. Of equally accurate ones, the earlier is the best, unless `best` says so."""
        self.epoch = line["epoch"]
        self.log.append(line)
        if best or not self.best or line["val_war"] > self.best["accuracy"]:
            self.best = {"epoch": self.epoch, "accuracy": line["val_war"]}


def train_one_epoch(
    state: State,
    batches: TrainingBatches,
    epoch: int,
    transform: Transform,
    loss_function: Loss = cross_entropy,
    print_freq: int = 0,
) -> dict[str, float]:
    """Trains for one epoch, counted from 1.

    Every random number of the epoch (samples, augmentation, dropout) derives from the seed of the batches, the epoch
    and the rank of the process, so an epoch does not depend on what ran before it in the process.

    Args:
        print_freq: print the running loss every `print_freq` steps; 0: never. Each print waits for the device.

    Returns:
        Over all processes: train_loss (mean over samples), train_war (of the training samples, with dropout), lr (of
        the last step), seconds, frames_per_second.

    Raises:
        TrainingDivergedError: a step's loss or the weights are not finite; names the clips of the batch.
        Interrupted: a signal asked to stop.
    """
    device, start = state.compute.device, time.perf_counter()
    generator = seed_everything(batches.seed, epoch)
    unchecked: list[Step] = []
    sums = torch.zeros(2, device=device)  # loss times samples, correct samples
    samples = frames_seen = 0
    lr = math.nan
    state.network.train()
    with Progress(f"epoch {epoch}", len(batches), unit="steps", show=ddp.world().is_main) as progress:
        for step, batch in enumerate(batches.epoch(epoch), start=1):
            labels = batch["labels"].to(device, non_blocking=True)  # [B], or class shares [B, C]
            batch["labels"] = labels
            frames = transform(batch["frames"].to(device, non_blocking=True), generator)  # float [B, K, 3, H, W]
            with state.compute.autocast():
                output = state.forward(frames)  # logits [B, C]
            loss = loss_function(output, batch)
            state.optimizer.zero_grad(set_to_none=True)
            state.scaler.scale(loss).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
            lr = state.optimizer.param_groups[0]["lr"]
            state.scheduler.step()

            truth = labels if labels.ndim == 1 else labels.argmax(dim=1)
            correct = (output.logits.detach().argmax(dim=1) == truth).sum()
            sums += torch.stack([loss.detach() * len(labels), correct])
            samples += len(labels)
            frames_seen += frames.shape[0] * frames.shape[1]
            unchecked.append((step, loss.detach(), batch["clips"]))
            if len(unchecked) > CHECKED_STEPS or step == len(batches):
                check_finite(epoch, unchecked, batches.table.names, state.network)
                unchecked.clear()
            progress()
            if print_freq and step % print_freq == 0:
                mean = float(sums[0]) / samples
                progress.say(f"  epoch {epoch}, step {step}/{len(batches)}: loss {mean:.4f}", sys.stdout)
            stop_if_asked()
    loss_sum, correct_sum = ddp.total(sums).tolist()
    samples, frames_seen = ddp.total(torch.tensor([samples, frames_seen], device=device)).tolist()
    seconds = time.perf_counter() - start
    return {
        "lr": lr,
        "train_loss": loss_sum / samples,
        "train_war": correct_sum / samples,
        "seconds": seconds,
        "frames_per_second": frames_seen / seconds,
    }


def seed_everything(seed: int, epoch: int) -> torch.Generator:
    """Sets the random states of dropout and returns the generator of augmentation, for an epoch of this process."""
    state = (ddp.world().rank << 52) + (seed << 20) + epoch
    random.seed(state)
    np.random.seed(state % 2**32)
    torch.manual_seed(state)  # dropout
    torch.empty((), dtype=torch.int64).random_()  # the loader once drew a number here; without it, seeds would change
    return torch.Generator().manual_seed(state)


def check_finite(epoch: int, steps: Sequence[Step], names: Sequence[str], model: nn.Module) -> None:
    """Checks the losses of steps, and the weights after the last one. This waits for the device.

    Raises:
        TrainingDivergedError: names the first step that is not finite and all clips of its batch.
    """
    weights = torch.stack([weight.detach().sum() for weight in model.parameters()]).sum()
    finite = torch.stack([*(loss for _, loss, _ in steps), weights]).isfinite().tolist()
    if not all(finite):
        step, _, clips = steps[min(finite.index(False), len(steps) - 1)]
        of_batch = ", ".join(dict.fromkeys(names[clip] for clip in clips.tolist()))
        raise TrainingDivergedError(
            f"epoch {epoch}: the loss is not finite in step {step} or after it, with the clips {of_batch}; start again "
            "with a smaller --lr, or with --precision fp32"
        )


@dataclass
class Evaluation:
    """The network's output for every clip.

    Attributes:
        logits: float32 [clips, C].
        alpha, beta, weights: per clip, float32 [T]; beta is empty for heads without it.
        frames, seconds: how many frames were evaluated and how long it took.
    """

    logits: Tensor
    alpha: list[np.ndarray] = field(default_factory=list)
    beta: list[np.ndarray] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0


@torch.inference_mode()
def evaluate(model: FAN, batches: EvaluationBatches, compute: Compute, transform: Transform) -> Evaluation:
    """Runs the network over every frame of every clip.

    The backbone gets full batches of frames, packed across clip borders; the attention then gets each clip whole.
    Only features wait for the end of a clip, not pixels. Several processes share the batches of the backbone; all of
    them return the whole result.
    """
    start, lengths = time.perf_counter(), torch.from_numpy(batches.table.lengths)
    groups = list(lengths.split(CLIPS_AT_ONCE))
    outputs: list[FANOutput] = []  # stay on the device until the end, since copying waits for it
    waiting = torch.empty(0)  # features of clips that are not complete yet, in order
    for features in encode(model, batches, compute, transform, "evaluate"):
        waiting = torch.cat([waiting, features]) if len(waiting) else features
        while len(outputs) < len(groups) and len(waiting) >= (needed := int(groups[len(outputs)].sum())):
            group = groups[len(outputs)]
            clips = waiting[:needed].split(group.tolist())
            outputs.append(model.attend(pad_sequence(list(clips), batch_first=True), group))  # [B, T, D], [B]
            waiting = waiting[needed:]
    result = Evaluation(torch.cat([out.logits for out in outputs]).float().cpu())
    for out, group in zip(outputs, groups, strict=True):
        for padded, rows in ((out.alpha, result.alpha), (out.beta, result.beta), (out.weights, result.weights)):
            if padded is not None:  # [B, T]
                rows += [row[:count] for row, count in zip(padded.float().cpu().numpy(), group, strict=True)]
    result.frames, result.seconds = batches.table.num_frames, time.perf_counter() - start
    return result


@torch.inference_mode()
def encode(
    model: FAN, batches: EvaluationBatches, compute: Compute, transform: Transform, label: str = "features"
) -> Iterator[Tensor]:
    """Yields the features of all frames in their order, float32 [N, D], one batch of every process at a time."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with Progress(label, len(batches), unit="batches", show=ddp.world().is_main) as progress:
        for counts, images in zip(batches.rounds, batches, strict=True):
            if len(images):
                frames = transform(images.to(compute.device, non_blocking=True)[:, None], generator)[:, 0]
                with compute.autocast():
                    features = model.encode(frames).float()
            else:  # the last round has no batch for this process
                features = torch.empty(0, model.feature_size, device=compute.device)
            yield ddp.gather_rows(features, counts)
            progress()
            stop_if_asked()


@dataclass
class EvaluationSplit:
    """A set of clips to evaluate on.

    Attributes:
        clips: for the names of frames in attention.csv; None: that file is not written.
        intensities: true importance of every frame, by clip name, if the dataset knows it.
    """

    batches: EvaluationBatches
    transform: Transform
    clips: Sequence[Clip] | None = None
    intensities: Intensities | None = None

    @classmethod
    def of(
        cls,
        clips: ClipSet,
        store: Store,
        loading: Loading,
        compute: Compute,
        transform: Transform | None = None,
        intensities: Intensities | None = None,
    ) -> EvaluationSplit:
        """A set of clips whose frames, or features, are in a store."""
        frames = BATCH_FRAMES[compute.device.type]
        batches = EvaluationBatches(FrameTable.of(clips), store, batch_frames=frames, loading=loading)
        return cls(batches, transform or PlainFrames(), clips.clips, intensities)

    @property
    def table(self) -> FrameTable:
        """The table of the clips."""
        return self.batches.table


def evaluate_split(model: FAN, split: EvaluationSplit, compute: Compute) -> tuple[dict[str, Any], Evaluation]:
    """Evaluates a set of clips.

    Returns:
        The metrics of `classification_metrics`, `loss` (mean cross-entropy), and, if true intensities are known, those
        of `attention_metrics`; and the outputs behind them.
    """
    evaluation = evaluate(model, split.batches, compute, split.transform)
    table, logits = split.table, evaluation.logits
    metrics = classification_metrics(logits.softmax(dim=1), table.targets, num_skipped=table.skipped)
    metrics["loss"] = float(F.cross_entropy(logits, table.targets))
    if split.intensities is not None:
        weights = dict(zip(table.names, evaluation.weights, strict=True))
        metrics |= attention_metrics(weights, split.intensities)
    return metrics, evaluation


def summary(metrics: dict[str, Any]) -> str:
    """Accuracy and UAR with their intervals, and counts, in one line."""
    clips = metrics["num_clips"]
    war, uar = (interval_text(metrics[f"{name}_interval"], clips) for name in ("accuracy", "uar"))
    text = (
        f"accuracy (WAR) {100 * metrics['accuracy']:.2f} % ({war}), UAR {100 * metrics['uar']:.2f} % ({uar}), "
        f"{counted(clips, 'clip')}"
    )
    if metrics["num_skipped"]:
        text += (
            f" ({metrics['num_skipped']} of {metrics['num_clips_listed']} listed clips skipped, without frames; "
            f"{100 * metrics['accuracy_listed']:.2f} % over all listed)"
        )
    if metrics.get("attention_correlation") is not None:
        text += f", rank correlation of weights with true intensity {metrics['attention_correlation']:.3f}"
    if metrics.get("attention_auc") is not None:
        text += f", AUC {metrics['attention_auc']:.3f}"
    return text


def epoch_line(line: dict[str, Any], epochs: int, unit: str = "frames") -> str:
    """The line that is printed after an epoch; `unit`: what the network was given, "frames" or stored "features"."""
    return (
        f"epoch {line['epoch']:{len(str(epochs))}}/{epochs}  lr {line['lr']:.1e}  "
        f"train loss {line['train_loss']:.4f} WAR {100 * line['train_war']:5.2f} %  |  "
        f"val loss {line['val_loss']:.4f} WAR {100 * line['val_war']:5.2f} % UAR {100 * line['val_uar']:5.2f} %"
        + (f" corr {line['val_attention_correlation']:.2f}" if "val_attention_correlation" in line else "")
        + f"  |  {line['seconds']:.1f} s, {line['frames_per_second']:.0f} {unit}/s"
    )
