"""Starting weights that were trained for other classes, or for the same ones in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from Code.network.fan import FAN
from Code.network.pretrained import plain_weights

_CLASSIFIERS = ("pred_fc1", "pred_fc2")


def classifier_by_name(
    fan: FAN, checkpoint: Mapping[str, Any], labels: Sequence[str], mapping: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Weights whose classifier answers in the order of other class names.

    Args:
        fan: a network of `len(labels)` classes; the rows of new classes are its own.
        checkpoint: its `labels`, if it has any, say what the rows of its `pred_fc1` and `pred_fc2` mean.
        labels: class names, in the order wanted.
        mapping: name in `labels` -> name in the checkpoint, where they differ.

    Returns:
        (weights by their plain names, a few words on what was done; "" where nothing had to be).
    """
    weights = plain_weights(checkpoint)
    old = list(checkpoint.get("labels") or ())
    rows_of = [name for name in weights if name.rsplit(".", 1)[0] in _CLASSIFIERS]
    fitting = [name for name in rows_of if isinstance(weights[name], Tensor) and len(weights[name]) == len(old)]
    if not old or old == list(labels) or not rows_of or len(fitting) < len(rows_of):
        return weights, ""
    source = [old.index(name) if (name := mapping.get(label, label)) in old else None for label in labels]
    own = fan.state_dict()
    for name in rows_of:
        if name not in own:
            continue
        rows = own[name].clone()
        for index, row in enumerate(source):
            if row is not None:
                rows[index] = weights[name][row].to(rows.dtype)
        weights[name] = rows
    new = [label for label, row in zip(labels, source, strict=True) if row is None]
    if not new:
        return weights, "classifier put into this dataset's order of classes"
    return weights, f"classifier: {len(labels) - len(new)} classes taken over by name, {', '.join(new)} new"
