"""Distillation: the answers of trained networks, or of a table, become the targets of one network.

Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531. Before the first epoch, every
network evaluates each training picture, plain and mirrored. A table (`.npz`) is for a teacher of any other kind:
`names` [N], the file names of pictures, and `logits` float [N, C], those of a uniform prior.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from ..common.device import Compute
from ..common.files import atomic_file
from ..common.names import counted
from ..data.augment import PlainFrames
from ..data.batches import EvaluationBatches, FrameTable, Store, TrainingBatches
from ..network.checkpoints import CheckpointError
from ..network.prior import RAREST, Balance
from ..network.weights import load_fan
from ..training.loops import evaluate
from . import Recipe

BATCH = 256
SMALLEST = 1e-7  # probability whose logarithm is taken


def taught(recipe: Recipe, batches: TrainingBatches, shares: Tensor, file: Path, compute: Compute) -> FrameTable:
    """The table of the batches with the teachers' answers in its targets; without a label, with the answers alone.

    `shares`: float [C], of the classes. `file` keeps the answers for a resumed run. CheckpointError: a teacher or
    `file` is damaged or does not fit.
    """
    table = batches.table
    print(f"{counted(len(recipe.teachers), 'teacher')} for {len(table)} faces; answers: {file}", flush=True)
    if not file.is_file():
        answers = teachers_answers(recipe, table, batches.store, shares, compute)
        with atomic_file(file) as opened:
            np.savez(opened, answers=answers.numpy())
    answers = torch.from_numpy(_arrays(file, "answers")[0])
    if len(answers) != len(table):
        raise CheckpointError(f"{file}: has answers for {len(answers)} faces, not for {len(table)}; start a new run")
    weight = torch.where(table.targets.sum(dim=1, keepdim=True) > 0, recipe.votes, 0.0)
    return replace(table, targets=weight * table.targets + (1 - weight) * answers)


def teachers_answers(recipe: Recipe, table: FrameTable, store: Store, shares: Tensor, compute: Compute) -> Tensor:
    """The teachers' class probabilities for single pictures, float32 [N, C]: their mean, or that of weighted logits.

    All answers have the prior of the labels that they are averaged with, the class shares [C] of this training set. A
    network that was trained with `--balance` lacks those of its own training set; they are added, and exchanged for
    these. One that does not say its shares is taken to be trained on this training set.
    """
    prior = shares.clamp(min=RAREST).log()
    total = torch.zeros(len(table), len(table.labels))
    for number, path in enumerate(recipe.teachers):
        if Path(path).suffix == ".npz":
            views = [(_logits_of(path, table) + prior).softmax(dim=1)] * 2
        else:
            views = _answers_of(path, table, store, shares, compute)
        if recipe.teacher_weights:
            mean = ((views[0] + views[1]) / 2).clamp(min=SMALLEST)
            total += recipe.teacher_weights[number] * (mean.log() - prior)
        else:
            total += views[0]
            total += views[1]
    return (total + prior).softmax(dim=1) if recipe.teacher_weights else total / (2 * len(recipe.teachers))


def _answers_of(path: str | Path, table: FrameTable, store: Store, shares: Tensor, compute: Compute) -> list[Tensor]:
    """A network's answers to the pictures, and to the mirrored ones."""
    fan, info = load_fan(path)
    if tuple(info["labels"]) != tuple(table.labels):
        classes = ", ".join(info["labels"])
        raise CheckpointError(f"{path}: its classes are {classes}, but those to learn are {', '.join(table.labels)}")
    fan.to(device=compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = shares if info["class_shares"] is None else torch.tensor(info["class_shares"])
    exchanged = shares.clamp(min=RAREST).log() - own.clamp(min=RAREST).log()
    offset = Balance.of(info["recipe"]).offset(own.clamp(min=RAREST)) + exchanged
    batches, plain = EvaluationBatches(table, store, batch_frames=BATCH), PlainFrames(info["image_size"])
    transforms = (plain, lambda frames, generator: plain(frames.flip(-1)))
    return [(evaluate(fan, batches, compute, view).logits + offset).softmax(dim=1) for view in transforms]


def _logits_of(path: str | Path, table: FrameTable) -> Tensor:
    """The rows of a table for the pictures, which are found by their file names, whatever the folder or the format."""
    names, logits = _arrays(path, "names", "logits")
    if logits.shape != (len(names), len(table.labels)):
        raise CheckpointError(f"{path}: logits must be one row a name, of {len(table.labels)} classes in FER+'s order")
    rows = {PurePath(str(name)).stem: row for row, name in enumerate(names)}
    wanted = [rows.get(PurePath(name).stem, -1) for name in table.names]
    if -1 in wanted:
        absent = table.names[wanted.index(-1)]
        raise CheckpointError(f"{path}: lacks {wanted.count(-1)} of {len(wanted)} training pictures, such as {absent}")
    return torch.from_numpy(logits[wanted]).float()


def _arrays(path: str | Path, *names: str) -> list[np.ndarray]:
    """Arrays of an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except Exception as error:  # numpy and zipfile have a dozen kinds of errors for a damaged file
        raise CheckpointError(f"{path}: damaged ({error}); delete it or write it again") from None
