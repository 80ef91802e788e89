"""DFEW: 16 000 clips from films, evaluated in five folds.

    <root>/EmoLabel_DataSplit/train(single-labeled)/set_1.csv     header video_name,label; labels 1 to 7
    <root>/EmoLabel_DataSplit/test(single-labeled)/set_1.csv
    <root>/Clip/clip_224x224/00001/<frame>.jpg                    ids of five digits

The reference is Jiang et al., DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the
Wild, ACM MM 2020.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence

from ..common.wording import quoted
from ..data.clips import ClipSet
from ..data.listing import read_listed
from ..data.lists import ListedClip, clip_number, parse_list
from .base import Reader, Request

# In the order of the numbers in the files, which start at 1.
DFEW_LABELS = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
DFEW_TRAIN_LIST = "EmoLabel_DataSplit/train(single-labeled)/set_{fold}.csv"
DFEW_TEST_LIST = "EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv"
FRAME_FOLDERS = ("Clip/clip_224x224", "Clip/clip_224x224_16f", "clip_224x224", "clip_224x224_16f")
_LAYOUT = (
    "DFEW's layout is <root>/Clip/clip_224x224/00001/<frame>.jpg and "
    "<root>/EmoLabel_DataSplit/{train,test}(single-labeled)/set_1.csv."
)


def read_dfew(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] = DFEW_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one official CSV file of DFEW.

    Args:
        root: as above, or the folder with the clips' folders.
        list_file: a set_k.csv.
        labels: the class names, in the order of their indices. The numbers in the file always mean `DFEW_LABELS`.
        skip_empty: skip clips that have no frames instead of raising.

    Returns:
        The clips, named by their five digits.

    Raises:
        DataError: all problems of the list and the folders.
    """
    return read_listed(
        root,
        list_file,
        lambda path: parse_list(
            path, lambda line, number: _parse(line, number, labels), "<clip>,<label>", header="video_name,label"
        ),
        labels,
        skip_empty,
        layout=_LAYOUT,
        frame_folders=FRAME_FOLDERS,
    )


def _parse(line: str, line_number: int, labels: Sequence[str]) -> ListedClip:
    """The clip of a line: a number, and a label from 1."""
    try:
        row = next(csv.reader([line], strict=True))
    except csv.Error:
        row = []
    if len(row) != 2:
        raise ValueError(f"{quoted(line)} is malformed; expected video_name,label")
    name, label = (word.strip() for word in row)
    clip = clip_number(name)
    if not re.fullmatch(r"[1-7](?:\.0)?", label):
        raise ValueError(f"label {quoted(label)} is not a number from 1 ({DFEW_LABELS[0]}) to 7 ({DFEW_LABELS[-1]})")
    return ListedClip(clip, labels.index(DFEW_LABELS[int(label[0]) - 1]), line_number)


reader = Reader(
    "dfew",
    read_dfew,
    Request(
        labels=DFEW_LABELS,
        train_root="Data/DFEW",
        val_root="Data/DFEW",
        train_list=DFEW_TRAIN_LIST,
        val_list=DFEW_TEST_LIST,
        one_root=True,
        num_folds=5,
    ),
)
