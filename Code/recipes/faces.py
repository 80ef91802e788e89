"""Faces in memory to pretrain on: the images of FER+, and folders of further face crops.

    EXTRA/<emotion>/<image>     emotion: one of the eight classes of FER+
    EXTRA/unlabeled/<image>     for `--teachers`, which give the labels

All are gray and square.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..common.names import FERPLUS_LABELS
from ..data.batches import ArrayStore, FrameTable
from ..data.clips import DataError
from ..data.images import read_image
from ..readers.ferplus import FERPlusSplit, majority_targets, soft_targets
from .pictures import read_tree

UNLABELED = "unlabeled"
MAX_SIDE = 128  # pixels; larger pictures are shrunk to it


@dataclass
class Faces:
    """Gray faces with labels of FER+.

    Attributes:
        images: uint8 [N, 1, side, side].
        targets: float32 [N, 8] class probabilities, zeros without a label; or int64 [N] class indices.
        names: file name of each image.
    """

    images: Tensor
    targets: Tensor
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def labeled(self) -> Faces:
        """Those with a label."""
        rows = self.targets.sum(dim=1).nonzero()[:, 0]
        return Faces(self.images[rows], self.targets[rows], [self.names[row] for row in rows.tolist()])

    def table(self) -> FrameTable:
        """The faces as clips of one frame."""
        ones = np.ones(len(self), dtype=np.int64)
        return FrameTable(ones, self.targets, self.names, FERPLUS_LABELS, len(self), [])

    def store(self) -> ArrayStore:
        """Their pixels."""
        return ArrayStore(self.images)


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
    targets = torch.from_numpy(votes[kept])
    names = [name for name, keep in zip(split.names, kept, strict=True) if keep]
    return Faces(torch.from_numpy(split.images[kept]), targets if rule == "votes" else targets.argmax(dim=1), names)


def read_extra(roots: Sequence[str], side: int, workers: int = 2) -> Faces:
    """Reads folders of face crops, in gray; faces in the folder `unlabeled` get the targets 0.

    Args:
        roots: each has a folder per emotion, and may have `unlabeled`.
        side: to resize them to, in pixels.

    Raises:
        DataError: a folder has another name, a picture cannot be read, or a root has no pictures.
    """
    clips = [clip for root in roots for clip in read_tree(root, (*FERPLUS_LABELS, UNLABELED)).clips]
    images = np.empty((len(clips), 1, side, side), dtype=np.uint8)

    def decode(index: int) -> str | None:
        try:
            picture = Image.fromarray(read_image(clips[index].path(0))).convert("L")
        except DataError as error:
            return str(error)
        images[index, 0] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        problems = [problem for problem in pool.map(decode, range(len(clips))) if problem]
    if problems:
        raise DataError(problems)
    labels = torch.tensor([clip.label for clip in clips])
    targets = F.one_hot(labels, len(FERPLUS_LABELS) + 1)[:, :-1].float()
    return Faces(torch.from_numpy(images), targets, [clip.name for clip in clips])


def joined(faces: Faces, extra: Faces) -> Faces:
    """Faces with class probabilities, resized to the side of the extra ones, and those."""
    images = torch.cat([resized(faces.images, extra.images.shape[-1]), extra.images])
    return Faces(images, torch.cat([faces.targets, extra.targets]), faces.names + extra.names)


def resized(images: Tensor, side: int) -> Tensor:
    """Resizes uint8 images [N, channels, H, W] to a square."""
    if images.shape[-2:] == (side, side):
        return images
    shrinks = side < images.shape[-1]
    parts = [
        F.interpolate(part.float(), (side, side), mode="bilinear", align_corners=False, antialias=shrinks)
        for part in images.split(1024)
    ]
    return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])
