"""Distillation: the mean answer of several trained networks becomes the target of one network.

Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531. The mean of several teachers is
more often right than each of them, and they give labels to unlabeled faces. Before the first epoch, every teacher
evaluates each training picture once, plain and mirrored.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.device import Compute
from ..common.files import atomic_file
from ..data.augment import PlainFrames
from ..data.loaders import EvaluationBatches
from ..data.stores import FrameTable, Store
from ..network.checkpoints import CheckpointError
from ..network.pretrained import load_fan
from ..network.prior import RAREST, Balance
from ..training.engine import evaluate

BATCH = 256


class Mirrored:
    """A store with mirrored frames."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, channels, H, W]."""
        return self.store.read(frame_ids).flip(-1)


def answers_of(
    paths: Sequence[str | Path], table: FrameTable, store: Store, shares: Tensor, compute: Compute
) -> Tensor:
    """The teachers' mean class probabilities for single pictures.

    If a teacher was trained with `--balance`, its logits lack the class shares of its training set. They are added
    here, and exchanged for those of this training set, so that all answers have the same prior as the labels that they
    are averaged with. A teacher that does not say its shares is taken to be trained on this training set.

    Args:
        paths: files of the published format or of a run, with the table's classes.
        shares: float [C], of the training set.

    Returns:
        float32 [N, C], rows summing to one.

    Raises:
        CheckpointError: a file cannot be read, or has other classes.
    """
    total = torch.zeros(len(table), len(table.labels))
    for path in paths:
        fan, info = load_fan(path)
        if tuple(info["labels"]) != tuple(table.labels):
            theirs = ", ".join(info["labels"])
            raise CheckpointError(f"{path}: its classes are {theirs}, but those to learn are {', '.join(table.labels)}")
        fan.to(device=compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = shares if info["class_shares"] is None else torch.tensor(info["class_shares"])
        exchanged = shares.clamp(min=RAREST).log() - own.clamp(min=RAREST).log()
        offset = Balance.of(info["recipe"]).offset(own.clamp(min=RAREST)) + exchanged
        for seen in (store, Mirrored(store)):
            batches = EvaluationBatches(table, seen, batch_frames=BATCH)
            logits = evaluate(fan, batches, compute=compute, transform=PlainFrames(info["image_size"])).logits
            total += (logits + offset).softmax(dim=1)
    return total / (2 * len(paths))


def kept_answers(
    file: Path, paths: Sequence[str | Path], table: FrameTable, store: Store, shares: Tensor, compute: Compute
) -> Tensor:
    """`answers_of`, read from `file` if a run is resumed, else saved there. A damaged file is written again."""
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as kept:
                answers = torch.from_numpy(kept["answers"])
            if answers.ndim != 2 or answers.dtype != torch.float32 or not (answers >= 0).all():
                raise ValueError("they are no probabilities")
            if not torch.allclose(answers.sum(dim=1), torch.ones(len(answers)), atol=1e-3):
                raise ValueError("they are no probabilities")
        except Exception as error:  # numpy and zipfile have a dozen kinds of errors for a damaged file
            print(f"note: {file}: damaged ({error}); the teachers answer again", file=sys.stderr, flush=True)
        else:
            if answers.shape == (len(table), len(table.labels)):
                return answers
            raise CheckpointError(
                f"{file}: has answers for {len(answers)} pictures, not for {len(table)}; start a new run"
            )
    answers = answers_of(paths, table, store, shares, compute)
    with atomic_file(file) as stream:
        np.savez(stream, answers=answers.numpy())
    return answers


def taught(targets: Tensor, answers: Tensor, votes: float) -> Tensor:
    """Targets float [N, C]: `votes` times the label plus the rest times the answers; only answers without a label."""
    labelled = targets.sum(dim=1, keepdim=True) > 0
    weight = torch.where(labelled, votes, 0.0)
    return weight * targets + (1 - weight) * answers
