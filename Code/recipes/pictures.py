"""Any labeled face pictures, of emotions or identities: `<root>/<Class>/<image>`. Stills, so not a reader of clips.

    <root>/train/<Class>/<image> and <root>/val/<Class>/<image>    the folders give the split (RAF-DB, AffectNet)
    <root>/<Class>/<image>, and a list                             CSV with the columns path, label, split[, person]
    <root>/<Class>/<image>                                         a share of the pictures is held out

If the names of all pictures tell the person, no person is in both parts, unless the classes are the persons.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..check.names import person_in
from ..common.files import regular
from ..common.wording import counted, natural_key, printable, quoted
from ..data.clips import Clip, ClipSet, DataError
from ..data.folds import hold_out, name_persons
from ..data.listing import list_folder

TRAIN_FOLDERS = ("train", "Train", "training")
VAL_FOLDERS = ("val", "valid", "validation", "Val", "test", "Test")
LAYOUT = "pictures belong in <root>/<Class>/<image>.jpg, or in <root>/train/<Class>/ and <root>/val/<Class>/"
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass
class PictureSplit:
    """Labeled pictures for training and validation; every picture is a clip of one frame.

    Attributes:
        how: how they were split, for the log.
    """

    train: ClipSet
    val: ClipSet
    how: str


def read_picture_folders(
    root: str | Path,
    *,
    list_file: str | Path | None = None,
    share: float = 0.1,
    seed: int = 0,
    person_pattern: str | None = None,
) -> PictureSplit:
    """Reads a tree of labeled pictures, split by its folders, by a list or at random.

    Args:
        root: see the module's docstring.
        list_file: a CSV file with the columns path (relative to root), label, split (train or val) and
            optionally person.
        share: of the pictures to hold out if neither folders nor a list split them.
        seed: of that random draw.
        person_pattern: see `name_persons`; names are such as `Happy/anna_03.jpg`.

    Raises:
        DataError: all problems of the folders or the list.
    """
    root = os.fspath(root)
    if list_file is not None:
        return _listed(root, Path(list_file))
    train, val = _first_folder(root, TRAIN_FOLDERS), _first_folder(root, VAL_FOLDERS)
    if train and val:
        clips = _tree(os.path.join(root, train))
        other = _tree(os.path.join(root, val), clips.labels)
        return PictureSplit(clips, other, f"the folders {train} and {val}")
    clips = _tree(root)
    clips = name_persons(clips, person_pattern) if person_pattern else _with_persons(clips)
    if _classes_are_persons(clips):
        clips = replace(clips, clips=[replace(clip, person="") for clip in clips.clips])
    if len(clips.clips) <= len(clips.labels):
        raise DataError(f"{printable(root)}: has one picture per class, so none can be held out; {LAYOUT}")
    try:
        kept, held, how = hold_out(clips, seed, share)
    except DataError:  # its advice is for clips
        raise DataError(f"{printable(root)}: too few persons to hold some out; use --data-list") from None
    left = {clip.label for clip in kept.clips}
    lost = [name for label, name in enumerate(clips.labels) if label not in left]
    if lost:
        raise DataError(
            f"{root}: all pictures of {printable(lost[0])} are held out; try another --seed or a smaller --val-share"
        )
    return PictureSplit(kept, held, how.replace("clips", "pictures"))


def _first_folder(root: str, names: Sequence[str]) -> str | None:
    return next((name for name in names if os.path.isdir(os.path.join(root, name))), None)


def _tree(root: str, labels: tuple[str, ...] | None = None) -> ClipSet:
    """All of `<root>/<Class>/<image>`. If `labels` are given, other classes are problems."""
    problems: list[str] = []
    try:
        folders, loose = list_folder(root, problems)
    except OSError as error:
        raise DataError(f"{printable(root)}: cannot be read ({error.strerror}); {LAYOUT}") from None
    names = tuple(folders) if labels is None else labels
    clips: list[Clip] = []
    for folder in folders:
        if folder not in names:
            problems.append(f"{printable(os.path.join(root, folder))}: not a class of the training pictures")
            continue
        place = os.path.join(root, folder)
        _, images = list_folder(place, problems)
        if not images and labels is None:
            problems.append(f"{printable(place)}: no pictures; {LAYOUT}")
        clips += [Clip(f"{folder}/{image}", place, (image,), names.index(folder)) for image in images]
    if not clips and not problems:
        found = f"{len(loose)} pictures that are in no class's folder" if loose else "no pictures"
        problems.append(f"{printable(root)}: {found}; {LAYOUT}")
    if problems:
        raise DataError(problems, root)
    if len(names) < 2:
        raise DataError(f"{printable(root)}: only one class, {printable(names[0])}; at least two are needed")
    return ClipSet(clips, names, len(clips), [], root)


def _with_persons(clips: ClipSet) -> ClipSet:
    """Takes the persons from the names, if all names have one."""
    persons = [person_in(clip.name) for clip in clips.clips]
    if not all(persons):
        return clips
    named = [replace(clip, person=person or "") for clip, person in zip(clips.clips, persons, strict=True)]
    return replace(clips, clips=named)


def _classes_are_persons(clips: ClipSet) -> bool:
    """Whether every person is in one class only: holding out persons would hold out classes."""
    classes: dict[str, set[int]] = {}
    for clip in clips.clips:
        classes.setdefault(clip.person, set()).add(clip.label)
    return "" not in classes and all(len(labels) == 1 for labels in classes.values())


def _listed(root: str, path: Path) -> PictureSplit:
    problems: list[str] = []
    rows: list[tuple[int, str, str, str, str]] = []
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=regular) as file:
            reader = csv.DictReader(file)
            absent = {"path", "label", "split"} - set(reader.fieldnames or ())
            if absent:
                raise DataError(f"{path}, line 1: columns missing: {', '.join(sorted(absent))}")
            for number, row in enumerate(reader, 2):
                split = _SPLITS.get((row["split"] or "").strip().lower(), "")
                if not split:
                    problems.append(
                        f"{path}, line {number}: split {quoted(row['split'] or '')} is neither train nor val"
                    )
                rows.append(
                    (number, (row["path"] or "").strip(), (row["label"] or "").strip(), split, row.get("person") or "")
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file ({error})") from None
    labels = tuple(sorted({label for _, _, label, split, _ in rows if split == "train"}, key=natural_key))
    parts: dict[str, list[Clip]] = {"train": [], "val": []}
    first: dict[str, int] = {}  # line of each picture
    for number, name, label, split, person in rows:
        if not split:
            continue
        if label not in labels:
            problems.append(f"{path}, line {number}: class {quoted(label)} has no training picture")
        elif os.path.isabs(name) or ".." in Path(name).parts or not os.path.isfile(os.path.join(root, name)):
            problems.append(f"{path}, line {number}: no such file in {printable(root)}: {quoted(name)}")
        elif first.setdefault(os.path.normpath(name), number) != number:
            line = first[os.path.normpath(name)]
            problems.append(f"{path}, line {number}: {quoted(name)} is already in line {line}")
        else:
            folder, image = os.path.split(os.path.join(root, name))
            parts[split].append(Clip(name, folder, (image,), labels.index(label), person))
    both = {clip.person for clip in parts["train"]} & {clip.person for clip in parts["val"]} - {""}
    if both:
        others = f" and {counted(len(both) - 1, 'other person')}" if len(both) > 1 else ""
        verb = "are" if others else "is"
        problems.append(f"{path}: {quoted(min(both))}{others} {verb} in train and in val")
    for split, clips in parts.items():
        if not clips and not problems:
            problems.append(f"{path}: no picture of split {split}")
    if problems:
        raise DataError(problems, str(path))
    train, val = (ClipSet(clips, labels, len(clips), [], root) for clips in parts.values())
    return PictureSplit(train, val, f"the list {path.name}")
