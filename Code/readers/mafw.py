"""MAFW: 10 045 clips from films, series and short videos; 9 172 have one of 11 single expressions, in five folds.

    <root>/Train & Test Set/single/no_caption/set_1/train.txt     no header; lines `00001.mp4 anger`
    <root>/Train & Test Set/single/no_caption/set_1/test.txt
    <root>/data/faces/00001/<frame>.jpg                           or data/frames/; numbers of five digits

The reference is Liu et al., MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial
Expression Recognition in the Wild, ACM MM 2022. Its compound expressions are not read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..common.wording import quoted
from ..data.clips import ClipSet
from ..data.listing import read_listed
from ..data.lists import ListedClip, clip_number, parse_list
from .base import Reader, Request
from .sharedlist import SHARED_LABELS

# The order of the shared lists (see `sharedlist`), whose first seven classes are those of DFEW and FERV39k.
MAFW_LABELS = (*SHARED_LABELS, "Contempt", "Anxiety", "Helplessness", "Disappointment")
# Class names in the official files.
_NAMES = {
    "anger": "Angry",
    "disgust": "Disgust",
    "fear": "Fear",
    "happiness": "Happy",
    "neutral": "Neutral",
    "sadness": "Sad",
    "surprise": "Surprise",
    "contempt": "Contempt",
    "anxiety": "Anxiety",
    "helplessness": "Helplessness",
    "disappointment": "Disappointment",
}
MAFW_TRAIN_LIST = "Train & Test Set/single/no_caption/set_{fold}/train.txt"
MAFW_TEST_LIST = "Train & Test Set/single/no_caption/set_{fold}/test.txt"
FRAME_FOLDERS = ("data/faces", "faces", "data/frames", "frames")
_LAYOUT = (
    "MAFW's layout is <root>/data/faces/00001/<frame>.jpg (or data/frames) and "
    "<root>/Train & Test Set/single/no_caption/set_1/{train,test}.txt."
)


def read_mafw(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] = MAFW_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one official list of MAFW's single expressions.

    Args:
        root: as above, or the folder with the clips' folders.
        list_file: a train.txt or test.txt without captions.
        labels: the class names, in the order of their indices.
        skip_empty: skip clips that have no frames instead of raising.

    Returns:
        The clips, named by their five digits.

    Raises:
        DataError: all problems of the list and the folders.
    """
    return read_listed(
        root,
        list_file,
        lambda path: parse_list(path, lambda line, number: _parse(line, number, labels), "<clip>.mp4 <class>"),
        labels,
        skip_empty,
        layout=_LAYOUT,
        frame_folders=FRAME_FOLDERS,
    )


def _parse(line: str, line_number: int, labels: Sequence[str]) -> ListedClip:
    """The clip of a line: a number, and a class."""
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"{quoted(line)} is malformed; expected <clip>.mp4 <class>, as in single/no_caption")
    clip = clip_number(words[0])
    name = _NAMES.get(words[1].lower())
    if name is None:
        raise ValueError(f"class {quoted(words[1])} is not one of {', '.join(_NAMES)}")
    return ListedClip(clip, labels.index(name), line_number)


class MAFW(Reader):
    """MAFW, whose shared lists have more classes than those of other datasets."""

    shared_labels = MAFW_LABELS


reader = MAFW(
    "mafw",
    read_mafw,
    Request(
        labels=MAFW_LABELS,
        train_root="Data/MAFW",
        val_root="Data/MAFW",
        train_list=MAFW_TRAIN_LIST,
        val_list=MAFW_TEST_LIST,
        one_root=True,
        num_folds=5,
    ),
)
