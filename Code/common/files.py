"""Files that are whole at every instant: written aside, flushed to the disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(path: str | Path, *, previous: str | Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the name `path` when the block ends, and is on the disk then.

    The folder is made if missing. A block that fails leaves what was at `path` before, and no temporary.

    Args:
        previous: where the file that was at `path` goes, once the new one is safely on the disk. At every
            instant, whatever fails, a whole file is at `path` (if there was one before).

    Raises:
        OSError: If the disk refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            keep_as(path, Path(previous))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened; the rename is then as durable as it gets
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save_text(text: str, path: str | Path) -> None:
    """Writes a text file, UTF-8, that is whole at every instant.

    Raises:
        OSError: If the disk refuses.
    """
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def keep_as(path: Path, previous: Path) -> None:
    """Gives a file a second name (in place of what had it), while it keeps its first.

    Raises:
        OSError: If the disk refuses; what had the second name still has it.
    """
    second = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    try:
        second.unlink(missing_ok=True)
        try:
            os.link(path, second)
        except OSError:  # a file system without hard links
            with open(path, "rb") as source, open(second, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
        os.replace(second, previous)
    except BaseException:
        second.unlink(missing_ok=True)
        raise


def in_words(size: float) -> str:
    """Bytes as people say them: 830 MiB, 6.4 GiB."""
    mebibytes = size / 2**20
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.3g} MiB"


def free_disk(folder: Path) -> int:
    """Bytes that are free where `folder` is or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
