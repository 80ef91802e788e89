"""What is known about prepared clips: a record per clip, and how all of them were prepared.

Later calls read the records, and delete the faces that they replace. A record may say anything, so it counts only if it
names the folders and files that this program gives its clip, and nothing is written or deleted through a link.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..common.files import inside, regular, save_text, short_name
from ..common.json_files import MissingStateError, StateError, read_state
from ..common.lock import one_writer
from ..data.clips import DataError
from .settings import FACES_VERSION, Settings

# Hidden, so that dataset readers skip it.
STATE = ".prepared"
LONGEST_NAME = 200  # bytes of each part of a clip's name in the name of its record
VERSION = 1  # of the files in there; to be raised when this program could not read them any more
FACE_FILE = re.compile(r"[0-9]{7,}\.jpg")


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
        sizes: bytes of each face, by folder and file name. Earlier versions did not write it.
        table: SHA-256 of the clip's rows of faces.csv. Earlier versions did not write it.
        version: of the format.
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
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    table: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        strange = [name for faces in self.sizes.values() for name in faces if not FACE_FILE.fullmatch(name)]
        if strange:
            raise ValueError(f"sizes: {strange[0]!r} is not the name of a face")
        if self.sizes and {name: len(faces) for name, faces in self.sizes.items()} != self.folders:
            raise ValueError("sizes and folders do not agree")
        if not 0 <= self.filled <= self.faces <= self.frames or self.people < 0 or self.cuts < 0:
            raise ValueError("frames, faces, filled, people and cuts: these counts cannot be")
        if not all(0 < count <= self.faces for count in self.folders.values()) or (self.error and self.folders):
            raise ValueError("folders: do not fit the other fields")


def folder_names(clip: str, people: int, faces: str) -> list[str]:
    """The folders of a clip in the output: its name or, with a folder per person, <clip>_01, <clip>_02, ...

    Args:
        people: how many of them are written.
        faces: "main" or "all", see `Settings`.
    """
    return [clip] if faces == "main" and people else [f"{clip}_{count:02d}" for count in range(1, people + 1)]


def record_file(output: Path, clip: str) -> Path:
    """The file of a clip's record. Its rows of faces.csv are beside it, in a file whose name ends in .csv.

    Raises:
        ProjectError: a link is in the way.
    """
    parts = "/".join(short_name(part, LONGEST_NAME) for part in clip.split("/"))
    return place(output, f"{STATE}/records/{parts}.json")


def _rows_file(output: Path, clip: str) -> Path:
    path = record_file(output, clip)
    return path.with_name(path.name + ".csv")


def save_record(output: Path, record: Record, rows: str) -> None:
    """Saves a record and its rows of faces.csv."""
    save_text(rows, _rows_file(output, record.clip))
    record.table = _digest(rows.encode("utf-8"))
    save_text(json.dumps(asdict(record)), record_file(output, record.clip))


def load_record(output: Path, clip: str, faces: str) -> Record | None:
    """A clip's record; None if there is none.

    Args:
        faces: "main" or "all", as the output is prepared.

    Raises:
        NewerStateError: a newer version of this program wrote it.
        StateError: it is damaged, or names something that is not of this clip.
    """
    path = record_file(output, clip)
    remedy = "the clip is prepared again"
    try:
        record = read_state(path, Record, remedy=remedy, newest=VERSION)
    except MissingStateError:
        return None
    if record.clip != clip:
        raise StateError(f"{path}: clip: is {record.clip!r}, not {clip!r}; {remedy}")
    strange = record.folders.keys() ^ set(folder_names(clip, len(record.folders), faces))
    if strange:
        named = sorted(strange & record.folders.keys()) or sorted(strange)
        raise StateError(f"{path}: folders: {named[0]!r} is not a folder of this clip; {remedy}")
    return record


def read_rows(output: Path, record: Record) -> str:
    """A clip's rows of faces.csv.

    Raises:
        DataError: they are missing or damaged.
    """
    path = _rows_file(output, record.clip)
    if record.error:
        return ""
    try:
        with open(path, "rb", opener=regular) as file:
            content = file.read()
        if record.table and _digest(content) != record.table:
            raise ValueError("not what its record says")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be used ({reason}); start the same command again") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_done(output: Path, record: Record | None, source: Sequence[int]) -> bool:
    """Whether a clip is finished: the source has not changed, and all faces are there, each with all of its bytes."""
    if record is None or record.source != list(source):
        return False
    try:
        read_rows(output, record)
    except DataError:
        return False
    for name, count in record.folders.items():
        found = face_sizes(output / name)
        wanted = record.sizes.get(name, found)  # earlier versions recorded their number only
        if len(wanted) != count or not all(size and found.get(face) == size for face, size in wanted.items()):
            return False
    return True


def face_sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder that is called like a face; nothing if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            faces = sorted((entry for entry in entries if FACE_FILE.fullmatch(entry.name)), key=lambda face: face.name)
            return {entry.name: entry.stat().st_size for entry in faces if entry.is_file()}
    except OSError:
        return {}


def place(output: Path, name: str) -> Path:
    """Where `name` goes below the output. What lies behind a link may be somebody's, so links are refused.

    Raises:
        UsageError: the name leads out of the output.
        DataError: it leads through a link.
    """
    path = inside(output, name, output / STATE)
    for part in (path, *path.parents):
        if part == output:
            return path
        if part.is_symlink():
            raise DataError(f"{part}: is a link, and nothing is written through links; replace it by a folder")
    return path


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Inside the block, no other process prepares faces in this folder, which is made if it is missing.

    Raises:
        FolderInUseError: another process does.
        ProjectError: a link is in the way, or the folder cannot be written to.
    """
    for name in ("partial", "records"):
        place(output, f"{STATE}/{name}")
    with one_writer(output / STATE):
        yield


@dataclass
class SavedSettings:
    """settings.json: `Settings` as an earlier call had them.

    Attributes:
        detect_every: the first versions had no such flag, and searched every frame.
        made_by: the FACES_VERSION of the finished clips.
    """

    faces: str
    fps: float | None = None
    min_face: int | None = None
    detect_every: int = 1
    made_by: int = 1


def save_settings(output: Path, settings: Settings) -> None:
    """Saves how a folder is prepared."""
    content = {**asdict(settings), "made_by": FACES_VERSION, "version": VERSION}
    save_text(json.dumps(content), output / STATE / "settings.json")


def check_settings(output: Path, settings: Settings, report: Sequence[str]) -> int:
    """Saves how a folder is prepared. Clips that are prepared in different ways must not be mixed.

    Args:
        report: names of files that will be written to the folder; the first call must not find any.

    Returns:
        The FACES_VERSION of the clips that are finished.

    Raises:
        StateError: settings.json cannot be read.
        DataError: the folder was prepared with other settings, or has other people's files of these names.
    """
    path = output / STATE / "settings.json"
    try:
        saved = read_state(path, SavedSettings, remedy="name another output folder", newest=VERSION)
    except MissingStateError:
        found = [output / name for name in report if os.path.lexists(output / name)]
        if found:
            raise DataError(
                [f"{each}: exists, and was not made by Prepare_Faces.py; move it away" for each in found], str(output)
            ) from None
        save_settings(output, settings)
        return FACES_VERSION
    before = asdict(saved)
    changed = [name for name, value in asdict(settings).items() if before[name] != value]
    if changed:
        flags = [f"--{name.replace('_', '-')} {before[name] or 'unset'}" for name in changed]
        raise DataError(
            f"{output}: was prepared with {', '.join(flags)}; use the same flags, or name another output folder"
        )
    return saved.made_by
