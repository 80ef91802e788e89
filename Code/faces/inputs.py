"""What an input is (a video, an animation, an image, a folder of frames), and which clips a folder contains."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..common.files import regular
from ..common.names import counted, natural_key, printable
from ..data.clips import DataError
from ..data.images import is_animated
from ..data.listing import FRAME_SUFFIXES, is_system, walk

# Files with these names are videos where a folder is searched; a file that is named itself may be called anything.
VIDEO_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "m1v", "m2ts", "m2v", "m4v", "mjpeg", "mjpg"),
        *("mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut", "ogg", "ogm", "ogv", "qt"),
        *("rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
# Videos that are written: their containers keep the time of every frame. AVI and MXF have a fixed rate, for example.
WRITTEN_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".3gp", ".flv", ".ts")
ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng")  # images, or short videos
PHOTO_SUFFIXES = (".heic", ".heif", ".hif", ".avif")
PHOTO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # HEIF files that contain photos and no video
_JPEG = b"\xff\xd8\xff"
_PICTURES = (_JPEG, b"\x89PNG\r\n\x1a\n", b"GIF8")


class Kind(Enum):
    """What an input is."""

    VIDEO = "video"
    ANIMATION = "animation"  # a GIF, WebP or PNG with several frames
    PICTURE = "picture"
    PHOTO = "photo"  # HEIC or AVIF
    FOLDER = "folder"


def kind_of(path: str | Path) -> Kind:
    """What an input is, by its first bytes, or by its name if they do not show it.

    Names alone mislead: many a `.gif` from the web is an MP4 file, and a phone's `.jpg` may be HEIC.
    """
    if os.path.isdir(path):
        return Kind.FOLDER
    suffix = os.path.splitext(path)[1].lower()
    try:
        with open(path, "rb", opener=regular) as file:
            start = file.read(16)
    except OSError:
        start = b""
    box, brand = start[4:8], start[8:12]
    if box == b"ftyp":  # MP4 and its relatives
        return Kind.PHOTO if brand in PHOTO_BRANDS else Kind.VIDEO
    if start.startswith(b"\x1aE\xdf\xa3"):  # Matroska, WebM
        return Kind.VIDEO
    if start.startswith(_JPEG) and suffix in VIDEO_SUFFIXES:  # .mjpeg: one JPEG after another
        return Kind.VIDEO
    is_picture = start.startswith(_PICTURES) or (start[:4] == b"RIFF" and brand == b"WEBP")
    if not (is_picture or suffix in (*FRAME_SUFFIXES, *ANIMATION_SUFFIXES)):
        return Kind.VIDEO
    return Kind.ANIMATION if is_animated(os.fspath(path)) else Kind.PICTURE


def split_files(folder: str | os.PathLike[str], names: list[str]) -> tuple[list[str], list[str]]:
    """The videos of a folder, animations included, and its still images, each in the order of `names`."""
    videos, pictures = [], []
    for name in names:
        lower = name.lower()
        # Only formats that have animations are opened: a folder may contain a hundred thousand JPEG frames.
        if lower.endswith(VIDEO_SUFFIXES) or (
            lower.endswith(ANIMATION_SUFFIXES) and kind_of(os.path.join(folder, name)) in (Kind.VIDEO, Kind.ANIMATION)
        ):
            videos.append(name)
        elif lower.endswith(FRAME_SUFFIXES):
            pictures.append(name)
    return videos, pictures


@dataclass(frozen=True, order=True)
class Job:
    """One clip: its name (relative path without suffix, with forward slashes), and its file or folder."""

    name: str
    path: str

    def fingerprint(self) -> list[int]:
        """Size and time of the last change (ns) of its files, to notice changes; [-1] if they are gone."""
        try:
            if not os.path.isdir(self.path):
                status = os.stat(self.path)
                return [status.st_size, status.st_mtime_ns]
            with os.scandir(self.path) as entries:
                found = [entry.stat() for entry in entries if entry.name.lower().endswith(FRAME_SUFFIXES)]
            return [sum(status.st_size for status in found), max(status.st_mtime_ns for status in found)]
        except (OSError, ValueError):
            return [-1]


def find_jobs(root: Path) -> tuple[list[Job], list[str]]:
    """The clips of an input, in natural order, and notes on what was skipped, one line each.

    In a folder with videos, each of them is a clip; a folder with images only is one clip itself. Videos whose names
    differ only in the suffix keep it: `one.avi` and `one.mp4` become `one_avi` and `one_mp4`.

    Raises:
        DataError: there are no clips, or two of them would have one name.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if root.is_file():
        return [Job(_visible(root.stem), str(root))], []
    clips: list[tuple[str, str, str]] = []  # relative name, suffix, path
    notes: list[str] = []
    others: Counter[str] = Counter()
    for folder, files in walk(str(root), notes):
        videos, images = split_files(folder, files)
        relative = Path(folder).relative_to(root)
        for name in videos:
            stem, suffix = os.path.splitext(name)
            clips.append(((relative / stem).as_posix(), suffix[1:], os.path.join(folder, name)))
        if videos and images:
            notes.append(f"{printable(folder)}: contains videos, so its images are skipped ({len(images)})")
        elif images:
            clips.append((relative.as_posix() if relative.parts else _visible(root.resolve().name), "frames", folder))
        others.update(os.path.splitext(name)[1].lower() or name for name in set(files) - set(videos) - set(images))
    photos = sum(others.pop(suffix, 0) for suffix in PHOTO_SUFFIXES)
    if photos:
        notes.append(f"{root}: {counted(photos, 'HEIC photo')} skipped; save them as JPEG to use them as frames")
    if others:
        kinds = ", ".join(f"{count} {printable(suffix)}" for suffix, count in others.most_common(5))
        notes.append(f"{root}: skipped files that are neither videos nor images: {kinds}")
    if not clips:
        heic = f"; {counted(photos, 'HEIC photo')}: name each, or save them as JPEG" if photos else ""
        raise DataError(f"{root}: no videos and no images in this folder{heic}")
    often = Counter(name.casefold() for name, _, _ in clips)  # without case, which some file systems ignore
    path_of: dict[str, str] = {}
    for name, suffix, path in clips:
        name = f"{name}_{suffix}" if often[name.casefold()] > 1 else name
        if (other := path_of.setdefault(name, path)) != path:
            raise DataError(f"{path}: would be the same clip as {other}, {name}; rename one of them")
    return sorted((Job(*clip) for clip in path_of.items()), key=lambda job: natural_key(job.name)), notes


def clips_in(path: str | os.PathLike[str], say: Callable[[str], object] = lambda line: None) -> list[str] | None:
    """The clips in a folder of videos, or in a tree of folders; None if `path` itself is one clip.

    `say` is called with a line for each kind of file that is skipped.

    Raises:
        DataError: there are neither videos nor images in the folder, or the path is empty.
    """
    if not os.fspath(path):
        raise DataError("an empty path; name a file or a folder")
    if not os.path.isdir(path):
        return None
    videos, pictures = split_files(path, [name for name in os.listdir(path) if not is_system(name)])
    if pictures and not videos:
        return None  # frames of one clip
    jobs, notes = find_jobs(Path(path))
    for line in notes:
        say(line)
    return [job.path for job in jobs]


def _visible(name: str) -> str:
    """A name for a clip: without the dots that hide a file, and that make `..` of `...mp4`."""
    return name.lstrip(".") or "clip"
