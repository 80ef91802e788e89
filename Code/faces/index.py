"""What is known about a folder of face crops: a record per clip, faces.csv, list files, and summary.json at the end.

Records are kept in a hidden folder of the output, so that the next call goes on with the clips that are missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
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
        frames: number of frames that were searched.
        faces: number of them with a face that is written, filled ones included.
        filled: number of faces interpolated in short gaps.
        people: number of tracks that are no false alarms.
        cuts: number of cuts.
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
    cuts: int = 0
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
    frames = list(zip(analysis.numbers.tolist(), analysis.times.tolist(), strict=True))
    starts = [[number, "" if np.isnan(time) else f"{time:.4f}"] for number, time in frames]
    for name, track, path in written:
        boxes = dict(zip(path.positions.tolist(), _cells_of(track, path), strict=True))
        writer.writerows([name, *start, *boxes.get(at, [""] * 17)] for at, start in enumerate(starts))
    if not written:
        writer.writerows([clip, *start, *[""] * 17] for start in starts)
    return text.getvalue()


def _cells_of(track: int, path: FaceTrack) -> Iterator[list[str]]:
    """Box, landmarks, confidence, track and filled of each of a path's faces."""
    for box, landmarks, score, filled in zip(path.boxes, path.landmarks, path.scores, path.filled, strict=True):
        values = [f"{value:.2f}" for value in (*box, *landmarks.ravel())]
        yield [*values, "" if np.isnan(score) else f"{score:.4f}", str(track), str(int(filled))]


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


@dataclass
class Summary:
    """The results for all inputs.

    Attributes:
        records: in the order of the inputs.
    """

    records: list[Record]

    @property
    def all_have_faces(self) -> bool:
        """Whether each input could be read and shows a face."""
        return all(record.folders for record in self.records)

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Clips to check: a heading and the clips' names. Empty groups are left out."""
        with_faces = [record for record in self.records if record.folders]
        groups = [
            ("could not be read", [r.clip for r in self.records if r.error]),
            ("without a face", [r.clip for r in self.records if not r.error and not r.folders]),
            (
                "with a face in fewer than half of their frames",
                [f"{r.clip} ({r.faces} of {r.frames})" for r in with_faces if 2 * r.faces < r.frames],
            ),
            (
                "with several people, or one person in several shots",
                [f"{r.clip} ({r.people})" for r in with_faces if r.people > 1],
            ),
            ("damaged, of which the rest was used", [r.clip for r in self.records if r.problems]),
        ]
        return [(heading, names) for heading, names in groups if names]

    def as_dict(self) -> dict[str, object]:
        """The content of summary.json."""
        return {
            "clips": len(self.records),
            "clips_with_faces": sum(bool(record.folders) for record in self.records),
            "frames": sum(record.frames for record in self.records),
            "faces": sum(record.faces for record in self.records),
            "filled": sum(record.filled for record in self.records),
            "written": sum(sum(record.folders.values()) for record in self.records),
            "attention": dict(self.groups),
            "problems": [line for record in self.records for line in (record.error, *record.problems) if line],
        }


def write_report(output: Path, summary: Summary) -> None:
    """Writes faces.csv, the list files and, when they are there, summary.json."""
    with atomic_text(output / FACES_TABLE, newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for record in summary.records:
            if not record.error:
                file.write(_rows_file(output, record.clip).read_text(encoding="utf-8"))
    for name, text in lists([folder for record in summary.records for folder in record.folders]).items():
        save_text(text, output / name)
    save_text(json.dumps(summary.as_dict(), indent=1) + "\n", output / SUMMARY)


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
