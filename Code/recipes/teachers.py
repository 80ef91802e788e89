"""Distillation: the mean answer of several trained networks becomes the target of one network.

Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531. The mean of several teachers is
more often right than each of them, and they give labels to unlabeled faces. Before the first epoch, every teacher
evaluates each training picture once, plain and mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.device import Compute
from ..common.files import atomic_file
from ..data.augment import PlainFrames
from ..data.batches import EvaluationBatches, FrameTable, Store
from ..network.checkpoints import CheckpointError
from ..network.prior import RAREST, Balance
from ..network.weights import load_fan
from ..training.loops import evaluate

BATCH = 256


class Mirrored:
    """A store with mirrored frames."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, channels, H, W]."""
        return self.store.read(frame_ids).flip(-1)


def teachers_answers(
    paths: Sequence[str | Path], table: FrameTable, store: Store, shares: Tensor, compute: Compute
) -> Tensor:
    """The teachers' mean class probabilities for single pictures, float32 [N, C], rows summing to one.

    If a teacher was trained with `--balance`, its logits lack the class shares of its training set. They are added
    here, and exchanged for those of this training set, so that all answers have the same prior as the labels that they
    are averaged with. A teacher that does not say its shares is taken to be trained on this training set.

    Args:
        paths: files of the published format or of a run, with the table's classes.
        shares: float [C], of the training set.

    Raises:
        CheckpointError: a file cannot be read, or has other classes.
    """
    total = torch.zeros(len(table), len(table.labels))
    for path in paths:
        fan, info = load_fan(path)
        if tuple(info["labels"]) != tuple(table.labels):
            classes = ", ".join(info["labels"])
            raise CheckpointError(
                f"{path}: its classes are {classes}, but those to learn are {', '.join(table.labels)}"
            )
        fan.to(device=compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = shares if info["class_shares"] is None else torch.tensor(info["class_shares"])
        exchanged = shares.clamp(min=RAREST).log() - own.clamp(min=RAREST).log()
        offset = Balance.of(info["recipe"]).offset(own.clamp(min=RAREST)) + exchanged
        for view in (store, Mirrored(store)):
            batches = EvaluationBatches(table, view, batch_frames=BATCH)
            logits = evaluate(fan, batches, compute=compute, transform=PlainFrames(info["image_size"])).logits
            total += (logits + offset).softmax(dim=1)
    return total / (2 * len(paths))


def taught(targets: Tensor, answers: Tensor, votes: float) -> Tensor:
    """Targets float [N, C]: `votes` times the label plus the rest times the answers; only answers without a label."""
    labelled = targets.sum(dim=1, keepdim=True) > 0
    weight = torch.where(labelled, votes, 0.0)
    return weight * targets + (1 - weight) * answers


def save_answers(answers: Tensor, path: Path) -> None:
    """Keeps the answers, so that a resumed run does not need the teachers."""
    with atomic_file(path) as file:
        np.savez(file, answers=answers.numpy())


def read_answers(path: Path, number: int) -> Tensor:
    """What `save_answers` has written.

    Args:
        number: of faces to learn.

    Raises:
        CheckpointError: the file is damaged, or has answers for another number of faces.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            answers = torch.from_numpy(file["answers"])
    except Exception as error:  # numpy and zipfile have a dozen kinds of errors for a damaged file
        raise CheckpointError(f"{path}: damaged ({error}); delete it, and the teachers answer again") from None
    if len(answers) != number:
        raise CheckpointError(f"{path}: has answers for {len(answers)} faces, not for {number}; start a new run")
    return answers
