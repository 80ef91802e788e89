"""A network to train: random weights from a seed, then those of a file, as far as its classes and its head fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..common.names import AFEW_LABELS, FAN_FILE, FERPLUS_FILE, IMAGE_SIZE
from .attention import all_parameter_names
from .backbone import DEFAULT_BACKBONE
from .checkpoints import CheckpointError, CheckpointFacts, read_checkpoint, read_part
from .fan import FAN
from .prior import log_prior
from .weights import load_fan, load_published, plain_weights, published_weights, stored_backbone, stored_labels


def starting_file(pretrained: str | None) -> Path | None:
    """The file that `--pretrained` means: a path, or None for "none".

    The default is a `Resnet18_FER+_pytorch.pth.tar` that the user put into `pretrain_model/`, else the FAN that comes
    with the project, of which the backbone alone is meant.
    """
    if pretrained is None:
        return FERPLUS_FILE if FERPLUS_FILE.exists() or not FAN_FILE.exists() else FAN_FILE
    return None if pretrained.lower() == "none" else Path(pretrained)


@dataclass
class StartingNetwork:
    """A network to train, on the CPU; the image side that its weights were trained at (None: random); their origin."""

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
) -> StartingNetwork:
    """A network with random weights from a seed, and then the weights of a file.

    Args:
        path: the file; None leaves the random weights, which depend on the seed alone.
        at_type, dropout: see `FAN`.
        labels: class names.
        backbone: its name; None takes the file's, or ResNet18.
        mapping: class name in `labels` -> class name in the file, where they differ.
        with_head: load the attention, and the classifier by class names, if the file has them. False: the backbone
            alone, whatever head the file has.

    Raises:
        CheckpointError: the file is missing, or does not fit.
        UsageError: there is no such backbone.
    """
    checkpoint = {} if path is None else read_checkpoint(path)
    stored = stored_backbone(checkpoint)
    if stored and backbone not in (None, stored):
        raise CheckpointError(
            f"{path}: has the weights of {stored}, not of {backbone}; omit --backbone, or give other weights with "
            "--pretrained (none: random ones)"
        )
    torch.manual_seed(seed)
    fan = FAN(at_type, len(labels), dropout=dropout, backbone=backbone or stored or DEFAULT_BACKBONE)
    if path is None:
        return StartingNetwork(fan, None, "starting from random weights")
    try:
        weights = plain_weights(checkpoint)
        note = ""
        if with_head:
            note = _fit_classifier(fan, weights, checkpoint, labels, mapping or {})
        else:
            weights = {name: value for name, value in weights.items() if name not in all_parameter_names()}
        report = load_published(fan, {**checkpoint, "state_dict": weights})
    except CheckpointError as error:
        hint = "" if stored else "; if they are of another network, name it with --backbone"
        raise CheckpointError(f"{path}: {error}{hint}") from None
    size = read_part(checkpoint, CheckpointFacts, path).image_size or IMAGE_SIZE
    message = "; ".join(filter(None, (str(report), note, f"trained at {size} x {size} pixels")))
    return StartingNetwork(fan, size, f"starting from {path} ({message})")


def _fit_classifier(
    fan: FAN, weights: dict[str, Any], checkpoint: Mapping[str, Any], labels: Sequence[str], mapping: Mapping[str, str]
) -> str:
    """Puts the classifier among `weights`, of `checkpoint`, into the class order of `fan`; returns a few words on it.

    Rows of classes that are not in `labels` are removed, and all of them if no class is. Without labels in the file,
    seven rows are AFEW's classes, in the order of the published code; others fit only an equal number of classes.
    """
    own = published_weights(fan)
    names = [f"{fan.head.classifier}.{kind}" for kind in ("weight", "bias")]
    if any(getattr(weights.get(name), "shape", (0,))[1:] != own[name].shape[1:] for name in names):
        return ""  # no classifier of this head; or a damaged one, which `load_published` reports
    rows = len(weights[names[0]])
    old = stored_labels(checkpoint, rows) or (AFEW_LABELS if rows == len(AFEW_LABELS) else ())
    wanted = tuple(mapping.get(label, label) for label in labels)
    if old == wanted or (not old and rows == len(labels)):
        return ""
    unknown = [f"{label}={name}" for label, name in mapping.items() if old and name not in old]
    if unknown:
        raise CheckpointError(f"--map-labels {unknown[0]}: the file's classes are {', '.join(old)}")
    source = {index: old.index(name) for index, name in enumerate(wanted) if name in old}  # row here -> row there
    for name in names:
        given = weights.pop(name)
        if source:
            weights[name] = own[name].clone()
            weights[name][list(source)] = given[list(source.values())].to(own[name])
    note = f"classifier: {len(source)} of {len(labels)} classes loaded by name"
    new = [label for index, label in enumerate(labels) if index not in source]
    return f"{note}, new: {', '.join(new)} (the file's classes: {', '.join(old) or rows})" if new else note


def keep_classifier(fan: FAN, path: str | Path, labels: Sequence[str], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Gives `fan` the classifier of a trained network, and freezes it, so that a training only changes attention.

    If the file's classifier sees a clip feature of another size, it is fitted: relation-attention's clip feature is
    two weighted means of the frame features, and each gets half of the weights of a classifier of one mean.

    Args:
        path: a FER+ frame classifier, a run's checkpoint or a published FAN, with at least the classes of `fan`.
        labels, mapping: see `start_from`.

    Returns:
        The prior of the classifier, as files say it: `class_shares` and `recipe`; empty if the file does not.

    Raises:
        CheckpointError: the file cannot be read, or lacks a class.
    """
    trained, info = load_fan(path)
    theirs = [mapping.get(label, label) for label in labels]
    absent = [name for name in theirs if name not in info["labels"]]
    if absent:
        raise CheckpointError(
            f"{path}: has no class {', '.join(absent)}, but {', '.join(info['labels'])}; --keep-classifier needs every "
            "class of the data (--map-labels DATA=FILE, if one is named differently)"
        )
    rows = [info["labels"].index(name) for name in theirs]
    own, given = fan.classifier, trained.classifier
    weight = given.weight.detach()[rows]
    if own.in_features == 2 * given.in_features:
        weight = torch.cat([weight, weight], dim=1) / 2
    elif 2 * own.in_features == given.in_features:
        weight = weight[:, : own.in_features] + weight[:, own.in_features :]
    own.load_state_dict({"weight": weight, "bias": given.bias.detach()[rows]})
    own.requires_grad_(False)
    shares = torch.tensor(info["class_shares"] or [0.0] * len(info["labels"]))[rows]
    if not shares.sum():
        return {}
    prior = log_prior(info)[rows].softmax(dim=0)
    return {"class_shares": (shares / shares.sum()).tolist(), "recipe": {"prior": prior.tolist()}}
