"""Class names of a checkpoint and of the data: another order is mapped, other classes are an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..common.names import counted, expression, printable
from .clips import ClipSet, DataError

DROPPED = "none"  # `--map-labels Contempt=none` drops the clips of that class


def map_labels(clips: ClipSet, target: Sequence[str], mapping: Mapping[str, str], what: str) -> ClipSet:
    """The same clips with class indices that refer to a checkpoint's class names.

    Args:
        clips: with the data's own class names.
        target: the checkpoint's class names, in the order of their indices.
        mapping: class of the data -> class of the checkpoint, or "none" to drop its clips. Names that are not in it
            keep their meaning.
        what: the checkpoint, for messages.

    Raises:
        DataError: the data have a class that `target` lacks, or the mapping contains an unknown class.
    """
    problems = [
        f"--map-labels {printable(old)}={printable(new)}: {printable(name)} is not a class of the {whose}; "
        f"its classes are {', '.join(map(printable, known))}"
        for old, new in mapping.items()
        for name, known, whose in ((old, clips.labels, "data"), (new, (*target, DROPPED), "checkpoint"))
        if name not in known
    ]
    mapped = {name: mapping.get(name, name) for name in clips.labels}
    unknown = [name for name, new in mapped.items() if new not in (*target, DROPPED)]
    if unknown and not problems:
        # Only a suggestion: the user decides.
        meant = {name: [other for other in target if expression(other) == expression(name)] for name in unknown}
        hint = " ".join(f"{name}={(others or [DROPPED])[0]}" for name, others in meant.items())
        problems.append(
            f"{what}: its classes are {', '.join(map(printable, target))}; those of the data are "
            f"{', '.join(map(printable, clips.labels))}; map the others, for example --map-labels {hint}"
        )
    if problems:
        raise DataError(problems)
    number = {i: target.index(new) for i, new in enumerate(mapped.values()) if new != DROPPED}
    kept = clips.subset(lambda clip: clip.label in number).mapped(lambda clip: replace(clip, label=number[clip.label]))
    if not kept.clips:
        raise DataError(f"--map-labels: drops every clip of {clips.root}; map at least one class")
    notes = [*clips.notes]
    if dropped := clips.listed - kept.listed:
        gone = ", ".join(name for name, new in mapped.items() if new == DROPPED)
        notes.append(f"--map-labels: {counted(dropped, 'clip')} of class {gone} not evaluated")
    if tuple(target) != clips.labels:
        notes.append(f"classes are in the checkpoint's order: {', '.join(target)}")
    if absent := [name for name in target if name not in mapped.values()]:
        notes.append(f"the data have no class {', '.join(absent)}, but the network can still predict it")
    return replace(kept, labels=tuple(target), notes=notes)
