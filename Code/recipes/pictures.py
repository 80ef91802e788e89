"""Labeled face pictures to pretrain on: the images of FER+ with folders of further faces, or any folders or lists.

EXTRA/<emotion>/<image>                                    `--extra`: faces in the eight classes of FER+
EXTRA/unlabeled/<image>                                    and faces that `--teachers` label

<root>/train/<Class>/<image>, <root>/val/<Class>/<image>   `--dataset folders`: the folders give the split
<root>/<Class>/<image>, and a list                         a plain list with the column split, and maybe person
<root>/<Class>/<image>                                     a part of the pictures is held out
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..check import person_in
from ..common.names import FERPLUS_LABELS, printable, quoted
from ..data.batches import FrameTable, open_stores
from ..data.clips import Clip, ClipSet, DataError
from ..data.folds import hold_out, name_persons
from ..data.listing import Listing, unknown_class
from ..readers.ferplus import FERPlusSplit, majority_targets, soft_targets
from ..readers.tables import parse_table

UNLABELED = "unlabeled"
TRAIN_FOLDERS = ("train", "Train", "training")
VAL_FOLDERS = ("val", "valid", "validation", "Val", "test", "Test")
LAYOUT = "Pictures belong in <root>/<Class>/<image>.jpg, or in <root>/train/<Class>/ and <root>/val/<Class>/."


@dataclass
class Faces:
    """Gray faces with labels of FER+, in memory.

    Attributes:
        images: uint8 [N, 1, side, side].
        targets: float32 [N, 8] class probabilities, zeros without a label; or int64 [N] class indices.
        names: file name of each image.
    """

    images: Tensor
    targets: Tensor
    names: list[str]

    def table(self) -> FrameTable:
        """The faces as clips of one frame."""
        ones = np.ones(len(self.names), dtype=np.int64)
        return FrameTable(ones, self.targets, self.names, FERPLUS_LABELS)


def ferplus_faces(split: FERPlusSplit, rule: str) -> Faces:
    """The images of a split that a rule keeps, with what it makes of their votes.

    Args:
        rule: "votes": class probabilities, to train on. "majority": the class that has more than half of the votes.
            "plurality": the most voted class of all images whose most voted label is an emotion.

    Raises:
        DataError: the rule keeps no image.
    """
    if rule == "plurality":
        kept = (split.votes.argmax(axis=1) < len(FERPLUS_LABELS)) & (split.votes.sum(axis=1) > 0)
        votes = split.votes[:, : len(FERPLUS_LABELS)]
    else:
        votes, kept = (majority_targets if rule == "majority" else soft_targets)(split.votes)
    if not kept.any():
        raise DataError(f"fer2013new.csv: the rule of {rule} keeps none of {len(kept)} images of a split")
    split, targets = split.only(kept), torch.from_numpy(votes[kept])
    return Faces(torch.from_numpy(split.images), targets if rule == "votes" else targets.argmax(dim=1), split.names)


def with_extra(faces: Faces, roots: Sequence[str], side: int, *, unlabeled: bool) -> Faces:
    """Adds the faces of folders to those of FER+, all resized to one side.

    Args:
        faces: with class probabilities, at most as large as `side`.
        roots: each has a folder per emotion, and may have `unlabeled`.
        side: in pixels.
        unlabeled: take faces without a label, too. Their targets are 0.

    Raises:
        DataError: a folder has another name, a picture cannot be read, or a root has no pictures.
    """
    labels = (*FERPLUS_LABELS, UNLABELED)
    clips = [
        clip for root in roots for clip in read_tree(root, labels).clips if unlabeled or clip.label < len(labels) - 1
    ]
    read = ClipSet(clips, labels, ", ".join(roots))
    (store,), _, _ = open_stores([read], side, torch.device("cpu"), cache="memory", gray=True)
    images = store.read(np.arange(len(clips)))[:, :1]  # of three equal channels
    targets = F.one_hot(torch.tensor([clip.label for clip in clips], dtype=torch.int64), len(labels))[:, :-1].float()
    labeled = int(targets.sum())
    print(f"extra: {labeled} labeled and {len(clips) - labeled} unlabeled faces from {read.root}")
    if faces.images.shape[-1] != side:
        parts = [
            F.interpolate(part.float(), (side, side), mode="bilinear").round().to(torch.uint8)
            for part in faces.images.split(1024)
        ]
        faces = replace(faces, images=torch.cat(parts))
    names = faces.names + [clip.name for clip in clips]
    return Faces(torch.cat([faces.images, images]), torch.cat([faces.targets, targets]), names)


def read_pictures(
    root: str, *, list_file: str | None = None, share: float = 0.1, seed: int = 0, person_pattern: str | None = None
) -> tuple[ClipSet, ClipSet, str]:
    """Reads labeled pictures, split by their folders, by a list or at random. Every picture is a clip of one frame.

    If the names of all pictures tell the person, a random split has no person in both parts, unless the classes are the
    persons.

    Args:
        list_file: a table, see `Code.readers.tables`, whose paths are those of pictures.
        share: of the pictures to hold out if neither folders nor a list split them.
        seed: of that random draw.
        person_pattern: see `name_persons`; names are such as `Happy/anna_03.jpg`.

    Returns:
        The pictures to train on, those to validate on, and how they were split, for the log.

    Raises:
        DataError: all problems of the folders or the list.
    """
    if list_file is not None:
        return *_listed(root, list_file), f"the list {os.path.basename(list_file)}"
    train, val = (
        next((name for name in names if os.path.isdir(os.path.join(root, name))), None)
        for names in (TRAIN_FOLDERS, VAL_FOLDERS)
    )
    if not train or not val:
        return _held_out(read_tree(root), share, seed, person_pattern)
    clips = read_tree(os.path.join(root, train))
    return clips, read_tree(os.path.join(root, val), clips.labels), f"the folders {train} and {val}"


def read_tree(root: str, labels: tuple[str, ...] = ()) -> ClipSet:
    """All of `<root>/<Class>/<image>`.

    Args:
        labels: the only classes that there may be; none: every folder is a class, and has pictures.

    Raises:
        DataError: all problems of the folders; or there are no pictures.
    """
    listing = Listing(root, advice=[LAYOUT])
    folders, loose = listing.contents(root)
    classes = labels or tuple(folders)
    clips: list[Clip] = []
    for name in folders:
        folder = os.path.join(root, name)
        if name not in classes:
            listing.problems.append(f"{printable(folder)}: {unknown_class(name, classes)}")
            continue
        _, images = listing.contents(folder)
        if not images and not labels:
            listing.problems.append(f"{printable(folder)}: no pictures")
        clips += [Clip(f"{name}/{image}", folder, (image,), classes.index(name)) for image in images]
    if not clips and not listing.problems:
        listing.problems.append(f"{printable(root)}: {len(loose)} pictures, but none in a class's folder")
    if len(classes) == 1:
        listing.problems.append(f"{printable(root)}: only one class, {printable(classes[0])}; at least two are needed")
    if listing.problems:
        raise listing.error()
    return ClipSet(clips, classes, root)


def _held_out(clips: ClipSet, share: float, seed: int, pattern: str | None) -> tuple[ClipSet, ClipSet, str]:
    """A random split, by persons if the pictures' names tell them, and if persons are not the classes."""
    if pattern:
        clips = name_persons(clips, pattern)
    clips = clips.mapped(lambda clip: replace(clip, person=clip.person or person_in(clip.name)))
    pairs = {(clip.person, clip.label) for clip in clips.clips}
    persons = {person for person, _ in pairs}
    if "" in persons or len(pairs) == len(persons):  # holding out persons would hold out classes
        clips = clips.mapped(lambda clip: replace(clip, person=""))
    try:
        train, val, how = hold_out(clips, seed, share)
    except DataError:  # its advice is for clips
        raise DataError(f"{printable(clips.root)}: too few pictures or persons to hold some out; {LAYOUT}") from None
    trained = {clip.label for clip in train.clips}
    absent = [label for index, label in enumerate(clips.labels) if index not in trained]
    if absent:
        raise DataError(
            f"{printable(clips.root)}: all pictures of {printable(absent[0])} are held out; try another --seed or a "
            "smaller --val-share"
        )
    return train, val, how.replace("clips", "pictures")


def _listed(root: str, path: str) -> tuple[ClipSet, ClipSet]:
    """The pictures of a table."""
    listed = parse_table(path)
    problems = listed.problems
    train, val = ClipSet([], listed.labels, root), ClipSet([], listed.labels, root)
    for picture in listed.clips:
        folder, image = os.path.split(os.path.join(root, picture.name))
        if not os.path.isfile(os.path.join(folder, image)):
            problems.append(f"{path}, line {picture.line}: no such file in {printable(root)}: {quoted(picture.name)}")
        part = train if picture.split == "train" else val
        part.everything.append(Clip(picture.name, folder, (image,), picture.label, picture.person))
    trained, validated = ({clip.label for clip in part.clips} for part in (train, val))
    problems += [
        f"{path}: class {quoted(listed.labels[label])} has no training picture" for label in validated - trained
    ]
    persons = [{clip.person for clip in part.clips} - {""} for part in (train, val)]
    problems += [f"{path}: {quoted(person)} is in train and in val" for person in sorted(persons[0] & persons[1])]
    if not val.clips:
        problems.append(f"{path}: no picture of split val")
    if problems:
        raise DataError(problems)
    return train, val
