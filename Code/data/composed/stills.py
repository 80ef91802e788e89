"""The stills that clips are composed of: those of one FER+ split whose votes agree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from Code.data.clips import DataError
from Code.data.ferplus import FERPLUS_LABELS, SIDE, FERPlusSplit, clean_votes

CELL = 8  # pixels; faces are compared by the mean brightness of cells this big


@dataclass(frozen=True)
class Stills:
    """Confidently labelled stills of one split.

    Attributes:
        usage: FER+'s name of the split: Training, PublicTest or PrivateTest.
        images: uint8 [N, 48, 48], grey.
        classes: int64 [N], indices into `FERPLUS_LABELS`.
        by_class: per class, the indices of its stills.
        looks: float32 [N, 36], the coarse brightness pattern that decides which stills look alike.
        left_out: confident stills of this split that were left out, since another split has the same picture.
    """

    usage: str
    images: np.ndarray
    classes: np.ndarray
    by_class: tuple[np.ndarray, ...]
    looks: np.ndarray
    left_out: int

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def digest(self) -> str:
        """Of pixels and classes: composed clips belong to these stills and no others."""
        return hashlib.blake2b(self.images.tobytes() + self.classes.tobytes(), digest_size=8).hexdigest()

    def alike(self, still: int, label: int, candidates: int, rng: np.random.Generator) -> int:
        """A still of class `label` that looks like another one: of some drawn at random the most alike.

        FER+ does not say who is seen. This keeps pose, light and build near; it does not find the same person.
        """
        drawn = rng.choice(self.by_class[label], candidates)
        return int(drawn[np.square(self.looks[drawn] - self.looks[still]).sum(axis=1).argmin()])


def choose_stills(splits: Mapping[str, FERPlusSplit], usage: str, confidence: float) -> Stills:
    """The stills of a split with at least `confidence` of the votes on one emotion, single votes dropped.

    A picture that FER2013 has in several splits counts for the later one only (Training, PublicTest, PrivateTest),
    so that none of a test is trained on.

    Raises:
        DataError: a class has no such still.
    """
    order = list(splits)
    later = {_digest(image) for name in order[order.index(usage) + 1 :] for image in splits[name].images}
    split = splits[usage]
    votes = clean_votes(split.votes)
    total = votes.sum(axis=1)
    emotions = votes[:, : len(FERPLUS_LABELS)]
    top = emotions.max(axis=1)
    sure = (top >= confidence * total) & (2 * top > total)
    alone = np.array([_digest(image) not in later for image in split.images], dtype=bool)
    kept = sure & alone
    images, classes = split.images[kept, 0], emotions[kept].argmax(axis=1)
    by_class = tuple(np.flatnonzero(classes == label) for label in range(len(FERPLUS_LABELS)))
    absent = [name for name, stills in zip(FERPLUS_LABELS, by_class, strict=True) if not len(stills)]
    if absent:
        raise DataError(
            f"fer2013new.csv: {usage} has no still of {', '.join(absent)} with {confidence:.0%} of the votes; "
            "is this all of FER+?"
        )
    cells = SIDE // CELL
    looks = images.reshape(-1, cells, CELL, cells, CELL).mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)
    return Stills(usage, images, classes, by_class, looks, int((sure & ~alone).sum()))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=8).digest()
