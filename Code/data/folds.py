"""Cross-validation: which clip is evaluated in which fold, and which are held out to choose an epoch.

The published fold file of CK+: every fold's sequences and classes, in blocks with a header.

    1-fold 33 Angry 2 Sad 4 Disgust 7 Surprise 8 Fear 4 Contempt 1 Happy 7
    S130/007 Angry
    ...

The header's numbers are how many lines follow, in all and per class; classes without a clip may be absent.
Any dataset's folds can be kept in this format: a line is `<clip> <Class>` as in AFEW's lists.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from Code.data.clips import Clip, ClipSet, DataError
from Code.data.lists import (
    ListedClip,
    ListError,
    natural_key,
    printable,
    quoted,
    read_text,
    relative_name,
    text_lines,
    unknown_class,
)


@dataclass
class Folds:
    """A set of clips in k folds: fold i is evaluated by what all others train.

    Attributes:
        clips: all of them.
        of: fold (from 1) by clip name, of clips left out, too.
        count: k.
        how: where the folds come from, a few words.
    """

    clips: ClipSet
    of: dict[str, int]
    count: int
    how: str

    def train(self, fold: int) -> ClipSet:
        """What is trained on when `fold` is evaluated."""
        return self.clips.subset(lambda clip: self.of[clip.name] != fold)

    def val(self, fold: int) -> ClipSet:
        """What is evaluated in `fold`."""
        return self.clips.subset(lambda clip: self.of[clip.name] == fold)

    def members(self) -> list[list[Clip]]:
        """The clips of each fold, those left out included."""
        return [[c for c in everything(self.clips) if self.of[c.name] == fold] for fold in range(1, self.count + 1)]


def everything(clips: ClipSet) -> list[Clip]:
    """The clips and those left out: folds are made of both, so that they do not depend on what is left out."""
    return [*clips.clips, *clips.left_out]


def folds_by_person(clips: ClipSet, count: int) -> Folds:
    """Person-independent folds by CK+'s rule: persons in the order of their ids, fold i = persons[i - 1 :: count].

    Raises:
        DataError: persons are not known, or are fewer than the folds.
    """
    persons = _persons(clips)
    if len(persons) < count:
        raise DataError(f"{clips.root}: {len(persons)} persons cannot be put into {count} folds; see --folds")
    number = {person: 1 + index % count for index, person in enumerate(persons)}
    of = {clip.name: number[clip.person] for clip in everything(clips)}
    return _checked(Folds(clips, of, count, f"{count} person-independent folds"))


def folds_as_listed(clips: ClipSet) -> Folds:
    """The folds that every clip's list names.

    Raises:
        DataError: a clip without a fold, or a fold without clips.
    """
    of = {clip.name: clip.fold for clip in everything(clips)}
    without = [name for name, fold in of.items() if not fold]
    if without:
        raise DataError(f"{clips.root}: {len(without)} clips without a fold, {printable(without[0])} for one")
    return _checked(Folds(clips, of, max(of.values(), default=0), "folds as listed"))


def folds_from_file(clips: ClipSet, listed: Sequence[ListedClip], path: str) -> Folds:
    """The folds of a fold file, for clips that were read in another way.

    Raises:
        DataError: naming every clip that only one of both has, or that has another class there.
    """
    known = {clip.name: clip for clip in everything(clips)}
    problems = []
    for item in listed:
        clip = known.get(item.name)
        if clip is None:
            problems.append(f"{path}, line {item.line}: {quoted(item.name)} is no clip of {printable(clips.root)}")
        elif clip.label != item.label:
            problems.append(
                f"{path}, line {item.line}: {quoted(item.name)} is {clips.labels[item.label]} there, "
                f"but {clips.labels[clip.label]} in the data"
            )
    in_file = {item.name: item.fold for item in listed}
    problems += [f"{path}: lacks {quoted(name)}, which the data hold" for name in known if name not in in_file]
    if problems:
        raise DataError(problems, path)
    of = {name: in_file[name] for name in known}
    return _checked(Folds(clips, of, max(of.values(), default=0), f"folds of {path}"))


def _checked(folds: Folds) -> Folds:
    problems = [f"{folds.how}: fold {i} holds no clip" for i, clips in enumerate(folds.members(), 1) if not clips]
    if folds.count < 2:
        problems.append(f"{folds.how}: at least 2 folds are needed, not {folds.count}")
    if problems:
        raise DataError(problems, folds.clips.root)
    return folds


def persons_in_two_folds(folds: Folds) -> list[str]:
    """Persons whose clips are in more than one fold: their results are not person-independent."""
    seen: dict[str, set[int]] = {}
    for clip in everything(folds.clips):
        if clip.person:
            seen.setdefault(clip.person, set()).add(folds.of[clip.name])
    return sorted((person for person, where in seen.items() if len(where) > 1), key=natural_key)


def name_persons(clips: ClipSet, pattern: str) -> ClipSet:
    """Takes each clip's person from its name: the pattern's first group, or all that it matches.

    Args:
        pattern: a regular expression, searched for anywhere in names such as `Happy/anna_03`.

    Raises:
        DataError: the pattern is none, or some name does not match it.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--person-pattern {quoted(pattern)}: not a regular expression ({error})") from None
    problems: list[str] = []

    def named(clip: Clip) -> Clip:
        match = compiled.search(clip.name)
        person = (match[1] if compiled.groups else match[0]) if match else ""
        if not person:
            problems.append(f"--person-pattern {quoted(pattern)}: finds no person in {quoted(clip.name)}")
        return replace(clip, person=person or "?")

    renamed = replace(
        clips, clips=[named(clip) for clip in clips.clips], left_out=[named(clip) for clip in clips.left_out]
    )
    if problems:
        raise DataError(problems, clips.root)
    return renamed


def hold_out(train: ClipSet, seed: int, share: float = 0.1) -> tuple[ClipSet, ClipSet, str]:
    """Sets a part of the training clips apart, to choose an epoch by instead of by the evaluated clips.

    Persons are drawn at random, whole, until `share` of the clips is reached. Where persons are not known,
    `share` of each class's clips is drawn instead.

    Args:
        seed: of the drawing.

    Returns:
        The clips to train on, those held out, and how they were drawn, for people.

    Raises:
        DataError: too few persons or clips to leave something on both sides.
    """
    rng = np.random.default_rng([seed, 0x4E1D])  # apart from all other streams of this seed
    wanted = share * len(train.clips)
    if all(clip.person for clip in train.clips):
        persons = _persons(train)
        order = [persons[index] for index in rng.permutation(len(persons))]
        clips_of = Counter(clip.person for clip in train.clips)
        chosen: set[str] = set()
        for person in order:
            if sum(clips_of[name] for name in chosen) >= wanted:
                break
            chosen.add(person)
        names = {clip.name for clip in train.clips if clip.person in chosen}
        how = f"{len(chosen)} of {len(persons)} persons"
    else:
        names = set()
        for label in range(len(train.labels)):
            of_class = [clip.name for clip in train.clips if clip.label == label]
            take = max(1, round(share * len(of_class))) if len(of_class) > 1 else 0
            names |= {of_class[index] for index in rng.permutation(len(of_class))[:take]}
        part = "a tenth" if share == 0.1 else f"{100 * share:.0f} %"
        how = f"{part} of each class's clips; who is seen is not known, so persons may be on both sides"
    kept = train.subset(lambda clip: clip.name not in names)
    held = train.subset(lambda clip: clip.name in names)
    if not kept.clips or not held.clips:
        raise DataError(f"--select-on heldout: {len(train.clips)} clips in {train.root} are too few to hold some out")
    return kept, held, how


def _persons(clips: ClipSet) -> list[str]:
    unknown = [clip.name for clip in everything(clips) if not clip.person]
    if unknown:
        raise DataError(
            f"{clips.root}: who is seen is not known of {len(unknown)} clips, {printable(unknown[0])} for one; "
            "name persons in a list's column `person`, or say by --person-pattern where in the names they are"
        )
    return sorted({clip.person for clip in everything(clips)}, key=natural_key)


_HEADER = re.compile(r"(\d+)-fold\s+(\d+)((?:\s+\S+\s+\d+)*)")
# The published file's header names classes in this order; others follow in the order of their labels.
_HEADER_ORDER = ("Angry", "Sad", "Disgust", "Surprise", "Fear", "Contempt", "Happy")


def read_fold_file(path: str, labels: Sequence[str]) -> tuple[list[ListedClip], list[str]]:
    """Parses a fold file; whether its clips exist is not looked at.

    Args:
        path: the file.
        labels: the class names, in the order of their indices.

    Returns:
        The clips with their folds, in order, and a line of text for every problem: folds that are not
        numbered 1, 2, ..., numbers of lines that a header contradicts, unknown classes, clips named twice.
    """
    try:
        text = read_text(path)
    except ListError as error:
        return [], [str(error)]
    clips: list[ListedClip] = []
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    fold, announced, header_line = 0, Counter[str](), 0

    def check_announced() -> None:
        found = Counter(labels[clip.label] for clip in clips if clip.fold == fold)
        if fold and announced["all"] != found.total():
            problems.append(
                f"{path}, line {header_line}: fold {fold} announces {announced['all']} clips, "
                f"but {found.total()} follow; is a part missing?"
            )
        elif fold:
            for name in announced.keys() - {"all"}:
                if announced[name] != found[name]:
                    problems.append(
                        f"{path}, line {header_line}: fold {fold} announces {announced[name]} {name}, "
                        f"but {found[name]} follow"
                    )

    for number, line in text_lines(text):
        header = _HEADER.fullmatch(line)
        if header:
            check_announced()
            words = header[3].split()
            announced = Counter(dict(zip(words[::2], map(int, words[1::2]), strict=True)))
            announced["all"], header_line = int(header[2]), number
            if int(header[1]) != fold + 1:
                problems.append(f"{path}, line {number}: fold {header[1]} where fold {fold + 1} is expected")
            fold += 1
            continue
        try:
            clips.append(_parse(line, labels, number, fold, first_seen))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            announced["all"] -= 1  # said once
    check_announced()
    if not clips and not problems:
        problems.append(f"{path}: the fold file is empty; it begins with `1-fold <clips> <Class> <clips> ...`")
    return clips, problems


def _parse(line: str, labels: Sequence[str], number: int, fold: int, first_seen: dict[str, int]) -> ListedClip:
    path, _, class_name = line.replace("\t", " ").rpartition(" ")
    if not fold:
        raise ValueError(f"{quoted(line)} comes before any header `1-fold <clips> <Class> <clips> ...`")
    if not path.strip():
        raise ValueError(f"{quoted(line)} is malformed; expected <clip> <Class>")
    if class_name not in labels:
        raise ValueError(unknown_class(class_name, labels))
    name = relative_name(path.strip())
    if name in first_seen:
        raise ValueError(f"{quoted(name)} is already in line {first_seen[name]}; a clip belongs to one fold")
    first_seen[name] = number
    return ListedClip(name, labels.index(class_name), number, fold=fold)


def write_fold_file(path: str | os.PathLike[str], folds: Sequence[Sequence[Clip]], labels: Sequence[str]) -> None:
    """Writes folds in the published format: by class name, then by clip.

    Raises:
        DataError: the file cannot be written.
    """
    order = [name for name in _HEADER_ORDER if name in labels]
    order += [name for name in labels if name not in order]
    lines = []
    for number, clips in enumerate(folds, 1):
        counts = Counter(labels[clip.label] for clip in clips)
        parts = [f"{name} {counts[name]}" for name in order if counts[name]]
        lines.append(" ".join([f"{number}-fold", str(len(clips)), *parts]))
        named = sorted((labels[clip.label], clip.name) for clip in clips)
        lines += [f"{name} {class_name}" for class_name, name in named]
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise DataError(f"--write-folds {os.fspath(path)}: cannot be written ({error.strerror})") from None
