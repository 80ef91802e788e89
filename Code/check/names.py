"""What lists, folders and names show: missing and short clips, odd label orders, clips and persons in both splits."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..common.names import AFEW_LABELS, counted, expression, name_key, printable
from ..data.clips import NO_FOLDER, NO_FRAMES, Clip, ClipSet, DataError
from .report import BOTH, Finding


@dataclass
class Reading:
    """What a reader returned for one split: the clips that can be read, None if there are none, and its error."""

    clips: ClipSet | None
    error: DataError | None = None

    @classmethod
    def of(cls, read: Callable[[], ClipSet]) -> Reading:
        """Calls a reader. If it raises, keeps the error and the clips that can be read."""
        try:
            return cls(read())
        except DataError as error:
            return cls(error.readable, error)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips.clips if self.clips else ())

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names; empty if no clip could be read."""
        return self.clips.labels if self.clips else ()


Splits = Mapping[str, Reading]  # "train" and "val"


def check_names(splits: Splits, num_frames: int, known_labels: tuple[str, ...] | None = None) -> list[Finding]:
    """What names alone show. For the arguments see `check`."""
    kinds = (NO_FOLDER, NO_FRAMES, "")  # of problems, by a part of their text
    problems: dict[str, dict[str, list[str]]] = {kind: {name: [] for name in splits} for kind in kinds}
    skipped = {}
    for name, split in splits.items():
        for problem in split.error.problems if split.error else ():
            problems[next(kind for kind in kinds if f": {kind}" in problem or not kind)][name].append(problem)
        ignored = split.clips.skipped if split.clips and not problems[NO_FRAMES][name] else []
        skipped[name] = list(map(printable, ignored))
    # Evaluation reads all frames of a clip, so short ones matter in training alone.
    short = [printable(clip.name) for clip in splits["train"] if len(clip) < num_frames]
    notes = dict.fromkeys(note for split in splits.values() if split.clips for note in split.clips.notes)
    return [
        Finding.of("problems of lists and folders", "error", problems[""]),
        Finding.of("missing clips or folders", "error", problems[NO_FOLDER]),
        Finding.of("empty clips", "error", problems[NO_FRAMES]),
        Finding.of("empty clips, skipped (--skip-empty)", "warning", skipped),
        Finding.of(f"clips shorter than {num_frames} frames, which repeat frames", "warning", {"train": short}),
        Finding.of("classes without train clips", "warning", {"train": _absent_classes(splits["train"])}),
        Finding.of("classes without val clips", "note", {"val": _absent_classes(splits["val"])}),
        Finding.of("clips in both splits", "warning", {BOTH: _clips_in_both(splits)}),
        Finding.of("persons in both splits", "warning", {BOTH: _persons_in_both(splits)}),
        Finding.of("labels out of order", "warning", {BOTH: _label_order(splits, known_labels)}),
        Finding.of("notes on lists and folders", "note", {BOTH: list(notes)}),
    ]


def _absent_classes(split: Reading) -> list[str]:
    seen = {clip.label for clip in split}
    return [printable(name) for index, name in enumerate(split.labels) if index not in seen]


def _clips_in_both(splits: Splits) -> list[str]:
    """Validation clips with the name or the folder (links followed) of a training clip."""
    names = {clip.name for clip in splits["train"]}
    folders = {os.path.realpath(clip.folder): clip.name for clip in splits["train"]}
    found = []
    for clip in splits["val"]:
        same = folders.get(os.path.realpath(clip.folder))
        if clip.name in names:
            found.append(printable(clip.name))
        elif same is not None:
            found.append(f"{printable(clip.name)} is the same folder as {printable(same)}")
    return found


def _persons_in_both(splits: Splits) -> list[str]:
    """Persons according to the reader, else according to the clips' names."""
    train: dict[str, str] = {}  # person -> a clip
    val: dict[str, str] = {}
    for persons, split in ((train, splits["train"]), (val, splits["val"])):
        for clip in split:
            if person := clip.person or person_in(clip.name):
                persons.setdefault(person, printable(clip.name))
    return [f"{printable(person)}: train {train[person]}, val {val[person]}" for person in val if person in train]


def _label_order(splits: Splits, known_labels: tuple[str, ...] | None) -> list[str]:
    """Signs that class indices mean other classes than expected."""
    found = []
    orders = {name: split.labels for name, split in splits.items() if split.clips}
    if len(set(orders.values())) > 1:
        found.append("; ".join(f"{name}: {_numbered(labels)}" for name, labels in orders.items()))
    for labels in dict.fromkeys(orders.values()):
        expected = known_labels or AFEW_LABELS
        if labels != expected and sorted(map(expression, labels)) == sorted(map(expression, expected)):
            whose = "the dataset" if known_labels else "AFEW"
            found.append(f"{_numbered(labels)}; the order of {whose} is {_numbered(expected)}")
    for name, labels in orders.items():
        meanings = [expression(label) for label in labels]
        wrong: dict[tuple[str, str], list[str]] = defaultdict(list)  # (folder, label) -> clips
        for clip in splits[name]:
            folders = [part for part in clip.name.split("/")[:-1] if expression(part) in meanings]
            if folders and meanings[clip.label] not in map(expression, folders):
                wrong[folders[0], labels[clip.label]].append(clip.name)
        for (folder, label), clips in wrong.items():
            where = f"{counted(len(clips), 'clip')} in a folder {printable(folder)} labeled {printable(label)}"
            found.append(f"{name}: {where}, e.g. {printable(clips[0])}")
    return found


def _numbered(labels: tuple[str, ...]) -> str:
    return " ".join(f"{index} {printable(label)}" for index, label in enumerate(labels))


_PERSONS = (
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
    """The person in a clip's name, such as `S005` or `subject12`, as `name_key` spells it; None if there is none.

    Recognizes words for a person with a number, and the clip names of CK+, MMI, Oulu-CASIA, CREMA-D and RAVDESS.
    """
    for pattern in _PERSONS:
        if match := pattern.search(name):
            return name_key(match[1])
    return None
