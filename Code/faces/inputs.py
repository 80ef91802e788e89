"""Which clips an input holds: a video, a tree of videos, or a tree of frame folders."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from Code.data.clips import DataError
from Code.data.lists import FRAME_SUFFIXES, natural_key, printable

# What counts as a video inside a tree; a file that is named itself may be called anything.
VIDEO_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "m1v", "m2ts", "m2v", "m4v", "mjpeg", "mjpg"),
        *("mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut", "ogg", "ogm", "ogv", "qt"),
        *("rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"),
    )
)


@dataclass(frozen=True, order=True)
class Job:
    """One clip to prepare: its name (relative path without suffix, forward slashes) and its file or folder."""

    name: str
    path: str

    def fingerprint(self) -> list[int]:
        """Size and latest change (ns) of what is read, to tell whether it is still the same; -1 if it is gone."""
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
    """The clips of an input, in natural order.

    A folder that holds videos gives a clip for each; one that holds only images is itself a clip. Two
    videos that differ in their suffix alone keep it: `one.avi` and `one.mp4` become `one_avi`, `one_mp4`.

    Returns:
        The clips, and remarks about what was passed over, a line each.

    Raises:
        DataError: if there is nothing to prepare.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if root.is_file():
        return [Job(root.stem, str(root))], []
    found: list[tuple[str, str, str]] = []  # relative name, suffix, path
    remarks: list[str] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted((name for name in folders if name[0] != "."), key=natural_key)
        relative = Path(folder).relative_to(root)
        visible = [name for name in files if name[0] != "."]
        videos = [name for name in visible if name.lower().endswith(VIDEO_SUFFIXES)]
        images = [name for name in visible if name.lower().endswith(FRAME_SUFFIXES)]
        for name in videos:
            stem, suffix = os.path.splitext(name)
            found.append(((relative / stem).as_posix(), suffix[1:], os.path.join(folder, name)))
        if videos and images:
            remarks.append(f"{printable(folder)}: holds videos, so its {len(images)} images are left out")
        elif images:
            name = relative.as_posix() if relative.parts else root.resolve().name
            found.append((name, "frames", folder))
        others.update(os.path.splitext(name)[1].lower() or name for name in set(visible) - set(videos) - set(images))
    if others:
        kinds = ", ".join(f"{count} {printable(suffix)}" for suffix, count in others.most_common(5))
        remarks.append(f"{root}: passed over what is neither video nor image: {kinds}")
    # Compared without case, since some file systems do not tell it apart.
    often = Counter(name.casefold() for name, _, _ in found)
    jobs = [Job(f"{name}_{suffix}" if often[name.casefold()] > 1 else name, path) for name, suffix, path in found]
    if not jobs:
        raise DataError(f"{root}: no videos and no images in this folder")
    return sorted(jobs, key=lambda job: natural_key(job.name)), remarks
