"""Any labeled face pictures, of emotions or identities. Every picture is a clip of one frame.

    <root>/train/<Class>/<image> and <root>/val/<Class>/<image>    the folders give the split (RAF-DB, AffectNet)
    <root>/<Class>/<image>, and a list                             a plain list with the column split, and maybe person
    <root>/<Class>/<image>                                         a part of the pictures is held out

If the names of all pictures tell the person, no person is in both parts, unless the classes are the persons.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..check.names import person_in
from ..common.names import counted, printable, quoted
from ..data.clips import Clip, ClipSet, DataError
from ..data.folds import hold_out, name_persons
from ..data.listing import list_folder, two_spellings
from ..readers.tables import parse_table

TRAIN_FOLDERS = ("train", "Train", "training")
VAL_FOLDERS = ("val", "valid", "validation", "Val", "test", "Test")
LAYOUT = "pictures belong in <root>/<Class>/<image>.jpg, or in <root>/train/<Class>/ and <root>/val/<Class>/"
SHOWN = 12  # classes that a message names


@dataclass
class PictureSplit:
    """Labeled pictures for training and validation, and how they were split, for the log."""

    train: ClipSet
    val: ClipSet
    how: str


def read_pictures(
    root: str | Path,
    *,
    list_file: str | Path | None = None,
    share: float = 0.1,
    seed: int = 0,
    person_pattern: str | None = None,
) -> PictureSplit:
    """Reads labeled pictures, split by their folders, by a list or at random.

    Args:
        root: see the module's docstring.
        list_file: a table, see `Code.readers.tables`, whose paths are those of pictures.
        share: of the pictures to hold out if neither folders nor a list split them.
        seed: of that random draw.
        person_pattern: see `name_persons`; names are such as `Happy/anna_03.jpg`.

    Raises:
        DataError: all problems of the folders or the list.
    """
    root = os.fspath(root)
    if list_file is not None:
        return _read_list(root, os.fspath(list_file))
    train, val = (
        next((name for name in names if os.path.isdir(os.path.join(root, name))), None)
        for names in (TRAIN_FOLDERS, VAL_FOLDERS)
    )
    if train and val:
        clips = read_tree(os.path.join(root, train))
        other = read_tree(os.path.join(root, val), clips.labels)
        return PictureSplit(_of_several_classes(clips), other, f"the folders {train} and {val}")
    return _hold_out(_with_persons(_of_several_classes(read_tree(root)), person_pattern), share, seed)


def read_tree(root: str, labels: tuple[str, ...] | None = None) -> ClipSet:
    """All of `<root>/<Class>/<image>`.

    Args:
        labels: the only classes that there may be; None: every folder is a class, and has pictures.

    Raises:
        DataError: all problems of the folders; or there are no pictures.
    """
    problems: list[str] = []
    try:
        folders, loose = list_folder(root, problems)
    except OSError as error:
        raise DataError(f"{printable(root)}: cannot be read ({error.strerror}); {LAYOUT}") from None
    classes = tuple(folders) if labels is None else labels
    problems += [f"{printable(root)}: {line}; merge the folders" for line in two_spellings(folders)]
    clips: list[Clip] = []
    for name in folders:
        folder = os.path.join(root, name)
        if name not in classes:
            known = ", ".join(map(printable, classes[:SHOWN])) + (", ..." if len(classes) > SHOWN else "")
            problems.append(f"{printable(folder)}: not one of the classes; name the folder one of {known}")
            continue
        _, images = list_folder(folder, problems)
        if not images and labels is None:
            problems.append(f"{printable(folder)}: no pictures; {LAYOUT}")
        clips += [Clip(f"{name}/{image}", folder, (image,), classes.index(name)) for image in images]
    if not clips and not problems:
        content = f"{len(loose)} pictures that are in no class's folder" if loose else "no pictures"
        problems.append(f"{printable(root)}: {content}; {LAYOUT}")
    if problems:
        raise DataError(problems, root)
    return ClipSet(clips, classes, root)


def _of_several_classes(clips: ClipSet) -> ClipSet:
    if len(clips.labels) < 2:
        raise DataError(
            f"{printable(clips.root)}: only one class, {printable(clips.labels[0])}; at least two are needed"
        )
    return clips


def _with_persons(clips: ClipSet, pattern: str | None) -> ClipSet:
    """Takes the persons from the pictures' names; none if the names of some do not tell, or if persons are classes."""
    if pattern:
        clips = name_persons(clips, pattern)
    named = [replace(clip, person=clip.person or person_in(clip.name) or "") for clip in clips.clips]
    classes_of: dict[str, set[int]] = {}
    for clip in named:
        classes_of.setdefault(clip.person, set()).add(clip.label)
    are_classes = all(len(labels) == 1 for labels in classes_of.values())  # holding out persons would hold out classes
    if "" in classes_of or are_classes:
        named = [replace(clip, person="") for clip in named]
    return replace(clips, clips=named)


def _hold_out(clips: ClipSet, share: float, seed: int) -> PictureSplit:
    if len(clips.clips) <= len(clips.labels):
        raise DataError(f"{printable(clips.root)}: has one picture per class, so none can be held out; {LAYOUT}")
    try:
        train, val, how = hold_out(clips, seed, share)
    except DataError:  # its advice is for clips
        raise DataError(f"{printable(clips.root)}: too few persons to hold some out; use --data-list") from None
    absent = set(range(len(clips.labels))) - {clip.label for clip in train.clips}
    if absent:
        raise DataError(
            f"{clips.root}: all pictures of {printable(clips.labels[min(absent)])} are held out; "
            "try another --seed or a smaller --val-share"
        )
    return PictureSplit(train, val, how.replace("clips", "pictures"))


def _read_list(root: str, path: str) -> PictureSplit:
    listed = parse_table(path)
    problems = listed.problems
    parts: dict[str, list[Clip]] = {"train": [], "val": [], "": []}
    for picture in listed.clips:
        folder, image = os.path.split(os.path.join(root, picture.name))
        if not os.path.isfile(os.path.join(folder, image)):
            problems.append(f"{path}, line {picture.line}: no such file in {printable(root)}: {quoted(picture.name)}")
        clip = Clip(picture.name, folder, (image,), picture.label, picture.person)
        parts["val" if picture.split == "test" else picture.split].append(clip)
    trained = {clip.label for clip in parts["train"]}
    untrained = [clip for clip in parts["val"] if clip.label not in trained]
    if untrained and trained:
        label = listed.labels[untrained[0].label]
        problems.append(f"{path}: class {quoted(label)} of {quoted(untrained[0].name)} has no training picture")
    both = {clip.person for clip in parts["train"]} & {clip.person for clip in parts["val"]} - {""}
    if both:
        others = f" and {counted(len(both) - 1, 'other person')}" if len(both) > 1 else ""
        problems.append(f"{path}: {quoted(min(both))}{others} {'are' if others else 'is'} in train and in val")
    for split in ("train", "val"):
        if not parts[split] and not problems:
            problems.append(f"{path}: no picture of split {split}")
    if problems:
        raise DataError(problems, path)
    train, val = (ClipSet(parts[split], listed.labels, root) for split in ("train", "val"))
    return PictureSplit(train, val, f"the list {os.path.basename(path)}")
