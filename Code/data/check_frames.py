"""The doctor's checks of single image files: unreadable ones, sizes, modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from Code.data.findings import Check, Split
from Code.data.lists import printable
from Code.data.scan import ClipFacts

Facts = Mapping[str, Sequence[ClipFacts]]
Wanted = Callable[[tuple[Any, ...]], bool]

_FAULTS = {  # kind of ImageError -> name
    "not an image": "frames that are no images",
    "truncated": "frames that break off",
    "damaged": "frames that cannot be decoded",
    "empty file": "frames of 0 bytes",
    "too large": "frames that are too large",
    "unreadable": "frames that cannot be opened",
    "missing": "frames that vanished",
}
_GREY = {"L", "LA"}
_USUAL = {"RGB", "L"}


def frame_checks(splits: Mapping[str, Split], facts: Facts) -> list[Check]:
    """See `check`."""
    total = _counts(facts)
    sizes = Counter({trait[1:]: count for trait, count in total.items() if trait[0] == "size"})
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    grey = sum(count for trait, count in total.items() if trait[0] == "mode" and trait[1] in _GREY)
    mixed = grey < sizes.total()

    def collect(name: str, level: str, wanted: Wanted) -> Check:
        return _with_trait(splits, facts, name, level, wanted)

    return [
        *(_faults(facts, kind, name) for kind, name in _FAULTS.items()),
        collect(
            f"frames of another size than {usual[0]} x {usual[1]}, which most have",
            "warning",
            lambda trait: trait[0] == "size" and trait[1:] != usual,
        ),
        collect(
            "frames that are not square, and will be squeezed",
            "warning",
            lambda trait: trait[0] == "size" and trait[1] != trait[2],
        ),
        collect(
            "grey frames among coloured ones" if mixed else "grey frames",
            "warning" if mixed else "note",
            lambda trait: trait[0] == "mode" and trait[1] in _GREY,
        ),
        collect(
            "frames of odd modes, converted to RGB",
            "warning",
            lambda trait: trait[0] == "mode" and trait[1] not in _USUAL,
        ),
        collect("frames with transparency, which is dropped", "warning", lambda trait: trait[0] == "transparent"),
        collect("animations, of which the first frame is read", "warning", lambda trait: trait[0] == "animated"),
        collect("frames turned upright by their EXIF orientation", "warning", lambda trait: trait[0] == "rotated"),
    ]


def _counts(facts: Facts) -> Counter:
    total: Counter = Counter()
    for clips in facts.values():
        for clip in clips:
            for trait, (count, _) in clip.traits.items():
                total[trait] += count
    return total


def _faults(facts: Facts, kind: str, name: str) -> Check:
    lines = {
        split: [line for clip in clips for found, line in clip.faults if found == kind]
        for split, clips in facts.items()
    }
    return Check.of(name, "error", lines)


def _with_trait(splits: Mapping[str, Split], facts: Facts, name: str, level: str, wanted: Wanted) -> Check:
    """Counts the frames with a wanted trait; a line per value of the trait, with its first frame."""
    counts = dict.fromkeys(splits, 0)
    values: dict[str, tuple[int, str]] = {}
    for split in splits:
        for clip, clip_facts in zip(splits[split], facts[split], strict=True):
            for trait, (count, frame) in clip_facts.traits.items():
                if wanted(trait):
                    counts[split] += count
                    value = f"{trait[1]} x {trait[2]}" if trait[0] == "size" else str(trait[-1])
                    number, first = values.get(value, (0, f"{split} {printable(clip.name)}/{printable(frame)}"))
                    values[value] = number + count, first
    items = [
        f"{count} {value}, first {first}"
        for value, (count, first) in sorted(values.items(), key=lambda pair: -pair[1][0])
    ]
    return Check(name, level, counts, items)
