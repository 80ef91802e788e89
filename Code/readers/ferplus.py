"""FER+: grayscale faces of 48 x 48 pixels, each with the votes of ten annotators. Stills, so not a reader of clips.

The votes and the rules are from Barsoum, Zhang, Canton Ferrer, Zhang: Training Deep Networks for Facial Expression
Recognition with Crowd-Sourced Label Distribution, ICMI 2016 (arXiv 1608.01041). The images are those of FER2013, as
`fer2013.csv` or as the PNG folders that the FER+ tools write.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.files import regular
from ..common.names import FERPLUS_LABELS
from ..data.clips import DataError
from ..data.images import open_image

VOTE_COLUMNS = (*FERPLUS_LABELS, "unknown", "NF")
# Usage in the CSV files -> folder of the PNG files
SPLITS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
SIDE = 48


@dataclass
class FERPlusSplit:
    """One split as it is in the files, before any rule is applied."""

    images: np.ndarray  # uint8 [N, 1, 48, 48]
    votes: np.ndarray  # float32 [N, 10], in the order of `VOTE_COLUMNS`
    names: list[str]  # file name of each image

    def only(self, kept: np.ndarray) -> FERPlusSplit:
        """Some of its images, by bool [N]."""
        names = [name for name, keep in zip(self.names, kept, strict=True) if keep]
        return FERPlusSplit(self.images[kept], self.votes[kept], names)

    def copies_of(self, *others: FERPlusSplit) -> np.ndarray:
        """Which images are, to the pixel, in one of the other splits, too: bool [N]. FER2013 has some hundreds."""
        seen = {image.tobytes() for other in others for image in other.images}
        return np.array([image.tobytes() in seen for image in self.images], dtype=bool)


def clean_votes(votes: np.ndarray) -> np.ndarray:
    """Votes [N, 10] without single ones, float32: the paper treats an emotion with one vote as an outlier."""
    return np.where(votes > 1, votes, 0).astype(np.float32)


def soft_targets(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's targets for cross-entropy: shares of the emotions with the most votes.

    Single votes are dropped first. The emotions with the most votes are taken, at most three, until they cover three
    quarters of the votes. An image is dropped if they have half of the votes or fewer, or if its strongest label is
    `unknown` or `NF` (no face).

    Args:
        votes: float [N, 10].

    Returns:
        Targets float32 [N, 8], each row summing to one (zero if dropped), and kept bool [N].
    """
    votes = clean_votes(votes)
    total = votes.sum(axis=1, keepdims=True)
    order = np.argsort(-votes, axis=1, kind="stable")
    ranked = np.take_along_axis(votes, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    taken_ranked = (before < 0.75 * total) & (np.arange(votes.shape[1]) < 3) & (ranked > 0)
    # `unknown` and `NF` are not emotions and end the list.
    ended = np.cumsum(order >= len(FERPLUS_LABELS), axis=1) > 0
    ended[:, 0] = False
    taken = np.zeros_like(votes, dtype=bool)
    np.put_along_axis(taken, order, taken_ranked & ~ended, axis=1)
    return _normalized(votes * taken, total)


def majority_targets(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The emotion with more than half of the votes, after single votes are dropped: what the paper evaluates on.

    Args and results are those of `soft_targets`, with one 1 in each row.
    """
    votes = clean_votes(votes)
    total = votes.sum(axis=1, keepdims=True)
    return _normalized(votes * (votes > 0.5 * total), total)


def _normalized(taken: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and kept, from the votes that are taken [N, 10] and the number of all votes [N, 1]."""
    shares = taken[:, : len(FERPLUS_LABELS)]
    sums = shares.sum(axis=1, keepdims=True)
    kept = (taken.sum(axis=1) > 0.5 * total[:, 0]) & (taken.argmax(axis=1) < len(FERPLUS_LABELS)) & (sums[:, 0] > 0)
    targets = np.divide(shares, sums, out=np.zeros_like(shares), where=kept[:, None])
    return targets.astype(np.float32), kept


def read_ferplus(root: Path, workers: int = 2) -> dict[str, FERPlusSplit]:
    """Reads all three splits, by their names in FER2013: Training, PublicTest, PrivateTest.

    Args:
        root: contains `fer2013new.csv`, and either `fer2013.csv` or the folders FER2013Train, FER2013Valid and
            FER2013Test.
        workers: threads that decode PNG files.

    Raises:
        DataError: everything that is missing or malformed.
    """
    votes_file, pixels_file = root / "fer2013new.csv", root / "fer2013.csv"
    folders = [] if pixels_file.is_file() else [root / folder for folder in SPLITS.values()]
    if absent := [path for path in (votes_file, *folders) if not path.exists()]:
        raise DataError([f"{path}: missing; see Data/README.md" for path in absent])
    usages, names, votes = _read_votes(votes_file)
    images = _read_folders(root, usages, names, workers) if folders else _read_pixels(pixels_file, usages)
    splits = {}
    for usage in SPLITS:
        members = (usages == usage) & (names != "")  # a line without a file name is an image without a face
        splits[usage] = FERPlusSplit(images[members], votes[members], names[members].tolist())
    return splits


def _lines(path: Path, *columns: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of a CSV file: where each stands, for messages, and its values by column."""
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=regular) as file:
            reader = csv.DictReader(file, restval="")
            if absent := set(columns) - set(reader.fieldnames or ()):
                raise DataError(f"{path}, line 1: columns missing: {', '.join(sorted(absent))}")
            for number, row in enumerate(reader, start=2):
                yield f"{path}, line {number}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error}); download it again") from None


def _read_votes(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all lines of fer2013new.csv: usage and file name, str [rows], and votes, float32 [rows, 10]."""
    usages, names, votes, problems = [], [], [], []
    for where, line in _lines(path, "Usage", "Image name", *VOTE_COLUMNS):
        values = [line[column].strip() for column in VOTE_COLUMNS]
        if line["Usage"] in SPLITS and all(re.fullmatch(r"([0-9]|10)(\.0+)?", value) for value in values):
            usages.append(line["Usage"])
            names.append(line["Image name"].strip())
            votes.append(list(map(float, values)))
        else:
            problems.append(f"{where}: expected one of {', '.join(SPLITS)}, and ten votes from 0 to 10")
    named = {usage for usage, name in zip(usages, names, strict=True) if name}
    if empty := [usage for usage in SPLITS if usage not in named and not problems]:
        problems.append(f"{path}: has no image with a name for {', '.join(empty)}; download it again")
    if problems:
        raise DataError(problems)
    return np.array(usages), np.array(names), np.array(votes, dtype=np.float32)


def _read_folders(root: Path, usages: np.ndarray, names: np.ndarray, workers: int) -> np.ndarray:
    """The images of the PNG folders, uint8 [rows, 1, 48, 48]; undefined where a row has no name."""
    images = np.empty((len(names), 1, SIDE, SIDE), dtype=np.uint8)

    def decode(index: int) -> str | None:
        path = root / SPLITS[usages[index]] / names[index]
        try:
            with open_image(str(path)) as image:
                if image.size != (SIDE, SIDE):
                    return f"{path}: {image.size[0]} x {image.size[1]} pixels, FER2013 has {SIDE} x {SIDE}"
                images[index, 0] = np.asarray(image.convert("L"))
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        if problems := list(filter(None, pool.map(decode, np.flatnonzero(names != "")))):
            raise DataError(problems)
    return images


def _read_pixels(path: Path, usages: np.ndarray) -> np.ndarray:
    """The same from `fer2013.csv`, whose lines are in the order of those of `fer2013new.csv`."""
    images, problems = [], []
    for index, (where, line) in enumerate(_lines(path, "pixels", "Usage")):
        if index < len(usages) and line["Usage"] != usages[index]:
            problems.append(f"{where}: Usage {line['Usage']!r}, fer2013new.csv says {str(usages[index])!r}")
            continue
        try:
            images.append(np.array(line["pixels"].split(), dtype=np.uint8).reshape(1, SIDE, SIDE))
        except (ValueError, OverflowError):
            problems.append(f"{where}: {SIDE * SIDE} pixels of 0 to 255 expected")
    if len(images) != len(usages) and not problems:
        problems.append(f"{path}: {len(images)} images, fer2013new.csv has {len(usages)} lines")
    if problems:
        raise DataError(problems)
    return np.stack(images)
