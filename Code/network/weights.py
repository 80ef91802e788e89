"""From files of weights to networks and back.

Three kinds of file are understood: the checkpoints of this project ("format": "emotion-fan/1"), what the published
code and torchvision wrote (maybe with `module.` before the names, saved by any torch since 0.2), and FER+ frame
classifiers. All have the names of the published code: `conv1.weight`, `alpha.0.weight`; in memory these parameters are
`backbone.network.conv1.weight` and `head.alpha.0.weight`. `published_weights` and `load_published` translate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from ..common.errors import UsageError
from ..common.files import PROJECT
from ..common.names import AFEW_LABELS, CHECKPOINT_FORMAT, FAN_FILE, FERPLUS_LABELS, IMAGE_SIZE
from .attention import HEADS, AttentionHead, ScoreFusion, all_parameter_names, parameter_names
from .backbone import DEFAULT_BACKBONE, Backbone, is_backbone
from .checkpoints import CheckpointError, CheckpointFacts, read_checkpoint, read_part
from .fan import FAN

_PREFIXES = ("backbone.network.", "head.")  # of names in memory, before the published names
_PUBLISHED_HEADS = {"self-attention": 0, "self_relation-attention": 1}  # names that the published code writes
_LABELS = {len(labels): labels for labels in (AFEW_LABELS, FERPLUS_LABELS, (*FERPLUS_LABELS, "unknown", "NF"))}


# ------------------------------------------------------------------------------------------------------ what files say


def published_weights(fan: FAN) -> dict[str, Tensor]:
    """The weights of a network under the names that checkpoints have; not copied."""
    weights = {}
    for name, value in fan.state_dict().items():
        prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
        weights[name.removeprefix(prefix)] = value
    return weights


def plain_weights(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The weights of a checkpoint, or of a bare state dict, by their names without the prefixes of wrappers.

    Raises:
        CheckpointError: this is no dict of names.
    """
    weights = next((checkpoint[key] for key in ("state_dict", "model_state_dict") if key in checkpoint), checkpoint)
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError("state_dict must be a dict of names and tensors")
    plain = dict(weights)
    # DataParallel, torch.compile, Lightning; a file that names its backbone may have a network with a layer "model".
    wrappers = ["module.", "_orig_mod.", *(["model."] if "backbone" not in checkpoint else [])]
    while plain and (prefix := next((w for w in wrappers if all(name.startswith(w) for name in plain)), "")):
        plain = {name.removeprefix(prefix): value for name, value in plain.items()}
    return plain


def _layer(name: str) -> str:
    """`alpha.0.weight` -> `alpha.0`."""
    return name.rpartition(".")[0]


def classifier_names(backbone: Backbone) -> frozenset[str]:
    """The names that torchvision gives the weights of a backbone's own classifier: `fc.weight`, `fc.bias`."""
    return frozenset(f"{backbone.classifier}.{kind}" for kind in ("weight", "bias"))


def stored_classifier(checkpoint: Mapping[str, Any]) -> list[str]:
    """The names that a file gives the weights and biases of its classifiers, such as `module.fc.bias`."""
    own = Backbone(stored_backbone(checkpoint) or DEFAULT_BACKBONE).classifier
    layers = {own, *(head.classifier for head in HEADS.values())}
    return [name for name in checkpoint["state_dict"] if _layer(name.removeprefix("module.")) in layers]


def stored_backbone(checkpoint: Mapping[str, Any]) -> str | None:
    """The name of the backbone that a checkpoint's weights belong to; None if it gives none."""
    name = checkpoint.get("backbone")
    if name is None:  # published files have `arch`, in which training scripts wrote names of their own, too
        name = checkpoint.get("arch")
        return name if is_backbone(name) else None
    if not isinstance(name, str):
        raise CheckpointError(f"backbone {name!r} is not a name")
    return name


def stored_labels(checkpoint: Mapping[str, Any], expected: int | None) -> tuple[str, ...]:
    """The class names that a file gives, checked; `expected` is how many outputs its classifier has.

    Empty if it gives none; but where `expected` is None, it must.
    """
    labels: Any = checkpoint.get("labels")
    if labels is None and expected is not None:
        return ()
    is_list = isinstance(labels, (list, tuple)) and len(labels) > 0 and all(isinstance(name, str) for name in labels)
    if not is_list or len(set(labels)) < len(labels) or expected not in (None, len(labels)):
        raise CheckpointError(f"labels {labels!r:.200} are not the names of its {expected or ''} classes")
    return tuple(labels)


# ------------------------------------------------------------------------------------- weights into a network and back


@dataclass
class LoadReport:
    """What happened to the names in a file and in the network (names without `module.`).

    Attributes:
        loaded: in both, and loaded.
        missing: only in the network: layers of its head, which keep their initial weights, or batch counters.
        dropped: only in the file: a classifier, or the head of another attention.
        unexpected: only in the file, and unknown; always empty, since such a file raises an error.
    """

    loaded: list[str]
    missing: list[str]
    dropped: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        texts = [f"{len(self.loaded)} tensors loaded"]
        new = all_parameter_names().intersection(self.missing)
        for what, names in (("initialized anew", new), ("dropped", self.dropped)):
            if names:
                texts.append(f"{what}: {', '.join(sorted(set(map(_layer, names))))}")
        return "; ".join(texts)


def load_published(fan: FAN, state_dict: Mapping[str, Any]) -> LoadReport:
    """Copies weights under published names into `fan`, where they are cast to its dtype.

    Args:
        state_dict: names with or without `module.`, or a checkpoint that holds them as `state_dict`. The backbone's
            own classifier (`fc`), of any size, and other heads than the one of `fan` are dropped.

    Raises:
        CheckpointError: keys are missing (only whole layers of the head of `fan` and `num_batches_tracked` may be),
            unexpected, of another shape, not finite or whole numbers. Some weights of `fan` may have changed by then.
    """
    given, own, heads = plain_weights(state_dict), published_weights(fan), all_parameter_names()
    in_memory = dict(zip(own, fan.state_dict(), strict=True))
    droppable = (heads | classifier_names(fan.backbone)) - own.keys()
    report = LoadReport(
        loaded=[name for name in own if name in given],
        missing=[name for name in own if name not in given],
        dropped=[name for name in given if name in droppable],
        unexpected=[name for name in given if name not in own and name not in droppable],
    )
    layers = {_layer(name) for name in given}
    initial = {name: own[name] for name in report.missing if name in heads and _layer(name) not in layers}
    known = {name: value for name, value in given.items() if name not in droppable}
    try:
        fan.load_state_dict({in_memory.get(name, name): value for name, value in {**initial, **known}.items()})
        if broken := [name for name in report.loaded if not torch.isfinite(own[name]).all()]:
            raise RuntimeError(f"not finite: {', '.join(broken)}")
        if cast := [n for n in report.loaded if own[n].is_floating_point() and not given[n].is_floating_point()]:
            raise RuntimeError(f"no floating-point numbers: {', '.join(cast)}")
    except RuntimeError as error:
        network = f"a {fan.backbone.name} FAN (at_type {fan.at_type}, {fan.num_classes} classes)"
        raise CheckpointError(
            f"these weights do not fit {network}; {shorten(str(error), 450, placeholder=' ...')}"
        ) from None
    return report


def load_trained(fan: FAN, state_dict: Mapping[str, Any]) -> None:
    """`load_published`, which raises a CheckpointError also if the head of the network is not in the file."""
    untrained = sorted(all_parameter_names().intersection(load_published(fan, state_dict).missing))
    if untrained:
        raise CheckpointError(f"no trained head for at_type {fan.at_type}; missing: {', '.join(untrained)}")


def to_published(fan: FAN, *, half: bool = False) -> dict[str, Tensor]:
    """The frame classifier FAN(at_type=2) under the names of the published backbone files.

    Args:
        fan: a FAN with score fusion.
        half: float16 (half the size) instead of float32.

    Returns:
        Copies on the CPU. Every name starts with `module.`; `pred_fc1` is called `module.fc`.

    Raises:
        ValueError: `fan` has attention, or a weight is not finite in that precision.
    """
    if fan.at_type != ScoreFusion.at_type:
        raise ValueError(f"only a frame classifier has a published backbone format, not at_type {fan.at_type}")
    published: dict[str, Tensor] = {}
    for name, value in published_weights(fan).items():
        dtype = (torch.float16 if half else torch.float32) if value.is_floating_point() else value.dtype
        copy = value.detach().to("cpu", dtype, copy=True).contiguous()
        if not torch.isfinite(copy).all():
            raise ValueError(f"{name} is not finite as {dtype}")
        published["module." + name.replace(f"{fan.head.classifier}.", f"{fan.backbone.classifier}.")] = copy
    return published


# ------------------------------------------------------------------------------------------------- a trained network


def load_fan(path: str | Path, *, at_type: int | None = None) -> tuple[FAN, dict[str, Any]]:
    """Loads a run's checkpoint, a published FAN or a FER+ frame classifier.

    Args:
        at_type: which head to use: published FANs have all of them, and self-attention's classifier is one for score
            fusion, too. None takes the one that the file was trained with.

    Returns:
        The network, in evaluation mode and on the CPU, and what is known of it: `kind` ("run", "published", "frame
        classifier"), `path`, `labels` (tuple), `names_labels` (False: the file does not say its labels, so they are
        assumed), `at_type`, `backbone`, `image_size`, `epoch`, `metrics` (dict), and the other fields of
        `CheckpointFacts`; None if the file does not say it.

    Raises:
        CheckpointError: where `read_checkpoint` and `load_published` raise it, if a trained head is not in the file,
            or if what the file says of itself does not fit its weights.
    """
    checkpoint = read_checkpoint(path)
    facts = read_part(checkpoint, CheckpointFacts, path)
    try:
        weights = plain_weights(checkpoint)
        if "format" in checkpoint:
            kind, head = "run", _head_of_run(checkpoint, weights, at_type)
        elif any(name.startswith(("pred_fc1.", "pred_fc2.")) for name in weights):
            kind, head = "published", _published_head(checkpoint, weights) if at_type is None else HEADS[at_type]
        else:
            kind, head, weights = "frame classifier", ScoreFusion, _frame_classifier(checkpoint, weights, at_type)
        weight = weights.get(f"{head.classifier}.weight")
        if not isinstance(weight, Tensor) or weight.dim() != 2:
            raise CheckpointError(f"no {head.classifier}.weight of [classes, features] for at_type {head.at_type}")
        labels = stored_labels(checkpoint, len(weight)) or _LABELS.get(len(weight), ())
        if not labels and kind == "published":
            labels = tuple(map(str, range(len(weight))))
        if not labels:
            raise CheckpointError(
                f"its classifier has {len(weight)} outputs and no labels, so it is not an emotion classifier (FER+ has "
                "8 or 10 outputs) but a backbone; train a FAN from it first"
            )
        fan = FAN(head.at_type, len(labels), backbone=stored_backbone(checkpoint) or DEFAULT_BACKBONE)
        load_trained(fan, weights)
        for name, size in (("class_shares", len(labels)), ("neutral_feature", fan.feature_size)):
            if (numbers := getattr(facts, name)) is not None and len(numbers) != size:
                raise CheckpointError(f"{name} are not {size} numbers")
    except (CheckpointError, UsageError) as error:  # the backbone's name is the file's, not a flag's
        raise CheckpointError(f"{path}: {str(error).removeprefix('--')}") from None
    return fan.eval(), {
        **asdict(facts),
        "kind": kind,
        "path": str(path),
        "labels": labels,
        "names_labels": checkpoint.get("labels") is not None,
        "at_type": fan.at_type,
        "backbone": fan.backbone.name,
        "image_size": facts.image_size or IMAGE_SIZE,
        "metrics": facts.metrics or {},
    }


def _head_of_run(checkpoint: Mapping[str, Any], weights: Mapping[str, Any], at_type: int | None) -> type[AttentionHead]:
    if checkpoint["format"] != CHECKPOINT_FORMAT:
        raise CheckpointError(f"format {checkpoint['format']!r} is not {CHECKPOINT_FORMAT!r}; another version wrote it")
    stored = checkpoint.get("at_type")
    if type(stored) is not int or stored not in HEADS:
        raise CheckpointError(f"at_type {stored!r} is not one of {', '.join(map(str, sorted(HEADS)))}")
    stored_labels(checkpoint, None)
    head = HEADS[stored if at_type is None else at_type]
    if head.at_type != stored and not parameter_names(head) <= weights.keys():  # score fusion's is in self-attention's
        raise CheckpointError(f"the run was trained with at_type {stored}; it has no head for at_type {at_type}")
    return head


def _published_head(checkpoint: Mapping[str, Any], weights: Mapping[str, Any]) -> type[AttentionHead]:
    """The head that a published file names, else the one of most layers that was trained: the file has all of them."""
    stated = checkpoint.get("at_type")
    if isinstance(stated, str) and stated in _PUBLISHED_HEADS:
        return HEADS[_PUBLISHED_HEADS[stated]]
    whole = [head for head in HEADS.values() if parameter_names(head) <= weights.keys()]
    trained = [head for head in whole if _is_trained(weights[f"{head.classifier}.weight"])]
    return max(trained or whole, key=lambda head: len(parameter_names(head)), default=ScoreFusion)


def _is_trained(weight: object) -> bool:
    """Whether a linear layer's weights, float [C, D], have left the range that torch draws them from: 1 / sqrt(D)."""
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return False
    return bool(weight.abs().max() > 1.001 * weight.shape[1] ** -0.5)  # rounded to half precision, perhaps


def _frame_classifier(checkpoint: Mapping[str, Any], weights: Mapping[str, Any], at_type: int | None) -> dict[str, Any]:
    """The weights with the backbone's own classifier (`fc`) as the one of score fusion."""
    if at_type not in (None, ScoreFusion.at_type):
        raise CheckpointError(f"a frame classifier has no attention; it cannot be used with at_type {at_type}")
    backbone = Backbone(stored_backbone(checkpoint) or DEFAULT_BACKBONE)
    own = classifier_names(backbone)
    if not own <= weights.keys():
        raise CheckpointError("a backbone without a classifier cannot predict expressions; train a FAN from it first")
    return {n.replace(backbone.classifier, ScoreFusion.classifier) if n in own else n: w for n, w in weights.items()}


def find_checkpoint(path: str | Path | None) -> Path:
    """The file that `--checkpoint` means: a file, or a run's folder, whose best.pth (else last.pth) it is.

    None means the FAN that comes with the project, whatever else is there: another network answers only if it is named.

    Raises:
        CheckpointError: if a folder holds neither.
    """
    path = PROJECT / FAN_FILE if path is None else Path(path)
    if not path.is_dir():
        return path
    for file in (path / "best.pth", path / "last.pth"):
        if file.is_file():
            return file
    raise CheckpointError(f"{path}: neither best.pth nor last.pth in this folder; name a run, model/<run>, or a file")
