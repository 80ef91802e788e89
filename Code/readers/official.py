"""CK+, DFEW, FERV39k and MAFW in their official layouts.

CK+ (Lucey et al., CVPRW 2010), posed sequences from neutral to the apex, evaluated in ten folds. Aligned faces, in the
same layout, may be in `<root>/faces/`, which is then preferred, or in `root` itself, with `Emotion` in it or beside it:

    <root>/cohn-kanade-images/S005/001/S005_001_00000011.png              frames of 593 sequences
    <root>/Emotion/S005/001/S005_001_00000011_emotion.txt                 one number; 327 sequences have one

DFEW (Jiang et al., ACM MM 2020), 16 000 clips, evaluated in five folds. Ids have five digits, labels count from 1:

    <root>/EmoLabel_DataSplit/{train,test}(single-labeled)/set_1.csv      header video_name,label
    <root>/Clip/clip_224x224/00001/<frame>.jpg

FERV39k (Wang et al., CVPR 2022), clips of 22 scenes in one fixed split. Its lists have no header:

    <root>/4_setups/All_scenes/{train,test}_All.csv                       lines `Action/Happy/0267 Happy`
    <root>/2_ClipsforFaceCrop/Action/Happy/0267/<frame>.jpg

MAFW (Liu et al., ACM MM 2022), 10 045 clips, of which 9 172 have one of 11 single expressions, in five folds. Its
compound expressions are not read:

    <root>/Train & Test Set/single/no_caption/set_1/{train,test}.txt      lines `00001.mp4 anger`
    <root>/data/faces/00001/<frame>.jpg                                   or data/frames/
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from glob import glob

from ..common.files import regular
from ..common.names import counted, printable, quoted
from ..data.folds import read_fold_file
from ..data.listing import ListedClip, Listing, class_line
from ..data.request import Request, TrainingProtocol
from .base import Reader
from .tables import SHARED_LABELS

# In the order of the published FAN. CK+ has numbers of its own; no labeled sequence has 0, neutral.
CKPLUS_LABELS = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise")
EMOTION_NUMBERS = {1: "Angry", 2: "Contempt", 3: "Disgust", 4: "Fear", 5: "Happy", 6: "Sad", 7: "Surprise"}
# Settings that the datasets' users share: Former-DFER (Zhao and Liu, ACM MM 2021; main_DFEW.py and main_FERV39K.py of
# github.com/zengqunzhao/Former-DFER) takes 16 frames of a clip, one sample per clip and epoch, SGD at 0.01 with
# momentum 0.9 and weight decay 1e-4, x 0.1 every 40 of 100 epochs, batches of 32.
FORMER_DFER = TrainingProtocol(
    num_frames=16, epochs=100, lr=1e-2, batch_size=32, decay=0.1, decay_at=(40, 80), samples_per_clip=1
)
# DFEW's own order, of numbers from 1, is that of the shared lists; FERV39k's official files contain class names.
DFEW_LABELS = FERV39K_LABELS = SHARED_LABELS
MAFW_LABELS = (*SHARED_LABELS, "Contempt", "Anxiety", "Helplessness", "Disappointment")
_WORDS = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear", *map(str.lower, MAFW_LABELS[7:]))
MAFW_NAMES = dict(zip(_WORDS, MAFW_LABELS, strict=True))  # in the official files -> label


def _scan_ckplus(listing: Listing, request: Request) -> None:
    """Fills in the labeled sequences, named `S005/001`, or those of the fold file, with their persons.

    A fold file has the sequences to read, their classes and folds. `Emotion` must agree if it exists.
    """
    root = request.train_root or ""
    folders = [os.path.join(at, "Emotion") for at in (root, os.path.dirname(os.path.abspath(root)))]
    folder = next(filter(os.path.isdir, folders), folders[0])
    known: dict[str, str] = {}  # class by sequence; the folders of 266 sequences are empty or missing
    for file in sorted(glob("S*/*/*_emotion.txt", root_dir=folder)):
        with open(os.path.join(folder, file), encoding="utf-8", errors="replace", opener=regular) as opened:
            text = opened.read(200).strip()  # `3.0000000e+00`
        if match := re.fullmatch(r"([1-7])(\.0+(e\+00)?)?", text):
            known[os.path.dirname(file).replace(os.sep, "/")] = EMOTION_NUMBERS[int(match[1])]
        else:
            listing.problems.append(
                f"{printable(os.path.join(folder, file))}: {quoted(text)} is not a number from 1 to 7 (0, neutral, is "
                "not a class of the protocol)"
            )
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
        if not known and not listing.problems:
            listing.problems.append(f"{printable(folder)}: no S*/*/*_emotion.txt; the labels belong there")
            listing.advise_layout()
            raise listing.error()
    listing.clips = [clip._replace(person=clip.name.split("/")[0]) for clip in listing.clips]
    sequences = {name.rstrip(os.sep).replace(os.sep, "/") for name in glob("S*/*/", root_dir=listing.root)}
    if unlabeled := len(sequences - {clip.name for clip in listing.clips}):
        listing.notes.append(f"{counted(unlabeled, 'sequence')} without a label not used")


def _dfew_line(line: str, number: int, labels: Sequence[str]) -> ListedClip | None:
    name, _, label = (word.strip(' "') for word in line.partition(","))
    if (name.lower(), label.lower()) == ("video_name", "label"):
        return None
    clip = _clip_number(name)
    if not re.fullmatch(r"[1-7](\.0)?", label):
        raise ValueError(f"label {quoted(label)} is not a number from 1 ({DFEW_LABELS[0]}) to 7 ({DFEW_LABELS[-1]})")
    return ListedClip(clip, labels.index(DFEW_LABELS[int(label[0]) - 1]), number)


def _mafw_line(line: str, number: int, labels: Sequence[str]) -> ListedClip:
    name, _, label = line.partition(" ")
    clip, label = _clip_number(name), label.strip().lower()
    if label not in MAFW_NAMES:
        raise ValueError(f"class {quoted(label)} is not one of {', '.join(MAFW_NAMES)}")
    return ListedClip(clip, labels.index(MAFW_NAMES[label]), number)


def _clip_number(word: str) -> str:
    """The five digits that DFEW and MAFW call a clip by: `12` (of a spreadsheet), `00012.mp4`, `12.0` are `00012`."""
    match = re.fullmatch(r"([0-9]{1,9})(?:\.0|\.mp4)?", word)
    if not match:
        raise ValueError(f"{quoted(word)} is not the number of a clip")
    return match[1].zfill(5)


CKPLUS = Reader(
    name="ckplus",
    title="CK+",
    trained_on="posed sequences from neutral to the apex (CK+)",
    # Paper: learning rate 0.1, x 0.2 after 30 of 60 epochs, whole sequences including the apex.
    protocol=TrainingProtocol(epochs=60, lr=0.1, decay_at=(30,)),
    labels=CKPLUS_LABELS,
    train_root="Data/CKPlus",
    num_folds=10,
    makes_folds=True,
    frame_folders=("faces", "cohn-kanade-images"),
    layout="CK+'s layout is <root>/cohn-kanade-images/S005/001/<frame>.png (or aligned faces in <root>/faces/) "
    "and <root>/Emotion/S005/001/<...>_emotion.txt.",
    scan=_scan_ckplus,
)
DFEW = Reader(
    name="dfew",
    title="DFEW",
    trained_on="film clips (DFEW)",
    protocol=FORMER_DFER,
    crop="own",
    labels=DFEW_LABELS,
    train_root="Data/DFEW",
    train_list="EmoLabel_DataSplit/train(single-labeled)/set_{fold}.csv",
    val_list="EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv",
    num_folds=5,
    frame_folders=("Clip/clip_224x224", "Clip/clip_224x224_16f", "clip_224x224", "clip_224x224_16f"),
    layout="DFEW's layout is <root>/Clip/clip_224x224/00001/<frame>.jpg and "
    "<root>/EmoLabel_DataSplit/{train,test}(single-labeled)/set_1.csv.",
    parse_line=_dfew_line,
)
FERV39K = Reader(
    name="ferv39k",
    title="FERV39k",
    trained_on="video clips (FERV39k)",
    protocol=FORMER_DFER,
    crop="own",
    labels=FERV39K_LABELS,
    train_root="Data/FERV39k",
    train_list="4_setups/All_scenes/train_All.csv",
    val_list="4_setups/All_scenes/test_All.csv",
    frame_folders=("2_ClipsforFaceCrop",),
    layout="FERV39k's layout is <root>/2_ClipsforFaceCrop/Action/Happy/0267/<frame>.jpg and "
    "<root>/4_setups/All_scenes/{train,test}_All.csv.",
    parse_line=partial(class_line, form="<Scene>/<Class>/<clip> <Class>"),
)
MAFW = Reader(
    name="mafw",
    title="MAFW",
    trained_on="clips from films, series and short videos (MAFW)",
    protocol=FORMER_DFER,  # the settings of DFEW
    labels=MAFW_LABELS,
    train_root="Data/MAFW",
    train_list="Train & Test Set/single/no_caption/set_{fold}/train.txt",
    val_list="Train & Test Set/single/no_caption/set_{fold}/test.txt",
    num_folds=5,
    frame_folders=("data/faces", "faces", "data/frames", "frames"),
    layout="MAFW's layout is <root>/data/faces/00001/<frame>.jpg (or data/frames) and "
    "<root>/Train & Test Set/single/no_caption/set_1/{train,test}.txt.",
    parse_line=_mafw_line,
    index_labels=MAFW_LABELS,
)
