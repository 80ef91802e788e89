"""Weights under the names of the published code and of torchvision: loading, exporting, and starting from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.names import AFEW_LABELS, FERPLUS_FILE, IMAGE_SIZE, SHIPPED_FILE
from .attention import HEADS, ScoreFusion, all_parameter_names
from .backbone import DEFAULT_BACKBONE, Backbone, is_backbone
from .checkpoints import CheckpointError, read_checkpoint
from .fan import FAN

MOST_NAMES = 10  # in an error; a file of another network has hundreds that do not fit


def plain_weights(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The weights of a checkpoint, or of a bare state dict, by their names without ``module.``.

    Raises:
        CheckpointError: this is no dict of names, or a name is there twice.
    """
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
    """What happened to the names in a file and in the network (names without ``module.``).

    Attributes:
        loaded: in both, and loaded.
        missing: only in the network: its head, which keeps its initial weights, or batch counters.
        dropped: only in the file: a classifier, or the head of another attention.
        unexpected: only in the file, and unknown. Always empty, since such a file raises an error.
    """

    loaded: list[str]
    missing: list[str]
    dropped: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        heads = all_parameter_names()
        head = sorted({name.rsplit(".", 1)[0] for name in self.missing if name in heads})
        dropped = sorted({name.rsplit(".", 1)[0] for name in self.dropped})
        counters = sum(name not in heads for name in self.missing)
        parts = [f"{len(self.loaded)} tensors loaded"]
        if head:
            parts.append(f"initialized anew: {', '.join(head)}")
        if counters:
            parts.append(f"not in the file: {counters} batch counters")
        if dropped:
            parts.append(f"dropped: {', '.join(dropped)}")
        return "; ".join(parts)


def load_published(fan: FAN, state_dict: Mapping[str, Any], *, fresh: Collection[str] = ()) -> LoadReport:
    """Copies weights under published names into ``fan``: all of them, or none.

    Args:
        fan: changed in place; its dtype and device stay.
        state_dict: names with or without ``module.``, or a checkpoint that holds them as ``state_dict``. The
            backbone's own classifier (``fc``), of any size, and other heads than the one of ``fan`` are dropped.
            Half precision is cast.
        fresh: names that may be missing although other parts of the head are there.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: names the keys that are missing (only the whole head of ``fan``, ``fresh`` and
            ``num_batches_tracked`` may be), unexpected, of another shape (with both shapes) or not finite; of more
            than `MOST_NAMES`, the first. ``fan`` is then unchanged.
    """
    given = plain_weights(state_dict)
    own: dict[str, Tensor] = fan.state_dict()
    heads = all_parameter_names()
    head = heads & own.keys()
    missing = [name for name in own if name not in given]
    head_may_miss = head.isdisjoint(given)
    extra = [name for name in given if name not in own]
    droppable = heads | classifier_names(fan.backbone)
    report = LoadReport(
        loaded=[name for name in own if name in given],
        missing=missing,
        dropped=[name for name in extra if name in droppable],
        unexpected=[name for name in extra if name not in droppable],
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
        f"{what}: {_enumerated(names)}"
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
            f"these weights do not fit a {fan.backbone.name} FAN (at_type {fan.at_type}, {fan.num_classes} classes); "
            + "; ".join(problems)
        )
    fan.load_state_dict(weights, strict=False)  # what is missing may be missing, see above
    return report


def _enumerated(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def classifier_names(backbone: Backbone) -> frozenset[str]:
    """The names that torchvision gives the weights of a backbone's own classifier: `fc.weight`, `fc.bias`."""
    return frozenset(f"{backbone.classifier}.{kind}" for kind in ("weight", "bias"))


def stored_classifier(checkpoint: Mapping[str, Any]) -> list[str]:
    """The names that a file gives the weights and biases of its classifiers, such as `module.fc.bias`."""
    own = classifier_names(Backbone(stored_backbone(checkpoint)))
    of_heads = {f"{head.classifier}.{kind}" for head in HEADS.values() for kind in ("weight", "bias")}
    return [name for name in checkpoint["state_dict"] if name.removeprefix("module.") in own | of_heads]


def to_published(fan: FAN, *, half: bool = False) -> dict[str, Tensor]:
    """The frame classifier FAN(at_type=2) under the names of the published backbone files.

    Args:
        fan: a FAN with score fusion; it is not changed.
        half: store weights as float16 (half the size) instead of float32.

    Returns:
        Copies on the CPU. Every name starts with ``module.``; ``pred_fc1`` is called ``module.fc``. Batch counters
        are int64.

    Raises:
        ValueError: ``fan`` has attention, or a weight is not finite in that precision.
    """
    if fan.at_type != ScoreFusion.at_type:
        raise ValueError(f"only a frame classifier has a published backbone format, not at_type {fan.at_type}")
    published: dict[str, Tensor] = {}
    for name, value in fan.state_dict().items():
        dtype = (torch.float16 if half else torch.float32) if value.is_floating_point() else value.dtype
        copy = value.detach().to("cpu", dtype, copy=True).contiguous()
        if not torch.isfinite(copy).all():
            raise ValueError(f"{name} is not finite as {dtype}")
        published["module." + name.replace(f"{fan.head.classifier}.", f"{fan.backbone.classifier}.")] = copy
    return published


def stored_labels(checkpoint: Mapping[str, Any], expected: int | None) -> tuple[str, ...]:
    """The class names that a file gives, checked; empty if it gives none.

    Args:
        expected: how many outputs its classifier has; None: the file must have names.
    """
    labels = checkpoint.get("labels")
    if labels is None and expected is not None:
        return ()
    if not isinstance(labels, (list, tuple)) or not labels or not all(isinstance(name, str) for name in labels):
        raise CheckpointError(f"labels {labels!r:.200} are not a list of names")
    try:
        "".join(labels).encode("utf-8", "surrogateescape")  # names of folders may be any bytes
    except UnicodeEncodeError:
        raise CheckpointError(f"labels {labels!a:.200} have a character that is not Unicode") from None
    if len(set(labels)) < len(labels):
        raise CheckpointError(f"labels {labels!r:.200} are not distinct")
    if expected not in (None, len(labels)):
        raise CheckpointError(f"{len(labels)} labels for a classifier of {expected} outputs")
    return tuple(labels)


def fitted_head(
    fan: FAN, checkpoint: Mapping[str, Any], labels: Sequence[str], mapping: Mapping[str, str]
) -> tuple[dict[str, Any], set[str], str]:
    """The part of a trained head that a network can start from: its attention, and the classes of the same name.

    Args:
        fan: a network of `len(labels)` classes; what the file does not give keeps its initial weights.
        checkpoint: its `labels`, if it has any, say what the rows of its classifier mean. Without them seven
            rows are AFEW's classes, in the order of the published code; other numbers fit only an equal number.
        labels: class names of `fan`, in order.
        mapping: name in `labels` -> name in the checkpoint, where they differ.

    Returns:
        Weights by their plain names; names that keep their initial weights although other parts of the head are
        there; a few words on the classifier, "" if nothing had to be done.

    Raises:
        CheckpointError: the file's labels do not fit its classifier, or lack a class that `mapping` names.
    """
    weights = plain_weights(checkpoint)
    own = fan.state_dict()
    heads = all_parameter_names()
    given = {_layer(name) for name in heads & weights.keys()}
    if not given:
        return weights, set(), ""
    fresh = {name for name in heads & own.keys() if _layer(name) not in given}
    names = [f"{fan.head.classifier}.{kind}" for kind in ("weight", "bias")]
    values = [weights.get(name) for name in names]
    rows = {len(value) for value in values if isinstance(value, Tensor) and value.dim()}
    if fresh.issuperset(names) or len(rows) != 1 or not all(isinstance(value, Tensor) for value in values):
        return weights, fresh, ""  # of another attention; or damaged, which load_published reports
    old = stored_labels(checkpoint, *rows) or (AFEW_LABELS if rows == {len(AFEW_LABELS)} else ())
    wanted = tuple(mapping.get(label, label) for label in labels)
    if old == wanted or (not old and rows == {len(labels)}):
        return weights, fresh, ""
    strangers = [f"{label}={name}" for label, name in mapping.items() if old and name not in old]
    if strangers:
        raise CheckpointError(f"--map-labels {strangers[0]}: the file's classes are {', '.join(old)}")
    source = [old.index(name) if name in old else None for name in wanted]
    new = [label for label, row in zip(labels, source, strict=True) if row is None]
    if len(new) == len(labels):
        for name in names:
            del weights[name]
        classes = f"the file's classes are {', '.join(old)}" if old else f"the file has {rows.pop()} classes"
        return weights, fresh | set(names), f"attention loaded, classifier new: {classes}"
    for name in names:
        fitted = own[name].clone()
        for index, row in enumerate(source):
            if row is not None:
                fitted[index] = weights[name][row].to(fitted.dtype)
        weights[name] = fitted
    if not new:
        return weights, fresh, "classifier put into the class order of this dataset"
    loaded = f"{len(labels) - len(new)} of {len(labels)} classes loaded by name"
    return weights, fresh, f"classifier: {loaded}, new: {', '.join(new)}"


def _headless(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint without those of a head."""
    heads = all_parameter_names()
    return {name: value for name, value in plain_weights(checkpoint).items() if name not in heads}


def _layer(name: str) -> str:
    return name.rsplit(".", 1)[0]


def starting_file(pretrained: str | None) -> Path | None:
    """The file that `--pretrained` means: a path, or None for "none".

    The default is a `Resnet18_FER+_pytorch.pth.tar` that the user put into (or made in) `pretrain_model/`, else the
    file that ships with the project.
    """
    if pretrained is None:
        return FERPLUS_FILE if FERPLUS_FILE.exists() or not SHIPPED_FILE.exists() else SHIPPED_FILE
    return None if pretrained.lower() == "none" else Path(pretrained)


def stored_backbone(checkpoint: Mapping[str, Any]) -> str:
    """The name of the backbone that a checkpoint's weights belong to; ResNet18 if it gives none."""
    name = checkpoint.get("backbone")
    if name is None:  # published files have `arch`, in which training scripts wrote names of their own, too
        name = checkpoint.get("arch")
        return name if isinstance(name, str) and is_backbone(name) else DEFAULT_BACKBONE
    if not isinstance(name, str):
        raise CheckpointError(f"backbone {name!r} is not a name")
    return name


@dataclass
class Start:
    """A network to train.

    Attributes:
        fan: on the CPU.
        image_size: the side in pixels that the weights were trained at; None for random weights.
        message: says what the weights are.
    """

    fan: FAN
    image_size: int | None
    message: str


def start_from(
    path: Path | None,
    at_type: int,
    labels: Sequence[str],
    *,
    seed: int,
    backbone: str | None = None,
    dropout: float | None = None,
    mapping: Mapping[str, str] | None = None,
    with_head: bool = True,
) -> Start:
    """A network with random weights from a seed, and then the weights of a file.

    Args:
        path: the file; None leaves the random weights.
        at_type: of the head.
        labels: class names.
        seed: of the random weights, which depend on nothing else.
        backbone: its name; None takes the file's, or ResNet18.
        dropout: see `FAN`.
        mapping: class name in `labels` -> class name in the file, where they differ.
        with_head: load the attention, and the classifier by class names, if the file has them. False: the backbone
            alone, whatever head the file has.

    Raises:
        CheckpointError: the file is missing, or does not fit.
        UsageError: there is no such backbone.
    """
    checkpoint = read_checkpoint(path) if path else {}
    says_its_backbone = "backbone" in checkpoint or (
        checkpoint.get("arch") is not None and is_backbone(checkpoint["arch"])
    )
    if says_its_backbone:
        stored = stored_backbone(checkpoint)
        if backbone not in (None, stored):
            raise CheckpointError(
                f"{path}: has the weights of {stored}, not of {backbone}; omit --backbone, or give other weights with "
                "--pretrained (none: random ones)"
            )
        backbone = stored
    torch.manual_seed(seed)
    fan = FAN(at_type, len(labels), dropout=dropout, backbone=backbone or DEFAULT_BACKBONE)
    if path is None:
        return Start(fan, None, "starting from random weights")
    try:
        weights, fresh, classifier = (
            fitted_head(fan, checkpoint, labels, mapping or {})
            if with_head
            else (_headless(checkpoint), set[str](), "")
        )
        report = load_published(fan, weights, fresh=fresh)
    except CheckpointError as error:
        hint = "" if says_its_backbone else "; if they are of another network, name it with --backbone"
        raise CheckpointError(f"{path}: {error}{hint}") from None
    size = int(checkpoint.get("image_size", IMAGE_SIZE))
    also = f"; {classifier}" if classifier else ""
    return Start(fan, size, f"starting from {path} ({report}{also}; trained at {size} x {size} pixels)")
