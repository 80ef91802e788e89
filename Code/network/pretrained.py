"""From a checkpoint to a network that is ready to predict, and which checkpoint that is by default.

Three kinds of file are understood: the checkpoints of this project ("format": "emotion-fan/1"), what the published
code and torchvision wrote (their names, maybe behind ``module.``, saved by any torch since 0.2), and FER+ frame
classifiers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import UsageError
from ..common.files import PROJECT
from ..common.names import AFEW_LABELS, CHECKPOINT_FORMAT, FAN_FILE, FERPLUS_LABELS, IMAGE_SIZE
from .attention import HEADS, AttentionHead, ScoreFusion, all_parameter_names, parameter_names
from .checkpoints import CheckpointError, facts_of, read_checkpoint
from .fan import FAN
from .weights import (
    classifier_names,
    load_published,
    plain_weights,
    stored_backbone,
    stored_labels,
)

FERPLUS_ALL = (*FERPLUS_LABELS, "unknown", "NF")
_PUBLISHED_NAMES = {"self-attention": 0, "self_relation-attention": 1}  # of the published code
OF_FER2013 = ("ferplus", "composed")  # datasets with the faces of FER2013: its crop, in gray
OF_OTHER_CROPS = ("dfew", "ferv39k")  # datasets that come with face crops, which are neither FER2013's nor the paper's


def load_fan(path: str | Path, *, at_type: int | None = None) -> tuple[FAN, dict[str, Any]]:
    """Loads a run's checkpoint, a published FAN or a FER+ frame classifier.

    Args:
        path: the file.
        at_type: which head of a published FAN to use, since such a file has all of them; None takes the one that it was
            trained with. Files of other kinds have one head.

    Returns:
        The network, in evaluation mode and on the CPU, and what is known of it: ``kind`` ("run", "published",
        "frame classifier"), ``path``, ``labels`` (tuple), ``names_labels`` (False: the file does not say its labels, so
        they are assumed), ``at_type``, ``backbone``, ``image_size``, ``epoch``, ``metrics`` (dict), ``dataset``,
        ``protocol``, ``precision``, ``class_shares`` (tuple, how often its training set shows each class), ``recipe``
        (the last ones None or empty if the file does not say them).

    Raises:
        CheckpointError: where ``read_checkpoint`` and ``load_published`` raise it, if a trained head is not
            in the file, or if what the file says of itself does not fit its weights.
    """
    if not Path(path).exists():
        raise CheckpointError(
            f"{path}: no such file; a trained FAN is model/<run>/best.pth, written by `python Demo_AFEW_Attention.py`"
        )
    checkpoint = read_checkpoint(path)
    facts = facts_of(checkpoint, path)
    try:
        if "format" in checkpoint:
            fan, labels, kind = _from_run(checkpoint, at_type)
        elif any(name.startswith(("pred_fc1.", "pred_fc2.")) for name in plain_weights(checkpoint)):
            fan, labels, kind = _from_published(checkpoint, at_type)
        else:
            fan, labels, kind = _from_frame_classifier(checkpoint, at_type)
        shares = _class_shares(checkpoint, len(labels))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return fan.eval(), {
        "kind": kind,
        "path": str(path),
        "labels": labels,
        "names_labels": checkpoint.get("labels") is not None,
        "at_type": fan.at_type,
        "backbone": fan.backbone.name,
        "image_size": facts.image_size or IMAGE_SIZE,
        "epoch": _number(checkpoint.get("epoch")),
        "metrics": _possible_metrics(checkpoint),
        "dataset": facts.dataset,
        "protocol": facts.protocol,
        "precision": facts.precision,
        "class_shares": shares,
        "recipe": checkpoint.get("recipe"),
    }


def _possible_metrics(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The metrics in a checkpoint, without those that cannot be: no page says that an accuracy is 900 %."""
    best = _number(checkpoint.get("best_prec1"))
    found = checkpoint.get("metrics", {} if best is None else {"best_prec1": best})
    highest = {"accuracy": 1, "best_prec1": 100, "num_clips": 10**9}

    def is_possible(name: str, value: object) -> bool:
        return name not in highest or (type(value) in (int, float) and 0 <= value <= highest[name])  # type: ignore[operator]

    return {name: value for name, value in found.items() if is_possible(name, value)} if isinstance(found, dict) else {}


_Built = tuple[FAN, tuple[str, ...], str]


def _from_run(checkpoint: dict[str, Any], at_type: int | None) -> _Built:
    if checkpoint["format"] != CHECKPOINT_FORMAT:
        raise CheckpointError(f"format {checkpoint['format']!r} is not {CHECKPOINT_FORMAT!r}; another version wrote it")
    absent = [key for key in ("state_dict", "at_type", "labels") if key not in checkpoint]
    if absent:
        raise CheckpointError(f"the checkpoint does not say its {', '.join(absent)}")
    stored = checkpoint["at_type"]
    if type(stored) is not int or stored not in HEADS:
        raise CheckpointError(f"at_type {stored!r} is not one of {', '.join(map(str, sorted(HEADS)))}")
    if at_type not in (None, stored):
        raise CheckpointError(f"the run was trained with at_type {stored}; it has no head for at_type {at_type}")
    labels = stored_labels(checkpoint, None)
    fan = _build(checkpoint, stored, len(labels))
    _load_trained(fan, checkpoint)
    return fan, labels, "run"


def _from_published(checkpoint: dict[str, Any], at_type: int | None) -> _Built:
    weights = plain_weights(checkpoint)
    head = _published_head(checkpoint.get("at_type"), weights) if at_type is None else HEADS[at_type]
    classifier = f"{head.classifier}.weight"
    num_classes = _num_outputs(weights, classifier)
    if not num_classes:
        raise CheckpointError(f"no {classifier} of [classes, features], which at_type {head.at_type} needs")
    labels = stored_labels(checkpoint, num_classes)
    if not labels:
        numbers = tuple(str(index) for index in range(num_classes))
        labels = AFEW_LABELS if num_classes == len(AFEW_LABELS) else numbers
    fan = _build(checkpoint, head.at_type, num_classes)
    _load_trained(fan, weights)
    return fan, labels, "published"


def _published_head(stated: object, weights: Mapping[str, Any]) -> type[AttentionHead]:
    """The head that a file of the published code was trained with: the file has all of them, the others untrained.

    It is the one that the file names, else the one that uses most of what is there and was trained.
    """
    if isinstance(stated, str) and stated in _PUBLISHED_NAMES:
        return HEADS[_PUBLISHED_NAMES[stated]]
    whole = [head for head in HEADS.values() if parameter_names(head) <= weights.keys()]
    trained = [head for head in whole if _is_trained(weights[f"{head.classifier}.weight"])]
    return max(trained or whole, key=lambda head: len(parameter_names(head)), default=ScoreFusion)


def _is_trained(weight: object) -> bool:
    """Whether a linear layer's weights, float [C, D], have left the range that torch draws them from: 1 / sqrt(D)."""
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return False
    return bool(weight.abs().max() > 1.001 * weight.shape[1] ** -0.5)  # rounded to half precision, perhaps


def _from_frame_classifier(checkpoint: dict[str, Any], at_type: int | None) -> _Built:
    weights = plain_weights(checkpoint)
    if at_type not in (None, ScoreFusion.at_type):
        raise CheckpointError(f"a frame classifier has no attention; it cannot be used with at_type {at_type}")
    backbone = _build(checkpoint, ScoreFusion.at_type, 1).backbone
    num_classes = _num_outputs(weights, f"{backbone.classifier}.weight")
    if not num_classes:
        raise CheckpointError("a backbone without a classifier cannot predict expressions; train a FAN from it first")
    labels = stored_labels(checkpoint, num_classes)
    if not labels:
        known = {len(names): names for names in (FERPLUS_LABELS, FERPLUS_ALL)}
        if num_classes not in known:
            raise CheckpointError(
                f"its classifier has {num_classes} outputs and no labels, so it is not an emotion classifier "
                "(FER+ has 8 or 10 outputs) but a backbone; train a FAN from it first"
            )
        labels = known[num_classes]
    fan = _build(checkpoint, ScoreFusion.at_type, num_classes)
    own = classifier_names(fan.backbone)
    renamed = {
        name.replace(backbone.classifier, ScoreFusion.classifier) if name in own else name: weight
        for name, weight in weights.items()
    }
    _load_trained(fan, renamed)
    return fan, labels, "frame classifier"


def _build(checkpoint: Mapping[str, Any], at_type: int, num_classes: int) -> FAN:
    try:
        return FAN(at_type, num_classes, backbone=stored_backbone(checkpoint))
    except UsageError as error:  # the backbone's name is the file's, not a flag's
        raise CheckpointError(str(error).removeprefix("--")) from None


def _load_trained(fan: FAN, weights: Mapping[str, Any]) -> None:
    untrained = sorted(all_parameter_names().intersection(load_published(fan, weights).missing))
    if untrained:
        raise CheckpointError(f"no trained head for at_type {fan.at_type}; missing: {', '.join(untrained)}")


def _num_outputs(weights: Mapping[str, Any], name: str) -> int:
    """Outputs of a linear layer; 0 if the file has none."""
    weight = weights.get(name)
    return weight.shape[0] if isinstance(weight, Tensor) and weight.dim() == 2 else 0


def _class_shares(checkpoint: Mapping[str, Any], num_classes: int) -> tuple[float, ...] | None:
    """How often its training set shows each class; None if the file does not say it."""
    stored = checkpoint.get("class_shares")
    if stored is None:
        return None
    numbers = isinstance(stored, (list, tuple)) and all(type(share) in (int, float) and share >= 0 for share in stored)
    if not numbers or len(stored) != num_classes or not sum(stored):
        raise CheckpointError(f"class_shares are not {num_classes} shares, one for each class")
    return tuple(map(float, stored))


def _number(value: object) -> int | float | None:
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    return value if isinstance(value, (int, float)) else None


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
    recipe = info["recipe"] if isinstance(info["recipe"], Mapping) else {}
    balance = {name: str(recipe[name]) for name in ("balance", "balance_floor") if name in recipe}
    if "balance_floor" in balance:  # a share, too: of all classes of the file
        balance["balance_floor"] = str(float(balance["balance_floor"]) / total)
    return {"class_shares": [shares[row] / total for row in rows], "recipe": balance}


def find_checkpoint(path: str | Path) -> Path:
    """The file that `--checkpoint` means: a file, or a run's folder, whose best.pth (else last.pth) it is.

    Raises:
        CheckpointError: if a folder holds neither.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("best.pth", "last.pth"):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path}: neither best.pth nor last.pth in this folder; name a run, model/<run>, or a file")


def default_checkpoint(root: Path = PROJECT) -> Path:
    """The FAN that comes with the project, whatever else is there: another network answers only if it is named.

    Raises:
        CheckpointError: the file is missing.
    """
    path = root / FAN_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; it comes with the project: restore it, or name another network with --checkpoint"
        )
    return path


def knows_fer2013(info: dict[str, Any]) -> bool:
    """Whether a network of `load_fan` was trained on FER2013's crop, in gray, instead of the paper's, in color.

    Files in the published format need not say what they were trained on. A frame classifier is then taken for FER+'s.
    """
    dataset: str | None = info["dataset"]
    return dataset in OF_FER2013 or (info["kind"] == "frame classifier" and dataset is None)


def trained_on(info: dict[str, Any]) -> str:
    """What a network of `load_fan` was trained on, in words."""
    dataset = info["dataset"] or ("ferplus" if knows_fer2013(info) else None)
    known = {
        "ferplus": "single gray pictures of faces (FER+)",
        "composed": "clips composed of single gray pictures of faces (FER+)",
        "sample": "the drawn faces of the generated sample, not real ones",
        "afew": "film clips (AFEW)",
        "ckplus": "posed sequences from neutral to the apex (CK+)",
        "dfew": "film clips (DFEW)",
        "ferv39k": "video clips (FERV39k)",
        "mafw": "clips from films, series and short videos (MAFW)",
        "folders": "your own clips (class folders)",
        "pictures": "single labeled pictures (class folders)",
        "list": "your own clips (a list)",
    }
    if dataset is None:
        return "the file does not say what it was trained on"
    return f"trained on {known.get(dataset, dataset)}"
