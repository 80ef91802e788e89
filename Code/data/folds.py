"""Cross-validation folds, and clips held out of training to choose an epoch.

Folds can be kept in a file, in the format of CK+'s published folds: one block per fold, with a header.

    1-fold 33 Angry 2 Sad 4 Disgust 7 Surprise 8 Fear 4 Contempt 1 Happy 7
    S130/007 Angry
    ...

The header says how many lines follow, in total and per class. A line is `<clip> <Class>`, as in AFEW's lists.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..common.files import save_text, writing
from ..common.names import counted, name_key, natural_key, quoted
from .clips import Clip, ClipSet, DataError
from .listing import ListedClip, Listing, class_line, read_lines

_HEADER = re.compile(r"(\d+)-fold\s+(\d+)(?:\s+\S+\s+\d+)*")


@dataclass
class Folds:
    """Clips in k folds. Each fold is evaluated by a network that is trained on all others.

    Raises DataError if a clip has no fold, a fold has no clip, or there is one fold only.
    """

    clips: ClipSet  # of all folds; each clip has its fold, skipped ones too
    how: str  # where the folds come from, in a few words

    def __post_init__(self) -> None:
        self.count = max((clip.fold for clip in self.clips.everything), default=0)
        problems = [f"{quoted(clip.name)} has no fold" for clip in self.clips.everything if not clip.fold]
        problems += [f"fold {number} has no clip" for number, clips in enumerate(self.members(), start=1) if not clips]
        if self.count < 2:
            problems.append(f"at least 2 folds are needed, not {self.count}")
        if problems:
            raise DataError([f"{self.how}: {problem}" for problem in problems])

    def train(self, fold: int) -> ClipSet:
        """The clips to train on when `fold` is evaluated."""
        return self.clips.subset(lambda clip: clip.fold != fold)

    def val(self, fold: int) -> ClipSet:
        """The clips to evaluate in `fold`."""
        return self.clips.subset(lambda clip: clip.fold == fold)

    def members(self) -> list[list[Clip]]:
        """The clips of each fold, skipped ones included."""
        return [self.val(fold).everything for fold in range(1, self.count + 1)]

    def split_persons(self) -> list[str]:
        """The persons whose clips are in more than one fold."""
        pairs = {(clip.person, clip.fold) for clip in self.clips.everything if clip.person}
        counts = Counter(person for person, _ in pairs)
        return sorted((person for person, number in counts.items() if number > 1), key=natural_key)


def folds_by_person(clips: ClipSet, count: int) -> Folds:
    """Person-independent folds by CK+'s rule: persons sorted by id, fold i = persons[i - 1 :: count].

    Raises DataError if persons are unknown, or if there are fewer persons than folds.
    """
    unknown = [clip.name for clip in clips.everything if not clip.person]
    if unknown:
        raise DataError(
            f"{clips.root}: {counted(len(unknown), 'clip')} without a person, e.g. {unknown[0]}; "
            "name persons in a list's column `person`, or take them from the clips' names with --person-pattern"
        )
    persons = _persons(clips)
    if len(persons) < count:
        people = counted(len(persons), "person")
        raise DataError(f"{clips.root}: {people} cannot be divided into {count} folds; choose fewer with --folds")
    fold = {person: 1 + index % count for index, person in enumerate(persons)}
    return Folds(clips.mapped(lambda clip: replace(clip, fold=fold[clip.person])), f"{count} person-independent folds")


def folds_from_file(clips: ClipSet, path: str) -> Folds:
    """The folds of a fold file, for clips that were read without it.

    Raises DataError with the problems of the file, or with every clip that it lacks or that has another class.
    """
    listing = Listing(clips.root, clips.labels, list_file=path)
    read_fold_file(listing)
    known = {clip.name: clip.label for clip in clips.everything}
    for item in listing.clips:
        if known.get(item.name) != item.label:
            data = f"{clips.labels[known[item.name]]} in the data" if item.name in known else "not a clip of the data"
            listing.problems.append(f"{path}, line {item.line}: {quoted(item.name)} is {data}")
    if listing.problems:
        raise listing.error()
    fold = {item.name: item.fold for item in listing.clips}
    return Folds(clips.mapped(lambda clip: replace(clip, fold=fold.get(clip.name, 0))), f"folds of {path}")


def read_fold_file(listing: Listing) -> None:
    """Fills in the clips of a fold file, `listing.list_file`, with their folds.

    Problems are folds that are not numbered 1, 2, ..., headers that announce another number of clips, and bad lines.
    Raises DataError if the file cannot be read.
    """
    path = listing.list_file
    headers: list[tuple[int, int]] = []  # (line, number of clips) of each fold

    def parse(line: str, number: int) -> ListedClip | None:
        if header := _HEADER.fullmatch(line):
            headers.append((number, int(header[2])))
            if int(header[1]) != len(headers):
                raise ValueError(f"fold {header[1]} where fold {len(headers)} is expected")
            return None
        if not headers:
            raise ValueError(f"{quoted(line)} comes before any header `1-fold <clips> <Class> <clips> ...`")
        return class_line(line.strip("\t"), number, listing.labels, "<clip> <Class>")._replace(fold=len(headers))

    listing.parse(read_lines(path), parse)
    sizes = Counter(clip.fold for clip in listing.clips)
    for fold, (line, size) in enumerate([] if listing.problems else headers, start=1):
        if size != sizes[fold]:
            what = f"fold {fold} announces {counted(size, 'clip')}, but {sizes[fold]} follow; is a part missing?"
            listing.problems.append(f"{path}, line {line}: {what}")
    if not listing.clips and not listing.problems:
        listing.problems.append(f"{path}: the fold file is empty; it begins with `1-fold <clips> <Class> <clips> ...`")


def write_fold_file(path: str | Path, folds: Folds) -> None:
    """Writes folds in the published format, sorted by class name, then by clip."""
    lines = []
    for number, clips in enumerate(folds.members(), start=1):
        named = sorted((folds.clips.labels[clip.label], clip.name) for clip in clips)
        counts = Counter(label for label, _ in named)
        lines.append(" ".join([f"{number}-fold {len(clips)}", *(f"{name} {count}" for name, count in counts.items())]))
        lines += [f"{name} {label}" for label, name in named]
    with writing(Path(path)):
        save_text("\n".join(lines) + "\n", path)


def name_persons(clips: ClipSet, pattern: str) -> ClipSet:
    """Takes each clip's person from its name: the pattern's first group, or the whole match.

    The pattern, a regular expression, is searched for anywhere in names such as `Happy/anna_03`. Raises DataError if it
    is not valid, or does not match a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--person-pattern {quoted(pattern)}: not a regular expression ({error})") from None
    group = min(compiled.groups, 1)
    matches = {clip.name: compiled.search(clip.name) for clip in clips.everything}
    persons = {name: (match and match[group]) or "" for name, match in matches.items()}
    if unknown := [name for name, person in persons.items() if not name_key(person)]:
        raise DataError([f"--person-pattern {quoted(pattern)}: does not match {quoted(name)}" for name in unknown])
    return clips.mapped(lambda clip: replace(clip, person=name_key(persons[clip.name])))


def hold_out(train: ClipSet, seed: int, share: float = 0.1) -> tuple[ClipSet, ClipSet, str]:
    """Holds out a part of the training clips, so that the epoch is not chosen on the evaluated clips.

    Persons are drawn at random until their clips make up `share`. If persons are unknown, `share` of each class's
    clips is drawn. Raises DataError if there are too few to have some on both sides.

    Returns:
        The clips to train on, the clips held out, and how they were drawn, for the log.
    """
    rng = np.random.default_rng([seed, 0x4E1D])  # independent of all other streams of this seed
    clips = train.clips
    names: set[str] = set()
    if all(clip.person for clip in clips):
        persons, count = _persons(train), 0
        for index in rng.permutation(len(persons)):
            if len(names) < share * len(clips):
                names |= {clip.name for clip in clips if clip.person == persons[index]}
                count += 1
        how = f"{count} of {len(persons)} persons"
    else:
        for label in range(len(train.labels)):
            of_class = [clip.name for clip in clips if clip.label == label]
            take = max(1, round(share * len(of_class))) if len(of_class) > 1 else 0
            names |= {of_class[index] for index in rng.permutation(len(of_class))[:take]}
        how = f"{100 * share:.0f} % of each class's clips; persons are unknown, so one may be on both sides"
    rest = train.subset(lambda clip: clip.name not in names)
    held = train.subset(lambda clip: clip.name in names)
    if not rest.clips or not held.clips:
        raise DataError(f"--select-on heldout: {train.root} has {len(clips)} clips only; use --select-on val")
    return rest, held, how


def _persons(clips: ClipSet) -> list[str]:
    return sorted({clip.person for clip in clips.everything} - {""}, key=natural_key)
