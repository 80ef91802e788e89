"""Stub folders and lists in AFEW's layout, and what a reader reports about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from Code.data.clips import ClipSet, DataError


def make_clip(root: Path, name: str, frames: int | list[str] = 3) -> Path:
    """A clip folder with empty stub files."""
    folder = root / name
    folder.mkdir(parents=True)
    names = [f"{i:03d}.jpg" for i in range(frames)] if isinstance(frames, int) else frames
    for frame in names:
        (folder / frame).touch()
    return folder


def make_list(root: Path, content: str | bytes) -> Path:
    path = root.parent / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(clip_set: ClipSet) -> list[str]:
    return [clip.name for clip in clip_set.clips]


def error_of(read, *args, **kwargs) -> DataError:
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    return caught.value


def problems_of(read, *args, **kwargs) -> list[str]:
    return error_of(read, *args, **kwargs).problems


def three_clips(folder: Path) -> Path:
    """Three clips of two classes."""
    root = folder / "Train"
    make_clip(root, "Fear/000633000")
    make_clip(root, "Fear/000633680", 2)
    make_clip(root, "Happy/000149120", 4)
    return root
