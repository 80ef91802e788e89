"""When face crops were filmed: faces.csv of Prepare_Faces.py has the time of every frame, above the clips' folders."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from .summary import TABLE

ABOVE = 4  # how many folders above a clip's the table is looked for
MOST_BYTES = 64 * 2**20  # of a table; some 400 000 frames
Times = dict[str, dict[str, float]]  # clip -> frame -> seconds


def crop_times(folder: Path, names: Sequence[str]) -> np.ndarray | None:
    """The times of a clip's face crops.

    Args:
        folder: of the clip.
        names: of its T image files.

    Returns:
        float64 [T], seconds, ascending; None if there is no faces.csv that has all of them.
    """
    place = folder.absolute()
    for root in place.parents[:ABOVE]:
        table = root / TABLE
        if not table.is_file():
            continue
        about = table.stat()
        if about.st_size > MOST_BYTES:
            return None
        known = _read(table, about.st_mtime_ns).get(place.relative_to(root).as_posix(), {})
        times = np.array([known.get(_number(Path(name).stem), math.nan) for name in names])
        return times if np.isfinite(times).all() and (np.diff(times) > 0).all() else None
    return None


def _number(frame: str) -> str:
    """The number of a frame without leading zeros: files have them, the table has not."""
    return frame.lstrip("0") or "0"


@lru_cache(maxsize=2)
def _read(table: Path, changed: int) -> Times:
    """The times in a table; nothing if it is not one of Prepare_Faces.py, since it only adds to the answer."""
    times: Times = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["time"]:
                    times.setdefault(row["clip"], {})[_number(row["frame"])] = float(row["time"])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        return {}
    return times
