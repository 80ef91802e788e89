"""The report on prepared clips: faces.csv with a row per frame, list files, and summary.json, which comes last."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..common.files import atomic_text, regular, save_text
from ..common.json_files import StateError, read_state
from .extract import Analysis
from .records import Record, read_rows
from .settings import FACES_TABLE
from .track import FaceTrack

COLUMNS = (
    *("clip", "frame", "time", "left", "top", "right", "bottom"),
    *(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"),
    *("confidence", "track", "filled"),
)
_SPLITS = {"train": "list_train.txt", "val": "list_eval.txt", "validation": "list_eval.txt", "test": "list_test.txt"}
MARK = "summary.json"
REPORT = (FACES_TABLE, "list.txt", *dict.fromkeys(_SPLITS.values()), MARK)


def csv_rows(written: Iterable[tuple[str, int, FaceTrack]], clip: str, analysis: Analysis) -> str:
    """Lines of faces.csv for one input, without the header.

    Args:
        written: folder name, track and path of each person that is written.
        clip: the name in the rows if nobody is written.
        analysis: all frames; a frame without the person gets a row without a box.
    """
    lines = _Lines()
    everybody = list(written)
    for name, track, path in everybody:
        places = {int(position): place for place, position in enumerate(path.positions)}
        for position in range(len(analysis.names)):
            place = places.get(position)
            if place is None:
                lines.add(name, analysis, position, [""] * 15, "", "")
                continue
            score = path.scores[place]
            values = [*path.boxes[place], *path.landmarks[place].ravel()]
            cells = [f"{value:.2f}" for value in values] + ["" if np.isnan(score) else f"{score:.4f}"]
            lines.add(name, analysis, position, cells, str(track), str(int(path.filled[place])))
    if not everybody:
        for position in range(len(analysis.names)):
            lines.add(clip, analysis, position, [""] * 15, "", "")
    return "".join(lines.text)


class _Lines:
    """Collects the output of csv.writer."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._writer = csv.writer(self, lineterminator="\n")

    def write(self, text: str) -> None:
        self.text.append(text)

    def add(self, clip: str, analysis: Analysis, position: int, cells: list[str], track: str, filled: str) -> None:
        time = analysis.times[position]
        seconds = "" if np.isnan(time) else f"{time:.4f}"
        self._writer.writerow([clip, int(analysis.numbers[position]), seconds, *cells, track, filled])


@dataclass
class Summary:
    """The results for all inputs.

    Attributes:
        records: in the order of the inputs.
    """

    records: list[Record]

    @property
    def broken(self) -> list[Record]:
        """Inputs that could not be read at all."""
        return [record for record in self.records if record.error]

    @property
    def without_face(self) -> list[Record]:
        """Inputs that could be read, but show no face."""
        return [record for record in self.records if not record.error and not record.folders]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Clips to check: a heading and the clips' names. Empty groups are left out."""
        found = [record for record in self.records if record.folders]
        groups = [
            ("could not be read", [record.clip for record in self.broken]),
            ("without a face", [record.clip for record in self.without_face]),
            (
                "with a face in fewer than half of their frames",
                [f"{r.clip} ({r.faces} of {r.frames})" for r in found if 2 * r.faces < r.frames],
            ),
            (
                "with several people, or one person in several shots",
                [f"{r.clip} ({r.people})" for r in found if r.people > 1],
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
    """Writes faces.csv, the list files and, when they are there, summary.json with their sizes and checksums.

    Raises:
        DataError: the rows of a clip are missing or damaged.
    """
    with atomic_text(output / FACES_TABLE, newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for record in summary.records:
            file.write(read_rows(output, record))
    made = lists([folder for record in summary.records for folder in record.folders])
    for name, text in made.items():
        save_text(text, output / name)
    written = {name: asdict(Written.of(output / name)) for name in (FACES_TABLE, *made)}
    save_text(json.dumps({**summary.as_dict(), "files": written}, indent=1) + "\n", output / MARK)


@dataclass
class Written:
    """A file of the report, as it was written."""

    lines: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Written:
        """Reads a file.

        Raises:
            OSError: it cannot be read.
        """
        lines, digest = 0, hashlib.sha256()
        with open(path, "rb", opener=regular) as file:
            while piece := file.read(1 << 20):
                lines += piece.count(b"\n")
                digest.update(piece)
        return cls(lines, digest.hexdigest())


@dataclass
class Mark:
    """What summary.json says about the other files of the report."""

    files: dict[str, Written]


def is_whole(output: Path) -> bool:
    """Whether all clips are finished, and faces.csv is the one that was written then."""
    try:
        mark = read_state(output / MARK, Mark, remedy="")
        return mark.files.get(FACES_TABLE) == Written.of(output / FACES_TABLE)
    except (StateError, OSError):
        return False


def lists(folders: Sequence[str]) -> dict[str, str]:
    """List files for the main script: `<Class>/<clip> <Class>`, relative to the folder of the classes.

    `<Class>/<clip>` folders are listed in list.txt; below Train/ and Val/, in list_train.txt and list_eval.txt.
    Other trees have no list: single clips, and CK+'s subjects, whose labels are in separate files.
    """
    made: dict[str, list[str]] = {}
    for folder in folders:
        parts = folder.split("/")
        if len(parts) == 2 and parts[0].lower() not in _SPLITS:
            made.setdefault("list.txt", []).append(f"{folder}\t{parts[0]}\n")
        elif len(parts) == 3 and parts[0].lower() in _SPLITS:
            name = _SPLITS[parts[0].lower()]
            made.setdefault(name, []).append(f"{parts[1]}/{parts[2]}\t{parts[1]}\n")
    if all(_is_subject(line.split("/")[0]) for line in made.get("list.txt", [])):
        made.pop("list.txt", None)
    return {name: "".join(lines) for name, lines in made.items()}


def _is_subject(name: str) -> bool:
    """Whether a name is a subject of CK+, such as S005."""
    return len(name) == 4 and name[0] == "S" and name[1:].isdecimal()
