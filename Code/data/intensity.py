"""The table intensity.csv beside generated clips: how strongly each frame shows the expression of its clip.

    split,clip,frame,intensity,distractor
    Val,Fear/100003,004.jpg,0.7300,

A clip is named by its class and folder. The last column names what distracts in a frame; in most frames it is empty.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..common.files import atomic_text, regular
from ..common.names import counted
from .clips import ClipSet, DataError

INTENSITY_FILE = "intensity.csv"
COLUMNS = ("split", "clip", "frame", "intensity", "distractor")
Row = tuple[str, str, str, str, str]  # of COLUMNS, see `row`
Intensities = dict[str, np.ndarray]  # clip name -> true importance of each frame, float64 [T] in [0, 1]


def row(split: str, clip: str, frame: str, intensity: float, distractor: str = "") -> Row:
    """A line of the table."""
    return split, clip, frame, f"{intensity:.4f}", distractor


def write_intensity(folder: Path, rows: Iterable[Row]) -> None:
    """Writes the table into a folder."""
    with atomic_text(folder / INTENSITY_FILE, newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)


def read_intensity(path: str | os.PathLike[str], split: str | None = None) -> dict[tuple[str, str], tuple[float, str]]:
    """Reads a table.

    Args:
        split: the one that counts where two splits have a clip of the same name.

    Returns:
        (clip as `Class/clip`, file name of the frame) -> (intensity in [0, 1], kind of distractor or "").

    Raises:
        DataError: the file is missing, or a line is malformed.
    """
    truth: dict[tuple[str, str], tuple[float, str]] = {}
    try:
        with open(path, newline="", encoding="utf-8", opener=regular) as file:
            reader = csv.DictReader(file)
            for line in reader:
                intensity = float(line["intensity"])
                if not 0 <= intensity <= 1 or line["distractor"] is None:
                    raise ValueError
                frame = line["clip"], line["frame"]
                if split in (None, line["split"]) or frame not in truth:
                    truth[frame] = intensity, line["distractor"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {reader.line_num}: expected {','.join(COLUMNS)}, intensity 0 to 1") from error
    return truth


def intensities_of(clips: ClipSet) -> Intensities | None:
    """The true importance of every frame, from the table beside the folder of the split; None without a table.

    Raises:
        DataError: the table is malformed, or lacks frames of the clips.
    """
    path = Path(clips.clips[0].folder).parents[2] / INTENSITY_FILE  # the clip is <root>/Val/Fear/100003
    if not path.is_file():
        return None
    tables: dict[str, dict[tuple[str, str], tuple[float, str]]] = {}
    intensities, absent = {}, []
    for clip in clips.clips:
        split = Path(clip.folder).parents[1].name  # with folds, there are two
        if split not in tables:
            tables[split] = read_intensity(path, split)
        try:
            intensities[clip.name] = np.array([tables[split][clip.name, frame][0] for frame in clip.frames])
        except KeyError:
            absent.append(clip.name)
    if absent:
        raise DataError(
            f"{path}: lacks frames of {counted(len(absent), 'clip')}, e.g. {absent[0]}; "
            "make the clips again, or remove the file"
        )
    return intensities
