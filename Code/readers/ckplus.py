"""CK+ (extended Cohn-Kanade): posed sequences from neutral to the apex, with labels in a separate tree.

    <root>/cohn-kanade-images/S005/001/S005_001_00000011.png      frames of 593 sequences
    <root>/Emotion/S005/001/S005_001_00000011_emotion.txt         one number; 327 sequences have one

Aligned faces, in the same layout, may be in `<root>/faces/`, which is then preferred, or in `root` itself, with
`Emotion` in it or beside it. The reference is Lucey et al., The Extended Cohn-Kanade Dataset (CK+), CVPRW 2010.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace

from ..common.errors import UsageError
from ..common.files import regular
from ..common.names import counted, printable, quoted
from ..data.clips import ClipSet
from ..data.folds import read_fold_file
from ..data.listing import ListedClip, Listing
from ..data.request import Protocol, Request
from .base import Labels, Reader, Sources

# In the order of the published FAN. CK+ has numbers of its own; no labeled sequence has 0, neutral.
CKPLUS_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise")
EMOTION_NUMBERS = {1: "Angry", 2: "Contempt", 3: "Disgust", 4: "Fear", 5: "Happy", 6: "Sad", 7: "Surprise"}


class CKPlus(Reader):
    """CK+ is evaluated in folds: its own ten, or those of a fold file in the published format."""

    def sources(self, request: Request) -> Sources:
        train, val = request.train_list or request.val_list, request.val_list or request.train_list
        return super().sources(replace(request, train_list=train, val_list=val))

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        return super().read_all(request, labels) if self.sources(request).train_list else self.read(request, None)

    def scan_folders(self, listing: Listing, request: Request, split: str | None) -> None:
        """Fills in the labeled sequences, named `S005/001`, or those of the fold file, with their persons.

        A fold file has the sequences to read, their classes and folds. `Emotion` must agree if it exists.
        """
        if split is not None:
            raise UsageError("--dataset ckplus: is evaluated in folds; add --fold N or --fold all")
        listing.require_root()
        root = self.sources(request).train_root
        places = [os.path.join(at, "Emotion") for at in (root, os.path.dirname(os.path.abspath(root)))]
        emotions = next(filter(os.path.isdir, places), None)
        known = _read_emotions(emotions, listing) if emotions else {}
        if request.fold_file:
            listing.list_file = request.fold_file
            read_fold_file(listing)
            for item in listing.clips:
                name, label = item.name, listing.labels[item.label]
                if known.get(name, label) != label:
                    listing.problems.append(
                        f"{request.fold_file}, line {item.line}: {name} is {label} in this file, but {known[name]} in "
                        f"{emotions}"
                    )
        else:
            listing.clips = [ListedClip(name, listing.labels.index(emotion)) for name, emotion in known.items()]
            if not emotions:
                path = printable(os.path.join(root, "Emotion"))
                listing.problems.append(f"{path}: no such folder; the labels belong there")
            elif not known and not listing.problems:
                listing.problems.append(f"{printable(emotions)}: no *_emotion.txt in S*/*/; the labels belong there")
            if not known:
                listing.advise_layout()
                raise listing.error()
        listing.clips = [item._replace(person=item.name.split("/")[0]) for item in listing.clips]
        unlabeled = len(set(_sequences(listing, listing.root)) - {item.name for item in listing.clips})
        if unlabeled:
            listing.notes.append(f"{counted(unlabeled, 'sequence')} without a label not used")


def _sequences(listing: Listing, folder: str) -> list[str]:
    """The names of all sequences of a tree, `S005/001`, ..., in natural order."""
    subjects = [name for name in listing.contents(folder)[0] if re.fullmatch(r"S\d+", name)]
    return [f"{name}/{number}" for name in subjects for number in listing.contents(os.path.join(folder, name))[0]]


def _read_emotions(folder: str, listing: Listing) -> dict[str, str]:
    """Class by sequence. 266 of 593 sequences have no label: their folder is empty or missing."""
    emotions: dict[str, str] = {}
    for name in _sequences(listing, folder):
        path = os.path.join(folder, *name.split("/"))
        try:
            files = sorted(file for file in os.listdir(path) if file.endswith("_emotion.txt") and file[0] != ".")
        except OSError as error:
            listing.add_unreadable(path, error)
            continue
        if len(files) > 1:
            listing.problems.append(f"{printable(path)}: {len(files)} labels, {', '.join(files)}; keep one")
        for file in files[:1]:
            try:
                emotions[name] = _emotion_in(os.path.join(path, file))
            except (OSError, ValueError) as error:
                what = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
                listing.problems.append(f"{printable(os.path.join(path, file))}: {what}")
    return emotions


def _emotion_in(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace", opener=regular) as file:
        text = file.read(200).strip()
    try:
        number = float(text)  # `   3.0000000e+00`
    except ValueError:
        number = math.nan
    if number not in EMOTION_NUMBERS:
        neutral = "; 0 is neutral, which is not a class of the protocol" if number == 0 else ""
        raise ValueError(f"{quoted(text)} is not a number from 1 to 7{neutral}")
    return EMOTION_NUMBERS[int(number)]


CKPLUS = CKPlus(
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
)
