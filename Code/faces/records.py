"""What is known about prepared clips: a record per clip while the work is under way, one report at the end."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from Code.common.files import atomic_text, save_text
from Code.data.clips import DataError
from Code.faces.extract import Analysis
from Code.faces.track import Path as FacePath

# Hidden, so that dataset readers skip it.
STATE = ".prepared"
COLUMNS = (
    *("clip", "frame", "time", "left", "top", "right", "bottom"),
    *(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"),
    *("confidence", "track", "filled"),
)
_SPLITS = {"train": "list_train.txt", "val": "list_eval.txt", "validation": "list_eval.txt", "test": "list_test.txt"}


@dataclass
class Record:
    """The result for one input.

    Attributes:
        clip: its name: the path relative to the input, without suffix, with forward slashes.
        source: size and modification time (ns) of the input; if they change, the clip is prepared again.
        folders: number of frames written, by folder name relative to the output; empty: no face, or unreadable.
        frames: number of frames that were searched.
        faces: number of them with a face of the main person, filled ones included.
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


def record_file(output: Path, clip: str) -> Path:
    """The file of a clip's record. Its rows of faces.csv are beside it, in a file whose name ends in .csv."""
    return output / STATE / "records" / f"{clip}.json"


def save_record(output: Path, record: Record, rows: str) -> None:
    """Saves a record and its rows of faces.csv."""
    path = record_file(output, record.clip)
    save_text(rows, path.with_name(path.name + ".csv"))
    save_text(json.dumps(asdict(record)), path)


def load_record(output: Path, clip: str) -> Record | None:
    """A clip's record; None if there is none, or it cannot be read."""
    path = record_file(output, clip)
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return None  # of another version, or damaged: the clip is prepared again


def is_done(output: Path, record: Record | None, source: Sequence[int]) -> bool:
    """Whether a clip is finished: the source has not changed, and all folders with all frames are there."""
    if record is None or record.source != list(source):
        return False
    return all(count_frames(output / name) == count for name, count in record.folders.items())


def count_frames(folder: Path) -> int:
    """The number of JPEG files in a folder; 0 if there is no folder."""
    try:
        return sum(entry.name.endswith(".jpg") for entry in os.scandir(folder))
    except OSError:
        return 0


def csv_rows(written: Iterable[tuple[str, int, FacePath]], clip: str, analysis: Analysis) -> str:
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
    """Writes faces.csv, summary.json and the list files."""
    with atomic_text(output / "faces.csv", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for record in summary.records:
            path = record_file(output, record.clip)
            file.write(path.with_name(path.name + ".csv").read_text(encoding="utf-8"))
    save_text(json.dumps(summary.as_dict(), indent=1) + "\n", output / "summary.json")
    for name, text in lists([folder for record in summary.records for folder in record.folders]).items():
        save_text(text, output / name)


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


def check_settings(output: Path, settings: dict[str, object]) -> None:
    """Saves how a folder is prepared. Clips that are prepared in different ways must not be mixed.

    Raises:
        DataError: the folder was prepared with other settings.
    """
    path = output / STATE / "settings.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        save_text(json.dumps(settings), path)
        return
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name another output folder") from None
    before = {"detect_every": 1, **before}  # earlier versions had no such flag, and searched every frame
    changed = [name for name, value in settings.items() if before.get(name) != value]
    if changed:
        flags = [f"--{name.replace('_', '-')} {before.get(name) or 'unset'}" for name in changed]
        raise DataError(
            f"{output}: was prepared with {', '.join(flags)}; use the same flags, or name another output folder"
        )
