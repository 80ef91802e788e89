"""Starting weights trained for other classes, for the same ones in another order, or for another attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from Code.network.fan import FAN, RELATION_ATTENTION
from Code.network.pretrained import AFEW_ORDER, stored_labels
from Code.network.weights import HEAD, plain_weights


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
