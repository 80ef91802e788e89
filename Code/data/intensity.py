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
from .clips import ClipSet, DataError

INTENSITY_FILE = "intensity.csv"
COLUMNS = ("split", "clip", "frame", "intensity", "distractor")
Row = tuple[str, str, str, float, str]  # of COLUMNS
Intensities = dict[str, np.ndarray]  # clip name -> true importance of each frame, float64 [T] in [0, 1]


def write_intensity(folder: Path, rows: Iterable[Row]) -> None:
    """Writes the table into a folder."""
    with atomic_text(folder / INTENSITY_FILE, newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((*frame, f"{intensity:.4f}", distractor) for *frame, intensity, distractor in rows)


def read_intensity(path: str | os.PathLike[str]) -> dict[tuple[str, str, str], tuple[float, str]]:
    """Reads a table: (split, clip, frame) -> (intensity in [0, 1], kind of distractor or "")."""
    truth: dict[tuple[str, str, str], tuple[float, str]] = {}
    try:
        with open(path, newline="", encoding="utf-8", opener=regular) as file:
            reader = csv.DictReader(file)
            for line in reader:
                split, clip, frame, intensity, distractor = (line[column] for column in COLUMNS)
                if not 0 <= float(intensity) <= 1 or distractor is None:
                    raise ValueError
                truth[split, clip, frame] = float(intensity), distractor
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {reader.line_num}: expected {','.join(COLUMNS)}, intensity 0 to 1") from error
    return truth


def intensities_of(clips: ClipSet) -> Intensities | None:
    """The true importance of every frame, from the table beside the folder of the split; None without a table."""
    # The clip is <root>/Val/Fear/100003. Only text is changed: a clip may be a link, and a root may be `.`.
    path = Path(os.path.abspath(os.path.join(clips.clips[0].folder, "../../..", INTENSITY_FILE)))
    if not path.is_file():
        return None
    table = read_intensity(path)
    in_any_split = {(clip, frame): value for (_, clip, frame), value in table.items()}
    intensities = {}
    for clip in clips.clips:
        split = Path(clip.folder).absolute().parents[1].name  # with folds, there are two; or it was renamed
        values = [table.get((split, clip.name, frame), in_any_split.get((clip.name, frame))) for frame in clip.frames]
        if None in values:
            raise DataError(f"{path}: lacks frames of {clip.name}; make the clips again, or remove the file")
        intensities[clip.name] = np.array([value[0] for value in values if value])
    return intensities
