"""One epoch of training and one evaluation: the only loops over batches in the project.

What is evaluated, and what an evaluation comes to: metrics, and a line about them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from Code.data.clips import Clip
from Code.data.loaders import EvaluationBatches, FrameTable, TrainingBatches
from Code.network.backbone import FEATURE_SIZE
from Code.network.fan import FAN, FANOutput
from Code.training import distributed
from Code.training.compute import Compute
from Code.training.epoch_state import EpochProgress
from Code.training.metrics import attention_auc, attention_correlation, classification_metrics

Transform = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
# Clips are handed to the attention in groups of about this many, so that memory stays bounded.
CLIPS_PER_GROUP = 64


def progress_bar(total: int, label: str, show: bool, done: int = 0) -> tqdm:
    """A bar on a terminal, nothing elsewhere nor in other processes than the main one."""
    hidden = None if show and distributed.world().is_main else True  # None: tqdm looks whether it is a terminal
    return tqdm(total=total, initial=done, desc=label, leave=False, disable=hidden, dynamic_ncols=True)


def train_one_epoch(
    model: FAN,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    *,
    compute: Compute,
    transform: Transform,
    epoch: int,
    seed: int,
    loss_function: Loss = F.cross_entropy,
    after_step: Callable[[], None] | None = None,
    print_freq: int = 0,
    show_progress: bool = True,
    forward: Callable[..., Any] | None = None,
    progress: EpochProgress | None = None,
) -> dict[str, float]:
    """Trains for one epoch.

    Every random number of the epoch (plan, augmentation, dropout) derives from (seed, epoch) and the
    process's rank, so an epoch does not depend on what ran before it in the process.

    Args:
        model: in training mode afterwards.
        batches: told the epoch here.
        scheduler: stepped once a step.
        transform: uint8 frames -> float frames [B, K, 3, H, W], on the device; or features [B, K, D], for a
            `forward` that takes them.
        loss_function: (logits [B, C], labels [B] or [B, C]) -> scalar.
        after_step: called after each step: to average weights, to save, to stop by an exception.
        print_freq: print the running loss every so many steps; 0 never. Each print waits for the device.
        forward: what to call instead of `model` (a compiled or wrapped version of it).
        progress: of this epoch, kept up to date; one that stands inside the epoch is gone on with from there.

    Returns:
        Over all processes: loss (mean over samples), war (of the training samples, dropout active), lr (of
        the last step), samples, frames, seconds, frames_per_second.

    Raises:
        TrainingDivergedError: if a step's loss or the weights are not finite, naming the batch's clips.
    """
    forward = model if forward is None else forward  # a compiled module has no truth value
    device = compute.device
    progress = progress or EpochProgress(epoch, batches.table.names)
    batches.set_epoch(epoch, done=progress.step)
    progress.begin(seed, device, progress.step + len(batches))
    model.train()
    with progress_bar(progress.steps, f"epoch {epoch}", show_progress, progress.step) as bar:
        for share, batch in zip(batches.shares, batches, strict=True):
            labels = batch["labels"].to(device, non_blocking=True)
            frames = transform(batch["frames"].to(device, non_blocking=True), progress.generator)
            if frames.ndim == 5:  # pixels; features come as they are
                packed = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
                frames = packed.unflatten(0, frames.shape[:2])
            with compute.autocast():
                logits = forward(frames).logits
            loss = loss_function(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss if share == 1 else loss * share).backward()
            scaler.step(optimizer)
            scaler.update()
            progress.lr = optimizer.param_groups[0]["lr"]
            scheduler.step()
            with torch.no_grad():
                truth = labels if labels.ndim == 1 else labels.argmax(dim=1)
                progress.sums += torch.stack([loss.detach() * len(labels), (logits.argmax(dim=1) == truth).sum()])
            progress.samples += len(labels)
            progress.frames += frames.shape[0] * frames.shape[1]
            progress.step += 1
            progress.losses.add(progress.step, loss, batch["clips"])
            bar.update()
            if print_freq and progress.step % print_freq == 0:
                mean = float(progress.sums[0]) / progress.samples
                tqdm.write(f"  epoch {epoch}, step {progress.step}/{progress.steps}: loss {mean:.4f}")
            if after_step:
                after_step()
    progress.losses.check(model)
    loss_sum, correct = distributed.total(progress.sums.clone()).tolist()
    counts = torch.tensor([progress.samples, progress.frames], device=device)
    samples, frames_seen = distributed.total(counts).tolist()
    seconds = progress.seconds
    return {
        "loss": loss_sum / samples,
        "war": correct / samples,
        "lr": progress.lr,
        "samples": samples,
        "frames": frames_seen,
        "seconds": seconds,
        "frames_per_second": frames_seen / seconds,
    }


@dataclass
class Evaluation:
    """What the network says of every clip.

    Attributes:
        logits: float32 [clips, C].
        alpha, weights: per clip, float32 [T]; beta: likewise, or None where there is none.
        frames, seconds: how many frames were seen and how long it took.
    """

    logits: Tensor
    alpha: list[np.ndarray] = field(default_factory=list)
    beta: list[np.ndarray | None] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0


@torch.inference_mode()
def evaluate(
    model: FAN,
    batches: EvaluationBatches,
    *,
    compute: Compute,
    transform: Transform,
    show_progress: bool = True,
    from_features: bool = False,
    after_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Runs the network over every frame of every clip.

    The backbone sees full batches of frames packed across clip borders; the attention then sees each
    clip whole. Features, not pixels, are what waits for the end of a clip. Several processes share the
    backbone's batches; all of them return the whole result.

    Args:
        from_features: batches and transform give features [N, 1, D] instead of frames.
        after_batch: called after each batch of frames; may stop the evaluation by an exception.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    outputs: list[tuple[FANOutput, list[int]]] = []  # stay on the device to the end: copying waits for it
    with progress_bar(len(batches), "evaluate", show_progress) as bar:

        def tick() -> None:
            bar.update()
            if after_batch:
                after_batch()

        for features, lengths in _clip_groups(model, batches, compute, transform, generator, tick, from_features):
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
    model: FAN,
    batches: EvaluationBatches,
    compute: Compute,
    transform: Transform,
    generator: torch.Generator,
    tick: Callable[[], object],
    from_features: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (features [B, T, D] padded, lengths [B]) as soon as a group of clips is complete."""
    lengths = batches.table.lengths
    waiting: list[Tensor] = []  # features of clips not yet handed over, in order
    available = done = 0
    for features in _features(model, batches, compute, transform, generator, tick, from_features):
        waiting.append(features)
        available += len(features)
        while done < len(lengths):
            group = lengths[done : done + CLIPS_PER_GROUP]
            if group.sum() > available:
                break
            row = torch.cat(waiting)
            needed = int(group.sum())
            waiting, available = [row[needed:]], available - needed
            done += len(group)
            clips = row[:needed].split(group.tolist())
            yield pad_sequence(list(clips), batch_first=True), torch.from_numpy(group)


def _features(
    model: FAN,
    batches: EvaluationBatches,
    compute: Compute,
    transform: Transform,
    generator: torch.Generator,
    tick: Callable[[], object],
    from_features: bool = False,
) -> Iterator[Tensor]:
    """Yields the features [N, D] of the frames in their order, all processes' batches of a round at a time."""
    for counts, images in zip(batches.rounds, batches, strict=True):
        if len(images):
            frames = transform(images.to(compute.device, non_blocking=True)[:, None], generator)[:, 0]
            if from_features:
                features = frames
            else:
                with compute.autocast():
                    features = model.encode(frames.contiguous(memory_format=torch.channels_last)).float()
        else:  # the last round has no batch for this process
            features = torch.empty(0, FEATURE_SIZE, device=compute.device)
        yield distributed.gather_rows(features, counts)
        tick()


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
    with progress_bar(len(batches), "features", show_progress) as bar:
        parts = [part.cpu() for part in _features(model, batches, compute, transform, generator, bar.update)]
    return torch.cat(parts)


Intensities = dict[str, np.ndarray]


@dataclass
class Judged:
    """A set of clips to evaluate on.

    Attributes:
        batches: their frames.
        transform: uint8 -> float.
        clips: to name frames in attention.csv; None leaves that file out.
        intensities: true importance of every frame, per clip name, where a dataset knows it.
        from_features: the batches hold features of a fixed backbone instead of frames.
    """

    batches: EvaluationBatches
    transform: Transform
    clips: Sequence[Clip] | None = None
    intensities: Intensities | None = None
    from_features: bool = False

    @property
    def table(self) -> FrameTable:
        """The clips' table."""
        return self.batches.table


def judge(
    model: FAN,
    judged: Judged,
    compute: Compute,
    show_progress: bool = True,
    after_batch: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluates and measures: metrics as `classification_metrics` gives them, plus `loss`, and
    `attention_correlation` and `attention_auc` where true intensities are known. See `evaluate` for `after_batch`."""
    evaluation = evaluate(
        model,
        judged.batches,
        compute=compute,
        transform=judged.transform,
        show_progress=show_progress,
        from_features=judged.from_features,
        after_batch=after_batch,
    )
    table = judged.table
    metrics = classification_metrics(
        evaluation.logits.softmax(dim=1),
        table.targets,
        num_listed=table.listed,
        num_skipped=len(table.skipped),
    )
    metrics["loss"] = float(F.cross_entropy(evaluation.logits, table.targets))
    if judged.intensities is not None:
        weights = dict(zip(table.names, evaluation.weights, strict=True))
        metrics["attention_correlation"] = attention_correlation(weights, judged.intensities)
        metrics["attention_auc"] = attention_auc(weights, judged.intensities)
    return metrics, evaluation


def summary(metrics: dict[str, Any]) -> str:
    """Accuracy with its interval, UAR and counts in one line."""
    low, high = metrics["accuracy_interval"]
    text = (
        f"accuracy (WAR) {100 * metrics['accuracy']:.2f} % [{100 * low:.1f}, {100 * high:.1f}], "
        f"UAR {100 * metrics['uar']:.2f} %, {metrics['num_clips']} clips"
    )
    if metrics["num_skipped"]:
        text += (
            f" ({metrics['num_skipped']} of {metrics['num_clips_listed']} listed left out: no frames; "
            f"{100 * metrics['accuracy_listed']:.2f} % over listed)"
        )
    if metrics.get("attention_correlation") is not None:
        text += f", rank correlation of weights with true intensity {metrics['attention_correlation']:.3f}"
    if metrics.get("attention_auc") is not None:
        text += f", AUC {metrics['attention_auc']:.3f}"
    return text


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """What the screen shows of an epoch."""
    return (
        f"epoch {line['epoch']:{len(str(epochs))}}/{epochs}  lr {line['lr']:.1e}  "
        f"train loss {line['train_loss']:.4f} WAR {100 * line['train_war']:5.2f} %  |  "
        f"val loss {line['val_loss']:.4f} WAR {100 * line['val_war']:5.2f} % UAR {100 * line['val_uar']:5.2f} %"
        + (f" corr {line['val_attention_correlation']:.2f}" if "val_attention_correlation" in line else "")
        + f"  |  {line['seconds']:.1f} s, {line['frames_per_second']:.0f} frames/s"
    )
