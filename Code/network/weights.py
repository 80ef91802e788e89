"""Weights by the names of the published code and of torchvision, into a FAN and out of it.

Starting weights trained for other classes, for the same ones in another order, or for another attention.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from Code.network.checkpoints import CheckpointError, read_checkpoint
from Code.network.fan import FAN, RELATION_ATTENTION, SCORE_FUSION

AFEW_ORDER = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")
HEAD = frozenset(
    f"{layer}.{kind}" for layer in ("alpha.0", "beta.0", "pred_fc1", "pred_fc2") for kind in ("weight", "bias")
)
CLASSIFIER = frozenset({"fc.weight", "fc.bias"})


def plain_weights(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The weights of a checkpoint or of a bare state dict, by their names without ``module.``."""
    weights = checkpoint.get("state_dict", checkpoint)
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError("state_dict must be a dict of names and tensors")
    plain = {name.removeprefix("module."): value for name, value in weights.items()}
    if len(plain) < len(weights):
        twice = sorted(name for name in plain if name in weights and f"module.{name}" in weights)
        raise CheckpointError(f"weights given twice, with and without `module.`: {', '.join(twice)}")
    return plain


@dataclass
class LoadReport:
    """What became of the names in a file and in the network (names without ``module.``).

    Attributes:
        loaded: In both, and taken over.
        missing: In the network only: its head, which keeps its initial weights, or batch counters.
        dropped: In the file only: a classifier or the head of another attention.
        unexpected: In the file only, and unknown; always empty, since such a file raises instead.
    """

    loaded: list[str]
    missing: list[str]
    dropped: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        head = sorted({name.rsplit(".", 1)[0] for name in self.missing if name in HEAD})
        dropped = sorted({name.rsplit(".", 1)[0] for name in self.dropped})
        counters = sum(name not in HEAD for name in self.missing)
        parts = [f"{len(self.loaded)} tensors loaded"]
        if head:
            parts.append(f"start afresh: {', '.join(head)}")
        if counters:
            parts.append(f"not in the file: {counters} batch counters")
        if dropped:
            parts.append(f"dropped: {', '.join(dropped)}")
        return "; ".join(parts)


def load_published(fan: FAN, state_dict: Mapping[str, Any], *, fresh: Collection[str] = ()) -> LoadReport:
    """Copy weights under published names into ``fan``, all that fit or nothing at all.

    Args:
        fan: Changed in place; its dtype and device stay.
        state_dict: Names with or without ``module.``; a checkpoint that holds it as ``state_dict`` will do.
            An ``fc`` of any size and heads that ``fan`` does not have are dropped. Half precision is cast.
        fresh: Names that may be missing though other parts of the head are there.

    Returns:
        What was loaded, and what was not.

    Raises:
        CheckpointError: Naming every key that is missing (only the whole head of ``fan``,
            ``fresh`` and ``num_batches_tracked`` may be), unexpected, misshapen (with both shapes) or not finite;
            ``fan`` is then as it was.
    """
    given = plain_weights(state_dict)
    own: dict[str, Tensor] = fan.state_dict()
    head = HEAD & own.keys()
    missing = [name for name in own if name not in given]
    head_may_miss = head.isdisjoint(given)
    extra = [name for name in given if name not in own]
    report = LoadReport(
        loaded=[name for name in own if name in given],
        missing=missing,
        dropped=[name for name in extra if name in CLASSIFIER | HEAD],
        unexpected=[name for name in extra if name not in CLASSIFIER | HEAD],
    )

    may_miss = {*fresh, *(head if head_may_miss else ())}
    required = [name for name in missing if not name.endswith("num_batches_tracked") and name not in may_miss]
    misshapen, unusable, weights = [], [], {}
    for name in report.loaded:
        tensor, target = given[name], own[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            unusable.append(f"{name} (no plain tensor)")
        elif tensor.shape != target.shape:
            misshapen.append(f"{name} (file {list(tensor.shape)}, network {list(target.shape)})")
        elif target.is_floating_point() and not tensor.is_floating_point():
            unusable.append(f"{name} ({tensor.dtype})")
        else:
            weights[name] = tensor.detach().to(target.dtype)
            if not torch.isfinite(weights[name]).all():
                unusable.append(f"{name} (not finite)")

    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("missing", required),
            ("unexpected", report.unexpected),
            ("wrong shape", misshapen),
            ("unusable", unusable),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"these weights do not fit a ResNet18 FAN (at_type {fan.at_type}, {fan.num_classes} classes); "
            + "; ".join(problems)
        )
    fan.load_state_dict(weights, strict=False)  # what may be missing has been settled above
    return report


def to_published(fan: FAN, *, half: bool = False) -> dict[str, Tensor]:
    """The frame classifier FAN(at_type=2) under the names of the published backbone files.

    Args:
        fan: A FAN with score fusion; it is not changed.
        half: Store weights as float16 (half the size) instead of float32.

    Returns:
        Copies on the CPU, every name behind ``module.``, ``pred_fc1`` as ``module.fc``; batch counters int64.

    Raises:
        ValueError: If ``fan`` has attention, or a weight is not finite in that precision.
    """
    if fan.at_type != SCORE_FUSION:
        raise ValueError(f"only a frame classifier (at_type 2) has a published backbone format, not {fan.at_type}")
    published: dict[str, Tensor] = {}
    for name, value in fan.state_dict().items():
        dtype = (torch.float16 if half else torch.float32) if value.is_floating_point() else value.dtype
        copy = value.detach().to("cpu", dtype, copy=True).contiguous()
        if not torch.isfinite(copy).all():
            raise ValueError(f"{name} is not finite as {dtype}")
        published["module." + name.replace("pred_fc1.", "fc.")] = copy
    return published


def stored_labels(checkpoint: Mapping[str, Any], expected: int | None) -> tuple[str, ...]:
    """The file's names of the classes, checked; empty where it gives none."""
    labels = checkpoint.get("labels")
    if labels is None and expected is not None:
        return ()
    if not isinstance(labels, (list, tuple)) or not labels or not all(isinstance(name, str) for name in labels):
        raise CheckpointError(f"labels {labels!r} are not a list of names")
    if len(set(labels)) < len(labels):
        raise CheckpointError(f"labels {labels!r} are not distinct")
    if expected not in (None, len(labels)):
        raise CheckpointError(f"{len(labels)} labels for a classifier of {expected} outputs")
    return tuple(labels)


def fitted_head(
    fan: FAN, checkpoint: Mapping[str, Any], labels: Sequence[str], mapping: Mapping[str, str]
) -> tuple[dict[str, Any], set[str], str]:
    """As much of a trained head as a network can start from: its attention, and the classes of the same name.

    Args:
        fan: a network of `len(labels)` classes; what the file does not give stays its own.
        checkpoint: its `labels`, if it has any, say what the rows of its classifier mean. Without them seven
            rows are AFEW's classes, as the published code orders them; other numbers fit only an equal number.
        labels: class names, in the order wanted.
        mapping: name in `labels` -> name in the checkpoint, where they differ.

    Returns:
        (weights by their plain names, names that start afresh although others of the head are there, a few
        words on the classifier; "" where nothing had to be done).

    Raises:
        CheckpointError: if the file's labels do not fit its classifier.
    """
    weights = plain_weights(checkpoint)
    own = fan.state_dict()
    given = {_layer(name) for name in HEAD & weights.keys()}
    if not given:
        return weights, set(), ""
    fresh = {name for name in HEAD & own.keys() if _layer(name) not in given}
    names = [f"{'pred_fc2' if fan.at_type == RELATION_ATTENTION else 'pred_fc1'}.{kind}" for kind in ("weight", "bias")]
    values = [weights.get(name) for name in names]
    rows = {len(value) for value in values if isinstance(value, Tensor) and value.dim()}
    if fresh.issuperset(names) or len(rows) != 1 or not all(isinstance(value, Tensor) for value in values):
        return weights, fresh, ""  # of another attention; or damaged, which load_published names
    old = stored_labels(checkpoint, *rows) or (AFEW_ORDER if rows == {len(AFEW_ORDER)} else ())
    if old == tuple(labels) or (not old and rows == {len(labels)}):
        return weights, fresh, ""
    source = [old.index(name) if (name := mapping.get(label, label)) in old else None for label in labels]
    new = [label for label, row in zip(labels, source, strict=True) if row is None]
    if len(new) == len(labels):
        for name in names:
            del weights[name]
        classes = f"the file's classes are {', '.join(old)}" if old else f"the file has {rows.pop()} classes"
        return weights, fresh | set(names), f"attention taken over, classifier new: {classes}"
    for name in names:
        fitted = own[name].clone()
        for index, row in enumerate(source):
            if row is not None:
                fitted[index] = weights[name][row].to(fitted.dtype)
        weights[name] = fitted
    if not new:
        return weights, fresh, "classifier put into this dataset's order of classes"
    return weights, fresh, f"classifier: {len(labels) - len(new)} classes taken over by name, {', '.join(new)} new"


def _layer(name: str) -> str:
    return name.rsplit(".", 1)[0]


PUBLISHED_SIZE = 224


def start_from(
    model: FAN,
    path: Path | None,
    fallback_size: int,
    labels: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Loads the starting weights and says what was done.

    Args:
        model: its backbone (and head, if the file holds one) is overwritten.
        path: None leaves the random weights.
        fallback_size: input side for random weights, pixels.
        labels: the model's class names; a FAN hands its attention over, and its classifier by name.
        mapping: class name of the model -> class name of the file, where they differ.

    Returns:
        (input side in pixels that the weights were trained at, a line for people).

    Raises:
        CheckpointError: one line, if the file is missing or does not fit.
    """
    if path is None:
        return fallback_size, "starting from random weights (--pretrained none)"
    checkpoint = read_checkpoint(path)
    try:
        weights, fresh, classifier = (
            fitted_head(model, checkpoint, labels, mapping or {}) if labels else (checkpoint, set[str](), "")
        )
        report = load_published(model, weights, fresh=fresh)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    size = int(checkpoint.get("image_size", PUBLISHED_SIZE))
    also = f"; {classifier}" if classifier else ""
    return size, f"starting from {path} ({report}{also}; trained at {size} x {size} pixels)"
