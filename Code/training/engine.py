"""One epoch of training, and evaluation: the only loops over batches in the project."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..common.device import Compute
from ..common.progress import Progress
from ..common.wording import counted
from ..data.clips import Clip
from ..data.intensity import Intensities
from ..data.loaders import EvaluationBatches, TrainingBatches
from ..data.stores import FrameTable
from ..network.attention import FANOutput
from ..network.fan import FAN, FeatureFAN
from . import distributed
from .epoch_state import EpochState
from .intervals import interval_text
from .losses import Loss, cross_entropy
from .metrics import attention_auc, attention_correlation, classification_metrics

Network = FAN | FeatureFAN
Transform = Callable[[Tensor, torch.Generator], Tensor]
CLIPS_AT_ONCE = 64  # that the attention sees in evaluation; bounds the memory


def train_one_epoch(
    model: Network,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    *,
    compute: Compute,
    transform: Transform,
    epoch: int,
    seed: int,
    loss_function: Loss = cross_entropy,
    after_step: Callable[[], None] | None = None,
    print_freq: int = 0,
    show_progress: bool = True,
    forward: Callable[..., Any] | None = None,
    state: EpochState | None = None,
) -> dict[str, float]:
    """Trains for one epoch.

    Every random number of the epoch (samples, augmentation, dropout) derives from (seed, epoch) and the rank of the
    process, so an epoch does not depend on what ran before it in the process.

    Args:
        model: a FAN, or a FeatureFAN whose batches hold features; in training mode afterwards.
        batches: `set_epoch` is called here.
        scheduler: stepped after each training step.
        transform: maps uint8 frames to float frames [B, K, 3, H, W], on the device, or stored features to features
            [B, K, D].
        loss_function: maps the network's output and the batch to a scalar.
        after_step: called after each step: to average weights, to save, or to stop by an exception.
        print_freq: print the running loss every `print_freq` steps; 0: never. Each print waits for the device.
        forward: called instead of `model`: a compiled or wrapped version of it.
        state: of this epoch, kept up to date. A state from inside the epoch resumes the epoch there.

    Returns:
        Over all processes: loss (mean over samples), war (of the training samples, with dropout), lr (of the last
        step), samples, frames, seconds, frames_per_second.

    Raises:
        TrainingDivergedError: a step's loss or the weights are not finite; names the clips of the batch.
    """
    forward = model if forward is None else forward  # a compiled module has no truth value
    device = compute.device
    state = state or EpochState(epoch, batches.table.names)
    batches.set_epoch(epoch, done=state.step)
    state.begin(seed, device, state.step + len(batches))
    model.train()
    show = show_progress and distributed.world().is_main
    with Progress(f"epoch {epoch}", state.steps, unit="steps", done=state.step, show=show) as progress:
        for share, batch in zip(batches.shares, distributed.in_step(batches), strict=True):
            batch["labels"] = batch["labels"].to(device, non_blocking=True)
            frames = transform(batch["frames"].to(device, non_blocking=True), state.generator)
            with compute.autocast():
                output: FANOutput = forward(frames)
            loss = loss_function(output, batch)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss if share == 1 else loss * share).backward()
            scaler.step(optimizer)
            scaler.update()
            state.lr = optimizer.param_groups[0]["lr"]
            scheduler.step()
            state.add(loss, output.logits, batch)
            progress()
            if print_freq and state.step % print_freq == 0:
                mean = float(state.sums[0]) / state.samples
                progress.say(f"  epoch {epoch}, step {state.step}/{state.steps}: loss {mean:.4f}", sys.stdout)
            if after_step:
                after_step()
    state.losses.check(model)
    loss_sum, correct = distributed.total(state.sums.clone()).tolist()
    counts = torch.tensor([state.samples, state.frames], device=device)
    samples, frames_seen = distributed.total(counts).tolist()
    seconds = state.seconds
    return {
        "loss": loss_sum / samples,
        "war": correct / samples,
        "lr": state.lr,
        "samples": samples,
        "frames": frames_seen,
        "seconds": seconds,
        "frames_per_second": frames_seen / seconds,
    }


@dataclass
class Evaluation:
    """The network's output for every clip.

    Attributes:
        logits: float32 [clips, C].
        alpha, weights: per clip, float32 [T]; beta: the same, or None for heads without it.
        frames, seconds: how many frames were evaluated and how long it took.
    """

    logits: Tensor
    alpha: list[np.ndarray] = field(default_factory=list)
    beta: list[np.ndarray | None] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0


@torch.inference_mode()
def evaluate(
    model: Network,
    batches: EvaluationBatches,
    *,
    compute: Compute,
    transform: Transform,
    show_progress: bool = True,
    after_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Runs the network over every frame of every clip.

    The backbone gets full batches of frames, packed across clip borders; the attention then gets each clip whole.
    Only features wait for the end of a clip, not pixels. Several processes share the batches of the backbone; all of
    them return the whole result.

    Args:
        model: a FAN, or a FeatureFAN whose batches hold features.
        after_batch: called after each batch of frames; may stop the evaluation by an exception.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    outputs: list[tuple[FANOutput, list[int]]] = []  # stay on the device until the end, since copying waits for it
    show = show_progress and distributed.world().is_main
    with Progress("evaluate", len(batches), unit="batches", show=show) as progress:

        def batch_done() -> None:
            progress()
            if after_batch:
                after_batch()

        for features, lengths in _clip_groups(model, batches, compute, transform, generator, batch_done):
            outputs.append((model.attend(features, lengths), lengths.tolist()))
    result = Evaluation(logits=torch.cat([out.logits for out, _ in outputs]).float().cpu())
    for out, counts in outputs:
        for name in ("alpha", "beta", "weights"):
            values = getattr(out, name)
            rows = [None] * len(counts) if values is None else values.float().cpu().numpy()
            getattr(result, name).extend(
                None if row is None else row[:count] for row, count in zip(rows, counts, strict=True)
            )
    result.frames, result.seconds = batches.table.num_frames, time.perf_counter() - start
    return result


def _clip_groups(
    model: Network,
    batches: EvaluationBatches,
    compute: Compute,
    transform: Transform,
    generator: torch.Generator,
    batch_done: Callable[[], object],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (features [B, T, D] padded, lengths [B]) as soon as a group of clips is complete."""
    lengths = batches.table.lengths
    waiting: list[Tensor] = []  # features of clips that are not complete yet, in order
    available = done = 0
    for features in _features(model, batches, compute, transform, generator, batch_done):
        waiting.append(features)
        available += len(features)
        while done < len(lengths):
            group = lengths[done : done + CLIPS_AT_ONCE]
            if group.sum() > available:
                break
            row = torch.cat(waiting)
            needed = int(group.sum())
            waiting, available = [row[needed:]], available - needed
            done += len(group)
            clips = row[:needed].split(group.tolist())
            yield pad_sequence(list(clips), batch_first=True), torch.from_numpy(group)


def _features(
    model: Network,
    batches: EvaluationBatches,
    compute: Compute,
    transform: Transform,
    generator: torch.Generator,
    batch_done: Callable[[], object],
) -> Iterator[Tensor]:
    """Yields the features [N, D] of the frames in their order, one round of all processes at a time."""
    for counts, images in zip(batches.rounds, distributed.in_step(batches), strict=True):
        if len(images):
            frames = transform(images.to(compute.device, non_blocking=True)[:, None], generator)[:, 0]
            with compute.autocast():
                features = model.encode(frames).float()
        else:  # the last round has no batch for this process
            features = torch.empty(0, model.feature_size, device=compute.device)
        yield distributed.gather_rows(features, counts)
        batch_done()


@torch.inference_mode()
def encode_all(
    model: FAN, batches: EvaluationBatches, *, compute: Compute, transform: Transform, show_progress: bool = True
) -> Tensor:
    """The backbone's features of every frame, in evaluation mode.

    Returns:
        float32 [N, D] on the CPU, in the order of the table's frames.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with Progress(
        "features", len(batches), unit="batches", show=show_progress and distributed.world().is_main
    ) as progress:
        parts = [part.cpu() for part in _features(model, batches, compute, transform, generator, progress)]
    return torch.cat(parts)


@dataclass
class EvaluationSplit:
    """A set of clips to evaluate on.

    Attributes:
        batches: their frames, or features of them.
        transform: uint8 frames -> float frames, or stored features -> features.
        clips: for the names of frames in attention.csv; None: that file is not written.
        intensities: true importance of every frame, by clip name, if the dataset knows it.
    """

    batches: EvaluationBatches
    transform: Transform
    clips: Sequence[Clip] | None = None
    intensities: Intensities | None = None

    @property
    def table(self) -> FrameTable:
        """The table of the clips."""
        return self.batches.table


def evaluate_split(
    model: Network,
    split: EvaluationSplit,
    compute: Compute,
    show_progress: bool = True,
    after_batch: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluates a set of clips and computes the metrics.

    Args:
        after_batch: see `evaluate`.

    Returns:
        The metrics of `classification_metrics`, `loss` (mean cross-entropy), and, if true intensities are known,
        `attention_correlation` and `attention_auc`; and the outputs behind them.
    """
    evaluation = evaluate(
        model,
        split.batches,
        compute=compute,
        transform=split.transform,
        show_progress=show_progress,
        after_batch=after_batch,
    )
    table = split.table
    metrics = classification_metrics(
        evaluation.logits.softmax(dim=1),
        table.targets,
        num_listed=table.listed,
        num_skipped=len(table.skipped),
    )
    metrics["loss"] = float(F.cross_entropy(evaluation.logits, table.targets))
    if split.intensities is not None:
        weights = dict(zip(table.names, evaluation.weights, strict=True))
        metrics["attention_correlation"] = attention_correlation(weights, split.intensities)
        metrics["attention_auc"] = attention_auc(weights, split.intensities)
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


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """The line that is printed after an epoch."""
    return (
        f"epoch {line['epoch']:{len(str(epochs))}}/{epochs}  lr {line['lr']:.1e}  "
        f"train loss {line['train_loss']:.4f} WAR {100 * line['train_war']:5.2f} %  |  "
        f"val loss {line['val_loss']:.4f} WAR {100 * line['val_war']:5.2f} % UAR {100 * line['val_uar']:5.2f} %"
        + (f" corr {line['val_attention_correlation']:.2f}" if "val_attention_correlation" in line else "")
        + f"  |  {line['seconds']:.1f} s, {line['frames_per_second']:.0f} frames/s"
    )
