"""What an input is (a video, an animation, an image, a folder of frames), and which inputs a folder contains."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.files import regular
from ..common.names import counted, natural_key, printable
from ..data.clips import DataError
from ..data.images import is_animated, open_image
from ..data.listing import FRAME_SUFFIXES, is_system, list_folder, walk

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
# Neighbors of a folder that are compared, and the mean difference (gray levels) of thumbnails in different scenes.
COMPARED, CHANGED = 12, 21.0
_TRAILING_NUMBER = re.compile(r"([0-9]{1,9})$")


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
    start = b""
    with suppress(OSError), open(path, "rb", opener=regular) as file:
        start = file.read(16)
    box, brand = start[4:8], start[8:12]
    if box == b"ftyp":  # MP4 and its relatives
        return Kind.PHOTO if brand in PHOTO_BRANDS else Kind.VIDEO
    is_matroska = start.startswith(b"\x1aE\xdf\xa3")
    is_motion_jpeg = start.startswith(_JPEG) and suffix in VIDEO_SUFFIXES  # one JPEG after another
    is_picture = start.startswith(_PICTURES) or (start[:4] == b"RIFF" and brand == b"WEBP")
    is_named_picture = suffix in (*FRAME_SUFFIXES, *ANIMATION_SUFFIXES)
    if is_matroska or is_motion_jpeg or not (is_picture or is_named_picture):
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
    """One clip."""

    name: str  # relative path without suffix, with forward slashes
    path: str  # its file or folder

    def fingerprint(self) -> list[int]:
        """Size and time of the last change (ns) of its files, to notice changes; [-1] if they are gone."""
        try:
            paths = list(os.scandir(self.path)) if os.path.isdir(self.path) else [self.path]
            known = [os.stat(path) for path in paths]
            return [sum(each.st_size for each in known), max(each.st_mtime_ns for each in known)]
        except (OSError, ValueError):
            return [-1]


def find_jobs(root: Path) -> tuple[list[Job], list[str]]:
    """The clips of an input, in natural order, and notes on what was skipped, one line each.

    In a folder with videos, each of them is a clip; a folder with images only is one clip itself. Videos whose names
    differ only in the suffix keep it: `one.avi` and `one.mp4` become `one_avi` and `one_mp4`. DataError: there are no
    clips, or two of them would have one name.
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
    skipped = ", ".join(f"{count} {printable(suffix)}" for suffix, count in others.most_common(5))
    if others.keys() & set(PHOTO_SUFFIXES):
        skipped += "; name each HEIC photo, or save them as JPEG"
    if not clips:
        raise DataError(f"{root}: no videos and no images in this folder{', only ' * bool(skipped)}{skipped}")
    if skipped:
        notes.append(f"{root}: skipped files that are neither videos nor images: {skipped}")
    often = Counter(name.casefold() for name, _, _ in clips)  # without case, which some file systems ignore
    path_of: dict[str, str] = {}
    for name, suffix, path in clips:
        name = f"{name}_{suffix}" if often[name.casefold()] > 1 else name
        if (other := path_of.setdefault(name, path)) != path:
            raise DataError(f"{path}: would be the same clip as {other}, {name}; rename one of them")
    return sorted((Job(*clip) for clip in path_of.items()), key=lambda job: natural_key(job.name)), notes


def _visible(name: str) -> str:
    """A name for a clip: without the dots that hide a file, and that make `..` of `...mp4`."""
    return name.lstrip(".") or "clip"


def inputs_in(path: str | os.PathLike[str], pictures: bool | None, say: Callable[[str], object]) -> list[str] | None:
    """The inputs in a folder of videos or of pictures, or in a tree of folders; None if `path` is one input itself.

    The images in a folder are `pictures` (True), the frames of one clip (False), or as `why_apart` says (None). `say`
    gets a line on what is skipped. DataError: the folder has neither videos nor images, or the path is empty.
    """
    path = os.fspath(path)
    if not path:
        raise DataError("an empty path; name a file or a folder")
    if not os.path.isdir(path):
        return None
    clips = [path]
    videos, images = split_files(path, [name for name in os.listdir(path) if not is_system(name)])
    is_clip = bool(images) and not videos
    if not is_clip:
        jobs, notes = find_jobs(Path(path))
        clips = [job.path for job in jobs]
        for line in notes:
            say(line)
    found: list[str] = []
    for clip in clips:
        files = image_files(Path(clip)) if pictures is not False and os.path.isdir(clip) else []
        why = why_apart(files) if pictures is None else ""
        if why:
            say(f"{clip}: {why}, so its {len(files)} images are no clip; each is answered (--clip: as one clip)")
        found += list(map(str, files)) if files and (pictures or why) else [clip]
    return None if is_clip and found == [path] else found


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder in natural order, without hidden ones; DataError: none, or one cannot be used."""
    problems: list[str] = []
    try:
        folders, images = list_folder(str(folder), problems)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    if not images and not problems:
        inside = f"; name one of its {counted(len(folders), 'folder')} instead" if folders else ""
        problems.append(f"{folder}: no images in this folder ({', '.join(FRAME_SUFFIXES)}){inside}")
    if problems:
        raise DataError(problems)
    return [folder / name for name in images]


def frame_numbers(files: list[Path]) -> list[int] | None:
    """The numbers at the end of the files' names; None unless all have one and they ascend."""
    numbers = [int(match[1]) for file in files if (match := _TRAILING_NUMBER.search(file.stem))]
    return numbers if len(numbers) == len(files) and all(one < other for one, other in pairwise(numbers)) else None


def why_apart(files: list[Path]) -> str:
    """Why images are no clip; "" if their names end in ascending numbers, sizes agree, and most look like the next."""
    if len(files) < 2:
        return ""
    if frame_numbers(files) is None:
        return "the names of the images are no frame numbers"
    sizes, changed = set(), []
    for index in {round(place) for place in np.linspace(0, len(files) - 2, min(COMPARED, len(files) - 1))}:
        with suppress(DataError):  # damaged; whoever reads it says so
            (size, gray), (other, following) = map(_thumbnail, files[index : index + 2])
            sizes |= {size, other}
            changed.append(np.abs(following - gray).mean() > CHANGED)
    if len(sizes) > 1:
        return "the images differ in size"
    apart = len(changed) >= 3 and 5 * sum(changed) > 4 * len(changed)  # two may be far apart in a clip
    return "the images show different things" if apart else ""


def _thumbnail(file: Path) -> tuple[tuple[int, int], np.ndarray]:
    """The size of an image, and its thumbnail, float32 [32, 32], gray levels."""
    with open_image(str(file)) as image:
        size = image.size
        image.draft("L", (64, 64))
        return size, np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
