"""When a checkpoint meets other data: the same classes in another order are mapped, other classes are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from Code.data.clips import Clip, ClipSet, DataError
from Code.data.lists import printable

DROPPED = "none"  # `--map-labels Contempt=none` leaves the class's clips out

# How the field writes the same classes. Only to say what `--map-labels` could be: whether "anger" in one's own
# list means what a network learnt as "Angry" is not ours to decide.
_SPELLINGS = (
    ("happy", "happiness", "joy"),
    ("angry", "anger"),
    ("disgust", "disgusted"),
    ("fear", "afraid", "fearful", "scared"),
    ("sad", "sadness"),
    ("neutral", "neutrality", "calm"),
    ("surprise", "surprised"),
    ("contempt", "contemptuous"),
)


def relabelled(clips: ClipSet, target: Sequence[str], mapping: Mapping[str, str], what: str) -> ClipSet:
    """The clips with class indices into other names.

    Args:
        clips: in their own order of classes.
        target: the checkpoint's class names, in its order.
        mapping: class of the data -> class of the checkpoint, or "none" to leave its clips out; names that
            it does not mention mean themselves.
        what: names the checkpoint in messages.

    Raises:
        DataError: a class of the data that `target` does not have, or a mapping that speaks of unknown classes.
    """
    problems = [
        f"--map-labels {printable(old)}={printable(new)}: {printable(name)} is no class of the {whose}; "
        f"known: {', '.join(map(printable, known))}"
        for old, new in mapping.items()
        for name, known, whose in ((old, clips.labels, "data"), (new, (*target, DROPPED), "checkpoint"))
        if name not in known
    ]
    wanted = [mapping.get(name, name) for name in clips.labels]
    strangers = [name for name, new in zip(clips.labels, wanted, strict=True) if new not in (*target, DROPPED)]
    if strangers and not problems:
        hint = " ".join(f"{name}={_meant(name, target)}" for name in strangers)
        problems.append(
            f"{what}: its classes are {', '.join(map(printable, target))}; the data's "
            f"{', '.join(map(printable, clips.labels))}; say what the others mean, for example --map-labels {hint}"
        )
    if problems:
        raise DataError(problems)
    number = {index: target.index(new) for index, new in enumerate(wanted) if new != DROPPED}

    def moved(members: list[Clip]) -> list[Clip]:
        return [replace(clip, label=number[clip.label]) for clip in members if clip.label in number]

    kept = replace(clips, clips=moved(clips.clips), left_out=moved(clips.left_out), labels=tuple(target))
    if not kept.clips:
        raise DataError(f"--map-labels: leaves no clip of {clips.root}")
    dropped = len(clips.clips) + len(clips.left_out) - len(kept.clips) - len(kept.left_out)
    notes = [*clips.notes]
    if dropped:
        gone = [name for name, new in zip(clips.labels, wanted, strict=True) if new == DROPPED]
        notes.append(f"--map-labels: {dropped} clips of class {', '.join(gone)} are not evaluated")
    if tuple(target) != clips.labels:
        notes.append(f"classes in the checkpoint's order: {', '.join(target)}")
    absent = [name for name in target if name not in wanted]
    if absent:
        notes.append(f"the data have no class {', '.join(absent)}, which the network may still answer")
    return replace(kept, listed=clips.listed - dropped, skipped=[clip.name for clip in kept.left_out], notes=notes)


def _meant(name: str, target: Sequence[str]) -> str:
    """Which class of `target` a name could mean; "none" where that is not clear."""
    for group in _SPELLINGS:
        if name.lower() in group:
            return next((other for other in target if other.lower() in group), DROPPED)
    return next((other for other in target if other.lower() == name.lower()), DROPPED)
