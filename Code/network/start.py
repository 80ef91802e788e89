"""A network to train: random weights from a seed, then those of a file, as far as its classes and its head fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..common.names import AFEW_LABELS, FAN_FILE, FERPLUS_FILE, IMAGE_SIZE
from .attention import all_parameter_names
from .backbone import DEFAULT_BACKBONE, is_backbone
from .checkpoints import CheckpointError, facts_of, read_checkpoint
from .fan import FAN
from .prior import Balance
from .weights import load_fan, load_plain, plain_weights, published_weights, stored_backbone, stored_labels


def starting_file(pretrained: str | None) -> Path | None:
    """The file that `--pretrained` means: a path, or None for "none".

    The default is a `Resnet18_FER+_pytorch.pth.tar` that the user put into (or made in) `pretrain_model/`, else the
    FAN that comes with the project, of which the backbone alone is meant.
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
    stored = stored_backbone(checkpoint) if "backbone" in checkpoint or is_backbone(checkpoint.get("arch")) else None
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
        weights, fresh, note = _fitted_head(fan, checkpoint, labels, mapping or {}) if with_head else ({}, set(), "")
        if not with_head:
            weights = {n: w for n, w in plain_weights(checkpoint).items() if n not in all_parameter_names()}
        report = load_plain(fan, weights, fresh=fresh)
    except CheckpointError as error:
        hint = "" if stored else "; if they are of another network, name it with --backbone"
        raise CheckpointError(f"{path}: {error}{hint}") from None
    size = facts_of(checkpoint, path).image_size or IMAGE_SIZE
    message = "; ".join(filter(None, (str(report), note, f"trained at {size} x {size} pixels")))
    return StartingNetwork(fan, size, f"starting from {path} ({message})")


def _fitted_head(
    fan: FAN, checkpoint: Mapping[str, Any], labels: Sequence[str], mapping: Mapping[str, str]
) -> tuple[dict[str, Any], set[str], str]:
    """Weights of a file whose classifier has the classes of a network, in its order, as far as they have equal names.

    Without labels in the file, seven rows are AFEW's classes, in the order of the published code; other numbers fit
    only an equal number of classes.

    Returns:
        Weights by their plain names; names that keep their initial weights although other parts of the head are
        there; a few words on the classifier, "" if nothing had to be done.
    """
    weights, own = plain_weights(checkpoint), published_weights(fan)
    heads = all_parameter_names()
    given = {name.rpartition(".")[0] for name in heads & weights.keys()}
    fresh = {name for name in heads & own.keys() if given and name.rpartition(".")[0] not in given}
    names = [f"{fan.head.classifier}.{kind}" for kind in ("weight", "bias")]
    if any(getattr(weights.get(name), "shape", (0,))[1:] != own[name].shape[1:] for name in names):
        return weights, fresh, ""  # no classifier of this head; or a damaged one, which load_plain reports
    rows = len(weights[names[0]])
    old = stored_labels(checkpoint, rows) or (AFEW_LABELS if rows == len(AFEW_LABELS) else ())
    wanted = tuple(mapping.get(label, label) for label in labels)
    if old == wanted or (not old and rows == len(labels)):
        return weights, fresh, ""
    unknown = [f"{label}={name}" for label, name in mapping.items() if old and name not in old]
    if unknown:
        raise CheckpointError(f"--map-labels {unknown[0]}: the file's classes are {', '.join(old)}")
    source = {index: old.index(name) for index, name in enumerate(wanted) if name in old}  # row here -> row there
    if not source:
        classes = f"the file's classes are {', '.join(old)}" if old else f"the file has {rows} classes"
        rest = {name: value for name, value in weights.items() if name not in names}
        return rest, fresh | set(names), f"attention loaded, classifier new: {classes}"
    for name in names:
        fitted = own[name].clone()
        fitted[list(source)] = weights[name][list(source.values())].to(fitted)
        weights[name] = fitted
    if len(source) == len(labels):
        return weights, fresh, "classifier put into the class order of this dataset"
    new = ", ".join(label for index, label in enumerate(labels) if index not in source)
    return weights, fresh, f"classifier: {len(source)} of {len(labels)} classes loaded by name, new: {new}"


def keep_classifier(fan: FAN, path: str | Path, labels: Sequence[str], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Gives a network the classifier of a trained one, and freezes it, so that a training only changes attention.

    If the file's classifier sees a clip feature of another size, it is fitted: relation-attention's clip feature is
    two weighted means of the frame features, and each gets half of the weights of a classifier of one mean.

    Args:
        fan: changed in place.
        path: a FER+ frame classifier, a run's checkpoint or a published FAN, with at least the classes of `fan`.
        labels: class names of `fan`, in order.
        mapping: name in `labels` -> name in the file, where they differ.

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
    own, given = (getattr(network.head, network.head.classifier) for network in (fan, trained))
    weight = given.weight.detach()[rows]
    sizes = own.in_features, given.in_features
    if sizes[0] == 2 * sizes[1]:
        weight = torch.cat([weight, weight], dim=1) / 2
    elif 2 * sizes[0] == sizes[1]:
        weight = weight[:, : sizes[0]] + weight[:, sizes[0] :]
    own.load_state_dict({"weight": weight, "bias": given.bias.detach()[rows]})
    own.requires_grad_(False)
    shares = info["class_shares"]
    total = sum(shares[row] for row in rows) if shares else 0
    if not total:
        return {}
    balance = Balance.of(info["recipe"])  # its floor is a share, too: of all classes of the file
    recipe: dict[str, Any] = {}
    if balance.tau:
        recipe = {"balance": str(balance.tau), "balance_floor": str(balance.floor / total)}
    if balance.prior is not None:
        recipe["prior"] = [balance.prior[row] for row in rows]
    return {"class_shares": [shares[row] / total for row in rows], "recipe": recipe}
