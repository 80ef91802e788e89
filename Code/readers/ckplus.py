"""CK+ (extended Cohn-Kanade): posed sequences from neutral to the apex, with labels in a separate tree.

    <root>/cohn-kanade-images/S005/001/S005_001_00000011.png      frames of 593 sequences
    <root>/Emotion/S005/001/S005_001_00000011_emotion.txt         one number; 327 sequences have one

Aligned faces, in the same layout, may be in `<root>/faces/`, which is then preferred, or in `root` itself, with
`Emotion` in it or beside it. The reference is Lucey et al., The Extended Cohn-Kanade Dataset (CK+), CVPRW 2010.
"""

from __future__ import annotations

import os
import re

from ..common.files import regular
from ..common.names import counted, printable, quoted
from ..data.folds import read_fold_file
from ..data.listing import ListedClip, Listing
from ..data.request import Protocol, Request
from .base import Reader

# In the order of the published FAN. CK+ has numbers of its own; no labeled sequence has 0, neutral.
CKPLUS_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise")
EMOTION_NUMBERS = {1: "Angry", 2: "Contempt", 3: "Disgust", 4: "Fear", 5: "Happy", 6: "Sad", 7: "Surprise"}


def _scan_ckplus(listing: Listing, request: Request) -> None:
    """Fills in the labeled sequences, named `S005/001`, or those of the fold file, with their persons.

    A fold file has the sequences to read, their classes and folds. `Emotion` must agree if it exists.
    """
    root = request.train_root or ""
    folders = [os.path.join(at, "Emotion") for at in (root, os.path.dirname(os.path.abspath(root)))]
    folder = next(filter(os.path.isdir, folders), folders[0])
    known = _read_emotions(folder, listing)
    if request.fold_file:
        listing.list_file = request.fold_file
        read_fold_file(listing)
        for clip in listing.clips:
            label = listing.labels[clip.label]
            if known.get(clip.name, label) != label:
                listing.problems.append(
                    f"{request.fold_file}, line {clip.line}: {clip.name} is {label} in this file, but "
                    f"{known[clip.name]} in {folder}"
                )
    else:
        listing.clips = [ListedClip(name, listing.labels.index(emotion)) for name, emotion in known.items()]
        if not known:
            listing.problems.append(f"{printable(folder)}: no S*/*/*_emotion.txt; the labels belong there")
            listing.advise_layout()
            raise listing.error()
    listing.clips = [clip._replace(person=clip.name.split("/")[0]) for clip in listing.clips]
    if unlabeled := len({*_sequences(listing, listing.root)} - {clip.name for clip in listing.clips}):
        listing.notes.append(f"{counted(unlabeled, 'sequence')} without a label not used")


def _sequences(listing: Listing, folder: str) -> list[str]:
    """The names of all sequences of a tree, `S005/001`, ..., in natural order."""
    subjects = [name for name in listing.contents(folder)[0] if re.fullmatch(r"S\d+", name)]
    return [f"{name}/{number}" for name in subjects for number in listing.contents(os.path.join(folder, name))[0]]


def _read_emotions(folder: str, listing: Listing) -> dict[str, str]:
    """Class by sequence. 266 of 593 sequences have no label: their folder is empty or missing."""
    emotions: dict[str, str] = {}
    for name in _sequences(listing, folder) if os.path.isdir(folder) else ():
        for file in sorted(os.listdir(os.path.join(folder, name))):
            if not file.endswith("_emotion.txt") or file.startswith("."):
                continue
            path = os.path.join(folder, name, file)
            with open(path, encoding="utf-8", errors="replace", opener=regular) as opened:
                text = opened.read(200).strip()
            if name in emotions:
                listing.problems.append(f"{printable(path)}: a second label of this sequence; keep one")
            elif match := re.fullmatch(r"([1-7])(\.0+(e\+00)?)?", text):  # `3.0000000e+00`
                emotions[name] = EMOTION_NUMBERS[int(match[1])]
            else:
                listing.problems.append(
                    f"{printable(path)}: {quoted(text)} is not a number from 1 to 7 (0, neutral, is not a class of the "
                    "protocol)"
                )
    return emotions


CKPLUS = Reader(
    name="ckplus",
    title="CK+",
    trained_on="posed sequences from neutral to the apex (CK+)",
    # Paper: learning rate 0.1, x 0.2 after 30 of 60 epochs, whole sequences including the apex.
    protocol=Protocol(epochs=60, lr=0.1, decay_at=(30,)),
    labels=CKPLUS_LABELS,
    train_root="Data/CKPlus",
    num_folds=10,
    makes_folds=True,
    frame_folders=("faces", "cohn-kanade-images"),
    layout="CK+'s layout is <root>/cohn-kanade-images/S005/001/<frame>.png (or aligned faces in <root>/faces/) "
    "and <root>/Emotion/S005/001/<...>_emotion.txt.",
    scan=_scan_ckplus,
)
