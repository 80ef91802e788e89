"""Stub trees in the official layouts of the datasets: with real file names and labels, but empty images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from Code.data.clips import ClipSet
from Code.data.request import Request
from Code.readers import find

CKPLUS_FOLD_SIZES = (33, 39, 40, 35, 30, 37, 29, 29, 33, 22)
CKPLUS_CLASS_SIZES = {1: 45, 2: 18, 3: 59, 4: 25, 5: 69, 6: 28, 7: 83}  # in CK+'s own numbers
SUBJECTS = [f"S{number:03d}" for number in (*range(5, 111), *range(130, 138), 501, 502, 895, 999)]


def stub_clip(folder: Path, frames: int | list[str] = 3, *, first: int = 1, digits: int = 3) -> Path:
    """A clip's folder with empty files."""
    folder.mkdir(parents=True)
    names = [f"{first + i:0{digits}d}.jpg" for i in range(frames)] if isinstance(frames, int) else frames
    for name in names:
        (folder / name).touch()
    return folder


def ckplus_sequences() -> list[tuple[str, int]]:
    """327 (sequence, CK+'s emotion number) of 118 subjects, with the real numbers per class and per fold.

    The rule that makes folds is not used here: subject i is given as many sequences as fold (i mod 10) needs.
    """
    counts = dict.fromkeys(SUBJECTS, 1)
    for fold, size in enumerate(CKPLUS_FOLD_SIZES):
        subjects = SUBJECTS[fold::10]
        for extra in range(size - len(subjects)):
            counts[subjects[extra % len(subjects)]] += 1
    emotions = [number for number, count in CKPLUS_CLASS_SIZES.items() for _ in range(count)]
    sequences = [f"{subject}/{number:03d}" for subject in SUBJECTS for number in range(1, counts[subject] + 1)]
    # 200 and 327 share no factor: every emotion once
    return [(sequence, emotions[index * 200 % 327]) for index, sequence in enumerate(sequences)]


def stub_ckplus(root: Path, sequences: list[tuple[str, int]] | None = None, unlabeled: int = 266) -> Path:
    """`cohn-kanade-images` and `Emotion` as distributed. Sequences without a label have an empty folder or none."""
    sequences = ckplus_sequences() if sequences is None else sequences
    subjects = sorted({name.split("/")[0] for name, _ in sequences})
    others = [f"{subjects[index % len(subjects)]}/{100 + index // len(subjects)}" for index in range(unlabeled)]
    for name in [*(name for name, _ in sequences), *others]:
        frames = [f"{name.replace('/', '_')}_{number:08d}.png" for number in (1, 2, 11)]
        stub_clip(root / "cohn-kanade-images" / name, frames)
    for name, emotion in sequences:
        (root / "Emotion" / name).mkdir(parents=True)
        file = f"{name.replace('/', '_')}_00000011_emotion.txt"
        (root / "Emotion" / name / file).write_text(f"   {emotion:.7e}\n")
    for name in others[1::2]:
        (root / "Emotion" / name).mkdir(parents=True)
    (root / "cohn-kanade-images" / subjects[0] / ".DS_Store").touch()
    return root


def write_folds(clips: int, path: Callable[[int, str], Path], lines: Callable[[int], str], header: str = "") -> None:
    """The lists of five folds; the test clips of fold k are those whose number mod 5 is k - 1."""
    for fold in range(1, 6):
        for split in ("train", "test"):
            members = [n for n in range(1, clips + 1) if (n % 5 == fold - 1) == (split == "test")]
            path(fold, split).parent.mkdir(parents=True, exist_ok=True)
            path(fold, split).write_text(header + "".join(lines(number) + "\n" for number in members))


def stub_dfew(root: Path, clips: int = 20, *, numbers_as_written: bool = False) -> Path:
    """20 clips in five folds, labels 1 to 7 in turn; ids without leading zeros if a spreadsheet has written them."""
    for number in range(1, clips + 1):
        stub_clip(root / "Clip/clip_224x224" / f"{number:05d}", 2)
    write_folds(
        clips,
        lambda fold, split: root / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / f"set_{fold}.csv",
        lambda number: f"{number if numbers_as_written else f'{number:05d}'},{1 + (number - 1) % 7}",
        "video_name,label\n",
    )
    return root


def stub_ferv39k(root: Path) -> Path:
    """Four training and two test clips of two scenes."""
    for split, names in {
        "train": ["Action/Happy/0267", "Action/Angry/0001", "Crime/Fear/0001", "Crime/Sad/0400"],
        "test": ["Action/Happy/0268", "Crime/Fear/0002"],
    }.items():
        for name in names:
            stub_clip(root / "2_ClipsforFaceCrop" / name, 2, first=0)
        path = root / "4_setups/All_scenes" / f"{split}_All.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} {name.split('/')[1]}\n" for name in names))
    return root


MAFW_CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety",
                "helplessness", "disappointment")  # fmt: skip


def stub_mafw(root: Path, clips: int = 22) -> Path:
    """22 clips in five folds, the official classes in turn."""
    for number in range(1, clips + 1):
        stub_clip(root / "data/frames" / f"{number:05d}", 2)
    write_folds(
        clips,
        lambda fold, split: root / "Train & Test Set/single/no_caption" / f"set_{fold}" / f"{split}.txt",
        lambda number: f"{number:05d}.mp4 {MAFW_CLASSES[(number - 1) % 11]}",
    )
    return root


def read_dataset(
    name: str,
    root: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    split: str | None = "train",
    labels: Sequence[str] | None = None,
    **flags: Any,
) -> ClipSet:
    """One split of a dataset, with the root and the list as those of the training set, or of both sets."""
    files = {"train_root": os.fspath(root), "train_list": list_file and os.fspath(list_file)}
    if split == "val":
        files |= {"val_root": files["train_root"], "val_list": files["train_list"]}
    return find(name).read(Request.of({**files, **flags}), split, labels)


def read_afew(root: str | os.PathLike[str], list_file: str | os.PathLike[str] | None = None, **more: Any) -> ClipSet:
    """One split of AFEW. Without a list, all folders are read."""
    return read_dataset("afew", root, list_file, **more)


def read_ckplus(root: str | os.PathLike[str], fold_file: str | os.PathLike[str] | None = None, **more: Any) -> ClipSet:
    """All labeled sequences of CK+, or those of a fold file."""
    return read_dataset("ckplus", root, split=None, fold_file=fold_file and os.fspath(fold_file), **more)
