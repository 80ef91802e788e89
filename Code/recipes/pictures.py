"""Labeled face pictures to pretrain on. Each is a clip of one frame.

EXTRA/<emotion>/<image>, EXTRA/unlabeled/<image>           `--extra`: faces beside those of FER+

<root>/train/<Class>/<image>, <root>/val/<Class>/<image>   `--dataset folders`: the folders give the split
<root>/<Class>/<image>, and a list                         a plain list with the column split, and maybe person
<root>/<Class>/<image>                                     a part of the pictures is held out
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

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
from ..readers.ferplus import SIDE, FERPlusSplit, majority_targets, soft_targets
from ..readers.tables import parse_table
from . import Recipe

UNLABELED = "unlabeled"
MAX_SIDE = 128  # pixels, of faces of `--extra`; larger pictures are shrunk to it
TRAIN_FOLDERS = ("train", "Train", "training")
VAL_FOLDERS = ("val", "valid", "validation", "Val", "test", "Test")
LAYOUT = "Pictures belong in <root>/<Class>/<image>.jpg, or in <root>/train/<Class>/ and <root>/val/<Class>/."


def ferplus_faces(split: FERPlusSplit, rule: str) -> tuple[FrameTable, Tensor]:
    """The images of a split that a rule keeps, uint8 [N, 1, 48, 48], and what it makes of their votes.

    The rule "votes" makes class probabilities of them, "majority" the class that has more than half of the votes, and
    "plurality" the most voted class, of all images whose most voted label is an emotion.
    """
    if rule == "plurality":
        kept = (split.votes.argmax(axis=1) < len(FERPLUS_LABELS)) & (split.votes.sum(axis=1) > 0)
        votes = split.votes[:, : len(FERPLUS_LABELS)]
    else:
        votes, kept = (majority_targets if rule == "majority" else soft_targets)(split.votes)
    if not kept.any():
        raise DataError(f"fer2013new.csv: the rule of {rule} keeps none of {len(kept)} images of a split")
    split, targets = split.only(kept), torch.from_numpy(votes[kept])
    return _table(targets if rule == "votes" else targets.argmax(dim=1), split.names), torch.from_numpy(split.images)


def _table(targets: Tensor, names: Sequence[str]) -> FrameTable:
    return FrameTable(np.ones(len(names), dtype=np.int64), targets, names, FERPLUS_LABELS)


def with_extra(table: FrameTable, images: Tensor, recipe: Recipe) -> tuple[FrameTable, Tensor]:
    """FER+'s faces with those of `--extra`, all in one size. Those without a label have the targets 0."""
    side = min(max(recipe.image_size, SIDE), MAX_SIDE)
    labels = (*FERPLUS_LABELS, UNLABELED)
    clips = [clip for root in recipe.extra for clip in read_tree(root, labels).clips]
    if not recipe.teachers:
        clips = [clip for clip in clips if labels[clip.label] != UNLABELED]
    extra = ClipSet(clips, labels, ", ".join(recipe.extra))
    (store,), _ = open_stores([extra], side, torch.device("cpu"), cache="memory", gray=True)
    targets = F.one_hot(torch.tensor([clip.label for clip in clips], dtype=torch.int64), len(labels))[:, :-1].float()
    labeled = int(targets.sum())
    print(f"extra: {labeled} labeled and {len(clips) - labeled} unlabeled faces from {extra.root}")
    if side != SIDE:
        parts = [F.interpolate(part.float(), (side, side), mode="bilinear") for part in images.split(1024)]
        images = torch.cat([part.round_().to(torch.uint8) for part in parts])
    images = torch.cat([images, store.read(np.arange(len(clips)))[:, :1]])  # of three equal channels
    return _table(torch.cat([table.targets, targets]), [*table.names, *(clip.name for clip in clips)]), images


def read_pictures(recipe: Recipe) -> tuple[ClipSet, ClipSet, str]:
    """Pictures to train and validate on, and how they were split. DataError: all problems of folders or list."""
    root = str(recipe.data_root)
    if recipe.data_list is not None:
        return *_listed(root, recipe.data_list), f"the list {os.path.basename(recipe.data_list)}"
    train, val = (
        next((name for name in names if os.path.isdir(os.path.join(root, name))), None)
        for names in (TRAIN_FOLDERS, VAL_FOLDERS)
    )
    if not train or not val:
        return _held_out(read_tree(root), recipe)
    clips = read_tree(os.path.join(root, train))
    return clips, read_tree(os.path.join(root, val), clips.labels), f"the folders {train} and {val}"


def read_tree(root: str, labels: tuple[str, ...] = ()) -> ClipSet:
    """All of `<root>/<Class>/<image>`. `labels` are the only classes that there may be; none: every folder is one."""
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


def _held_out(clips: ClipSet, recipe: Recipe) -> tuple[ClipSet, ClipSet, str]:
    """A random split, by persons if the pictures' names tell them, and if persons are not the classes."""
    if recipe.person_pattern:
        clips = name_persons(clips, recipe.person_pattern)
    clips = clips.mapped(lambda clip: replace(clip, person=clip.person or person_in(clip.name)))
    pairs = {(clip.person, clip.label) for clip in clips.clips}
    persons = {person for person, _ in pairs}
    if "" in persons or len(pairs) == len(persons):  # holding out persons would hold out classes
        clips = clips.mapped(lambda clip: replace(clip, person=""))
    try:
        train, val, how = hold_out(clips, recipe.seed, recipe.val_share)
    except DataError:  # its advice is for clips
        raise DataError(f"{printable(clips.root)}: too few pictures or persons to hold some out. {LAYOUT}") from None
    absent = set(range(len(clips.labels))) - {clip.label for clip in train.clips}
    if absent:
        what = f"all pictures of {printable(clips.labels[min(absent)])} are held out"
        raise DataError(f"{printable(clips.root)}: {what}; try another --seed or a smaller --val-share")
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
    for label in validated - trained:
        problems.append(f"{path}: class {quoted(listed.labels[label])} has no training picture")
    persons, others = ({clip.person for clip in part.clips} - {""} for part in (train, val))
    problems += [f"{path}: {quoted(person)} is in train and in val" for person in sorted(persons & others)]
    if not val.clips:
        problems.append(f"{path}: no picture of split val")
    if problems:
        raise DataError(problems)
    return train, val
