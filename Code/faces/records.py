"""What is known about prepared clips: a record per clip, and how all of them were prepared."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from Code.common.files import save_text
from Code.data.clips import DataError

# Hidden, so that dataset readers skip it.
STATE = ".prepared"


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
