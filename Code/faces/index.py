"""What is known about a folder of face crops: a record per clip, faces.csv, list files, and summary.json at the end.

Records are kept in a hidden folder of the output, so that the next call goes on with the clips that are missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import atomic_text, save_text
from ..common.json_files import MissingStateError, StateError, read_json
from ..data.clips import DataError
from .extract import Analysis
from .settings import FACES_TABLE, FACES_VERSION, Settings
from .track import FaceTrack

STATE = ".prepared"  # hidden, so that dataset readers skip it
FACE_FILE = re.compile(r"[0-9]{7,}\.jpg")
COLUMNS = (
    *("clip", "frame", "time", "left", "top", "right", "bottom"),
    *(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"),
    *("confidence", "track", "filled"),
)
SUMMARY = "summary.json"
_SPLITS = {"train": "list_train.txt", "val": "list_eval.txt", "validation": "list_eval.txt", "test": "list_test.txt"}
_REPORT = (FACES_TABLE, "list.txt", *dict.fromkeys(_SPLITS.values()), SUMMARY)


@dataclass
class Record:
    """The result for one input.

    Attributes:
        clip: its name: the path relative to the input, without suffix, with forward slashes.
        source: size and modification time (ns) of the input; if they change, the clip is prepared again.
        folders: number of faces written, by folder name relative to the output; empty: no face, or unreadable.
        frames, faces, filled: how many were searched, have a written face, have one that is interpolated.
        people: number of tracks that are no false alarms.
        error: why nothing could be read; empty otherwise.
        problems: one line for each part that could not be read, if the rest could.
    """

    clip: str
    source: list[int]
    folders: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    faces: int = 0
    filled: int = 0
    people: int = 0
    error: str = ""
    problems: list[str] = field(default_factory=list)


def folder_names(clip: str, people: int, faces: str) -> list[str]:
    """The folders of a clip in the output: its name or, with a folder per person, <clip>_01, <clip>_02, ...

    Args:
        people: how many of them are written.
        faces: "main" or "all", see `Settings`.
    """
    return [clip] if faces == "main" and people else [f"{clip}_{count:02d}" for count in range(1, people + 1)]


def save_record(output: Path, record: Record, rows: str) -> None:
    """Saves a clip's rows of faces.csv, then its record."""
    save_text(rows, _rows_file(output, record.clip))
    save_text(json.dumps(asdict(record)), _record_file(output, record.clip))


def load_record(output: Path, clip: str) -> Record | None:
    """A clip's record; None if there is none. That of a damaged file fits no input, so the clip is prepared again."""
    try:
        return read_json(_record_file(output, clip), Record, remedy="")
    except MissingStateError:
        return None
    except StateError:
        return Record(clip, [])


def is_done(output: Path, record: Record, source: Sequence[int]) -> bool:
    """Whether a clip is finished: its input has not changed, and all of its faces are there."""
    return (
        record.source == list(source)
        and _rows_file(output, record.clip).is_file()
        and all(len(faces_in(output / name)) >= count for name, count in record.folders.items())
    )


def faces_in(folder: Path) -> list[str]:
    """The names of the faces in a folder; none if there is no folder."""
    try:
        return sorted(filter(FACE_FILE.fullmatch, os.listdir(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _record_file(output: Path, clip: str) -> Path:
    return output / STATE / "records" / f"{clip}.json"


def _rows_file(output: Path, clip: str) -> Path:
    return output / STATE / "records" / f"{clip}.json.csv"


def rows_of(written: Sequence[tuple[str, int, FaceTrack]], clip: str, analysis: Analysis) -> str:
    """A clip's lines of faces.csv, without the header: one for each frame and person.

    Args:
        written: folder name, track and path of each person that is written.
        clip: the name in the rows if nobody is written.
        analysis: all frames; a frame without the person gets a row without a box.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    frames = zip(analysis.numbers.tolist(), analysis.times.tolist(), strict=True)
    starts = [[number, "" if np.isnan(time) else f"{time:.4f}"] for number, time in frames]
    for name, track, path in written:
        cells: dict[int, list[str]] = {}
        for index, at in enumerate(path.positions.tolist()):
            values = [f"{value:.2f}" for value in (*path.boxes[index], *path.landmarks[index].ravel())]
            score = "" if np.isnan(path.scores[index]) else f"{path.scores[index]:.4f}"
            cells[at] = [*values, score, str(track), str(int(path.filled[index]))]
        writer.writerows([name, *start, *cells.get(at, [""] * 17)] for at, start in enumerate(starts))
    if not written:
        writer.writerows([clip, *start, *[""] * 17] for start in starts)
    return text.getvalue()


def check_settings(output: Path, settings: Settings) -> None:
    """Saves how a folder is prepared. Clips that are prepared in different ways must not be mixed.

    Raises:
        StateError: the settings of an earlier call cannot be read.
        DataError: the folder was prepared in another way, or has the user's files where the report goes.
    """
    path = output / STATE / "settings.json"
    now = asdict(settings) | {"made_by": FACES_VERSION}
    try:
        before = read_json(path, dict[str, Any], remedy="name another output folder")
    except MissingStateError:
        taken = [output / name for name in _REPORT if (output / name).exists()]
        if taken:
            raise DataError(
                [f"{each}: exists, and was not made by Prepare_Faces.py; move it away" for each in taken], str(output)
            ) from None
        save_text(json.dumps(now), path)
        return
    changed = [name for name, value in now.items() if before.get(name) != value]
    if "made_by" in changed:
        raise DataError(
            f"{output}: was prepared by another version of this program, which cuts out faces a little differently; "
            "name another output folder"
        )
    if changed:
        flags = [f"--{name.replace('_', '-')} {before.get(name) or 'unset'}" for name in changed]
        raise DataError(
            f"{output}: was prepared with {', '.join(flags)}; use the same flags, or name another output folder"
        )


def groups(records: Sequence[Record]) -> dict[str, list[str]]:
    """Clips to check: a heading -> the clips' names. Empty groups are left out."""
    shown = [record for record in records if record.folders]
    every = {
        "could not be read": [r.clip for r in records if r.error],
        "without a face": [r.clip for r in records if not r.error and not r.folders],
        "with a face in fewer than half of their frames": [
            f"{r.clip} ({r.faces} of {r.frames})" for r in shown if 2 * r.faces < r.frames
        ],
        "with several people, or one person in several shots": [
            f"{r.clip} ({r.people})" for r in shown if r.people > 1
        ],
        "damaged, of which the rest was used": [r.clip for r in records if r.problems],
    }
    return {heading: names for heading, names in every.items() if names}


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """The content of summary.json."""
    return {
        "clips": len(records),
        "clips_with_faces": sum(bool(record.folders) for record in records),
        "frames": sum(record.frames for record in records),
        "faces": sum(record.faces for record in records),
        "filled": sum(record.filled for record in records),
        "written": sum(sum(record.folders.values()) for record in records),
        "attention": groups(records),
        "problems": [line for record in records for line in (record.error, *record.problems) if line],
    }


def write_report(output: Path, records: Sequence[Record]) -> None:
    """Writes faces.csv, the list files and, when they are there, summary.json."""
    with atomic_text(output / FACES_TABLE, newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for record in records:
            if not record.error:
                file.write(_rows_file(output, record.clip).read_text(encoding="utf-8"))
    for name, text in lists([folder for record in records for folder in record.folders]).items():
        save_text(text, output / name)
    save_text(json.dumps(summary(records), indent=1) + "\n", output / SUMMARY)


def lists(folders: Sequence[str]) -> dict[str, str]:
    """List files for the main script: `<Class>/<clip> <Class>`, relative to the folder of the classes.

    `<Class>/<clip>` folders are listed in list.txt; below Train/ and Val/, in list_train.txt and list_eval.txt.
    Other trees have no list: single clips, and CK+'s subjects, whose labels are in separate files.
    """
    lines: dict[str, list[str]] = {}
    for folder in folders:
        parts = folder.split("/")
        if len(parts) == 2 and parts[0].lower() not in _SPLITS:
            lines.setdefault("list.txt", []).append(f"{folder}\t{parts[0]}\n")
        elif len(parts) == 3 and parts[0].lower() in _SPLITS:
            name = _SPLITS[parts[0].lower()]
            lines.setdefault(name, []).append(f"{parts[1]}/{parts[2]}\t{parts[1]}\n")
    if all(re.match(r"S\d{3}/", line) for line in lines.get("list.txt", [])):  # subjects of CK+, such as S005
        lines.pop("list.txt", None)
    return {name: "".join(text) for name, text in lines.items()}
