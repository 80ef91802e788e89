"""FERV39k: clips of 22 scenes in one fixed split.

    <root>/4_setups/All_scenes/train_All.csv      no header; lines `Action/Happy/0267 Happy`
    <root>/4_setups/All_scenes/test_All.csv
    <root>/2_ClipsforFaceCrop/Action/Happy/0267/<frame>.jpg

The reference is Wang et al., FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in
Videos, CVPR 2022.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..data.clips import ClipSet
from ..data.listing import read_listed
from ..data.lists import read_list
from .base import Reader, Request

# The order of the shared lists (see `sharedlist`); the official files contain class names.
FERV39K_LABELS = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
FERV39K_TRAIN_LIST = "4_setups/All_scenes/train_All.csv"
FERV39K_TEST_LIST = "4_setups/All_scenes/test_All.csv"
FRAME_FOLDERS = ("2_ClipsforFaceCrop",)
_LAYOUT = (
    "FERV39k's layout is <root>/2_ClipsforFaceCrop/Action/Happy/0267/<frame>.jpg and "
    "<root>/4_setups/All_scenes/{train,test}_All.csv."
)


def read_ferv39k(
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str],
    *,
    labels: Sequence[str] = FERV39K_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads one official list of FERV39k. It has no header.

    Args:
        root: as above, or the folder with the scenes' folders.
        list_file: a list of any setup.
        labels: the class names, in the order of their indices.
        skip_empty: skip clips that have no frames instead of raising.

    Raises:
        DataError: all problems of the list and the folders.
    """
    return read_listed(
        root,
        list_file,
        lambda path: read_list(path, labels, "<Scene>/<Class>/<clip> <Class>", "correct the path"),
        labels,
        skip_empty,
        layout=_LAYOUT,
        frame_folders=FRAME_FOLDERS,
    )


reader = Reader(
    "ferv39k",
    read_ferv39k,
    Request(
        labels=FERV39K_LABELS,
        train_root="Data/FERV39k",
        val_root="Data/FERV39k",
        train_list=FERV39K_TRAIN_LIST,
        val_list=FERV39K_TEST_LIST,
        one_root=True,
    ),
)
