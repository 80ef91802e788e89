"""Checks of the dataset doctor that need no image file: lists, folders, names, classes, persons."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from ..common.names import AFEW_LABELS, expression
from ..common.wording import counted, printable
from ..data.clips import NO_FOLDER, NO_FRAMES, Clip
from . import BOTH, Check, Split


def name_checks(
    splits: Mapping[str, Split], num_frames: int, known_labels: tuple[str, ...] | None = None
) -> list[Check]:
    """The checks of names. For the arguments see `Code.check.check.check`."""
    return [
        *_reading(splits),
        Check.of(
            f"clips shorter than {num_frames} frames, which repeat frames",
            "warning",
            {
                name: [printable(clip.name) for clip in split if len(clip) < num_frames]
                for name, split in splits.items()
                if name == "train"  # evaluation reads all frames of a clip
            },
        ),
        *_classes_without_clips(splits),
        Check.of("clips in both splits", "warning", {BOTH: _in_both(splits)}),
        Check.of("persons in both splits", "warning", {BOTH: _persons_in_both(splits)}),
        Check.of("labels out of order", "warning", {BOTH: _label_order(splits, known_labels)}),
    ]


def _reading(splits: Mapping[str, Split]) -> list[Check]:
    """The problems that the reader found (missing, empty and other ones), and the clips that it skipped."""
    kinds: dict[str, dict[str, list[str]]] = {
        kind: {name: [] for name in splits} for kind in ("", NO_FOLDER, NO_FRAMES)
    }
    left_out: dict[str, list[str]] = {}
    for name, split in splits.items():
        for problem in split.error.problems if split.error else ():
            kind = next((kind for kind in (NO_FOLDER, NO_FRAMES) if f": {kind}" in problem), "")
            kinds[kind][name].append(problem)
        refused = kinds[NO_FRAMES][name]
        left_out[name] = [] if refused or not split.clips else [printable(clip) for clip in split.clips.skipped]
    return [
        Check.of("problems of lists and folders", "error", kinds[""]),
        Check.of("missing clips or folders", "error", kinds[NO_FOLDER]),
        Check.of("empty clips", "error", kinds[NO_FRAMES]),
        Check.of("empty clips, skipped (--skip-empty)", "warning", left_out),
    ]


def _classes_without_clips(splits: Mapping[str, Split]) -> list[Check]:
    checks = []
    for name, level in (("train", "warning"), ("val", "note")):
        split = splits.get(name)
        if split is None or split.clips is None:
            continue
        seen = Counter(clip.label for clip in split)
        absent = [printable(label) for index, label in enumerate(split.clips.labels) if not seen[index]]
        checks.append(Check.of(f"classes without {name} clips", level, {name: absent}))
    return checks


def _in_both(splits: Mapping[str, Split]) -> list[str]:
    """Validation clips with the name or the folder (links followed) of a training clip."""
    train, val = splits.get("train", ()), splits.get("val", ())
    names = {clip.name for clip in train}
    folders = {os.path.realpath(clip.folder): clip.name for clip in train}
    found = []
    for clip in val:
        same = folders.get(os.path.realpath(clip.folder))
        if clip.name in names:
            found.append(printable(clip.name))
        elif same is not None:
            found.append(f"{printable(clip.name)} is the same folder as {printable(same)}")
    return found


def _person(clip: Clip) -> str | None:
    """The person according to the reader, else according to the clip's name."""
    return clip.person or person_in(clip.name)


def _persons_in_both(splits: Mapping[str, Split]) -> list[str]:
    clips: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in ("train", "val")}
    for name in clips:
        for clip in splits.get(name, ()):
            if person := _person(clip):
                clips[name][person].append(printable(clip.name))
    train, val = clips["train"], clips["val"]
    return [f"{printable(person)}: train {train[person][0]}, val {val[person][0]}" for person in val if person in train]


def _label_order(splits: Mapping[str, Split], known_labels: tuple[str, ...] | None) -> list[str]:
    """Signs that class indices mean other classes than expected."""
    found = []
    orders = {name: split.clips.labels for name, split in splits.items() if split.clips}
    if len(set(orders.values())) > 1:
        found.append("; ".join(f"{name}: {_order(labels)}" for name, labels in orders.items()))
    for labels in dict.fromkeys(orders.values()):
        expected = known_labels or AFEW_LABELS
        if labels != expected and sorted(map(expression, labels)) == sorted(map(expression, expected)):
            whose = "the dataset" if known_labels else "AFEW"
            found.append(f"{_order(labels)}; the order of {whose} is {_order(expected)}")
    for name, labels in orders.items():
        meanings = [expression(label) for label in labels]
        wrong: Counter[tuple[str, str]] = Counter()
        first: dict[tuple[str, str], str] = {}
        for clip in splits[name]:
            folders = [part for part in clip.name.split("/")[:-1] if expression(part) in meanings]
            if folders and meanings[clip.label] not in map(expression, folders):
                case = folders[0], labels[clip.label]
                wrong[case] += 1
                first.setdefault(case, clip.name)
        found += [
            f"{name}: {counted(count, 'clip')} in a folder {printable(folder)} labeled {printable(label)}, "
            f"e.g. {printable(first[folder, label])}"
            for (folder, label), count in wrong.items()
        ]
    return found


def _order(labels: tuple[str, ...]) -> str:
    return " ".join(f"{index} {printable(label)}" for index, label in enumerate(labels))


_PATTERNS = (
    # subject12, Actor_07, person-3, id00012, also with a suffix: subject12_smile
    re.compile(r"(?:^|[/_\-. ])((?:subject|subj|sub|person|actor|speaker|id)[-_ ]?\d+)(?=$|[/_\-. ])", re.IGNORECASE),
    # CK+ S005, MMI S001-100, Oulu-CASIA P001. s1 or p2 alone may be a scene or a part.
    re.compile(r"(?:^|[/_\-. ])([SP]\d{3,4})(?=$|[/_\-. ])"),
    # CREMA-D 1001_DFA_ANG_XX
    re.compile(r"(?:^|/)(\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}(?=$|[/.])"),
    # RAVDESS 02-01-06-01-02-01-12: the last number is the actor
    re.compile(r"(?:^|/)\d\d(?:-\d\d){5}-(\d\d)(?=$|[/.])"),
)


def person_in(name: str) -> str | None:
    """The person in a clip's name, such as `S005` or `subject12`; None if there is none.

    Recognizes words for a person with a number, and the clip names of CK+, MMI, Oulu-CASIA, CREMA-D and RAVDESS.
    """
    for pattern in _PATTERNS:
        if match := pattern.search(name):
            return match[1].casefold()
    return None
