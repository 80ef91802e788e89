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
from collections.abc import Sequence
from dataclasses import replace

from ..common.errors import UsageError
from ..common.files import regular
from ..common.wording import counted, printable, quoted
from ..data.clips import ClipSet
from ..data.folds import read_fold_file
from ..data.listing import Report, list_folder, read_clips, require_root
from ..data.lists import ListedClip
from .base import Labels, Reader, Request

# In the order of the published FAN. CK+ has numbers of its own; no labeled sequence has 0, neutral.
CKPLUS_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise")
EMOTION_NUMBERS = {1: "Angry", 2: "Contempt", 3: "Disgust", 4: "Fear", 5: "Happy", 6: "Sad", 7: "Surprise"}
FRAME_FOLDERS = ("faces", "cohn-kanade-images")
_SUBJECT = re.compile(r"S\d+")
_LAYOUT = (
    "CK+'s layout is <root>/cohn-kanade-images/S005/001/<frame>.png (or aligned faces in <root>/faces/) "
    "and <root>/Emotion/S005/001/<...>_emotion.txt."
)


def read_ckplus(
    root: str | os.PathLike[str],
    fold_file: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] = CKPLUS_LABELS,
    skip_empty: bool = False,
) -> ClipSet:
    """Reads the labeled sequences of CK+ with all of their frames.

    Args:
        root: as above.
        fold_file: a file in the published format (see `Code.data.folds`) with the sequences to read, their classes
            and folds. `Emotion` must agree if it exists. None reads the sequences that `Emotion` labels.
        labels: the class names, in the order of their indices.
        skip_empty: skip sequences that have no frames instead of raising.

    Returns:
        The sequences, named `S005/001`, with their persons, in the order of names or of the fold file.

    Raises:
        DataError: all problems of the labels and the folders.
    """
    root = os.fspath(root)
    report = Report(root, layout=_LAYOUT)
    require_root(root, report, labels)
    frames = next((path for name in FRAME_FOLDERS if os.path.isdir(path := os.path.join(root, name))), root)
    emotions = _emotion_folder(root)
    known: dict[str, str] | None = None
    if emotions is not None:
        known = _read_emotions(emotions, report)
    if fold_file is not None:
        fold_file = os.fspath(fold_file)
        listed, problems = read_fold_file(fold_file, labels)
        report.problems += problems
        for item in listed:
            said = (known or {}).get(item.name, labels[item.label])
            if said != labels[item.label]:
                here = f"{fold_file}, line {item.line}: {item.name} is {labels[item.label]}"
                report.problems.append(f"{here} in this file, but {said} in {emotions}")
        listed = [item._replace(person=item.name.split("/")[0]) for item in listed]
    elif known is None:
        report.problems.append(f"{printable(os.path.join(root, 'Emotion'))}: no such folder; the labels belong there")
        report.advise_layout(root, labels)
        raise report.error()
    else:
        if not known and not report.problems:
            report.problems.append(f"{printable(str(emotions))}: no *_emotion.txt in S*/*/; the labels belong there")
            report.advise_layout(root, labels)
        listed = [ListedClip(name, labels.index(emotion), person=name.split("/")[0]) for name, emotion in known.items()]
    unlabeled = len(set(_sequences(frames, report)) - {item.name for item in listed})
    clips = read_clips(frames, listed, labels, skip_empty, report, fold_file or "")
    if unlabeled:
        clips.notes.append(f"{counted(unlabeled, 'sequence')} without a label not used")
    return clips


def _emotion_folder(root: str) -> str | None:
    places = (root, os.path.dirname(os.path.abspath(root)))
    return next((path for place in places if os.path.isdir(path := os.path.join(place, "Emotion"))), None)


def _sequences(folder: str, report: Report) -> list[str]:
    """The names of all sequences of a tree, `S005/001`, ..., in natural order."""
    found = []
    for subject in _folders(folder, report):
        if _SUBJECT.fullmatch(subject):
            found += [f"{subject}/{number}" for number in _folders(os.path.join(folder, subject), report)]
    return found


def _folders(path: str, report: Report) -> list[str]:
    try:
        return list_folder(path, report.problems)[0]
    except OSError as error:
        report.add_folder(path, error)
        return []


def _read_emotions(folder: str, report: Report) -> dict[str, str]:
    """Class by sequence. 266 of 593 sequences have no label: their folder is empty or missing."""
    found: dict[str, str] = {}
    for name in _sequences(folder, report):
        path = os.path.join(folder, *name.split("/"))
        try:
            files = sorted(file for file in os.listdir(path) if file.endswith("_emotion.txt") and file[0] != ".")
        except OSError as error:
            report.add_folder(path, error)
            continue
        if len(files) > 1:
            report.problems.append(f"{printable(path)}: {len(files)} labels, {', '.join(files)}; keep one")
        elif files:
            try:
                found[name] = _emotion_in(os.path.join(path, files[0]))
            except ValueError as error:
                report.problems.append(f"{printable(os.path.join(path, files[0]))}: {error}")
            except OSError as error:
                report.problems.append(f"{printable(os.path.join(path, files[0]))}: cannot be read ({error.strerror})")
    return found


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


class CKPlus(Reader):
    """CK+ is evaluated in folds: its own ten, or those of a fold file."""

    makes_folds = True

    def locate(self, request: Request) -> Request:
        request = super().locate(request)
        lists = request.train_list or request.val_list, request.val_list or request.train_list
        return replace(request, train_list=lists[0], val_list=lists[1])

    def read_all(self, request: Request, labels: Labels = None) -> ClipSet:
        if request.train_list:
            return super().read_all(request, labels)
        return read_ckplus(
            request.train_root,
            request.fold_file,
            labels=labels or request.labels or CKPLUS_LABELS,
            skip_empty=request.skip_empty,
        )

    def read_split(self, request: Request, split: str, labels: Labels) -> ClipSet:
        raise UsageError("--dataset ckplus: is evaluated in folds; add --fold N or --fold all")


reader = CKPlus(
    "ckplus",
    None,
    Request(labels=CKPLUS_LABELS, train_root="Data/CKPlus", val_root="Data/CKPlus", one_root=True, num_folds=10),
)
