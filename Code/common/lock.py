"""One writer to a folder: a second process that would write there stops, and says who works there.

Where both processes would write the same, `one_after_another` lets the second one wait instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import ProjectError, UsageError
from .files import remove_leftovers, save_text
from .json_files import StateError, read_state

LOCK, WRITER = ".lock", ".writer.json"
# Errors of file systems without locks: NFS without its lock service, some FUSE and cluster file systems.
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class FolderInUseError(ProjectError, RuntimeError):
    """Another process writes to the folder."""


@dataclass
class Writer:
    """Who writes to a folder: the content of its `.writer.json`, which holds as long as the folder is locked.

    Attributes:
        since: in UTC, ISO 8601.
    """

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Inside the block, no other process may write to the folder. The folder is made if it is missing.

    The operating system releases the lock when the process ends, however it ends. On a file system without locks, a
    note says so and the block runs without one.

    Raises:
        FolderInUseError: another process writes there.
        UsageError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout  # here, because it imports asyncio

    lock = FileLock(folder / LOCK, timeout=0, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise FolderInUseError(f"{folder}: {_writer(folder)} writes there; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
        print(
            f"note: {folder}: its file system has no locks ({error.strerror}); make sure that no other process writes "
            "there",
            file=sys.stderr,
        )
        yield
        return
    try:
        writer = Writer(os.getpid(), socket.gethostname(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        try:
            remove_leftovers(folder, WRITER.__eq__)
            save_text(json.dumps(asdict(writer)) + "\n", folder / WRITER)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
        yield
    finally:
        # If the folder or its disk is gone, the error inside the block counts. Files that stay lock nobody out.
        with contextlib.suppress(OSError):
            (folder / WRITER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def one_after_another(path: Path, doing: str) -> Iterator[None]:
    """Only one process at a time is inside the block; the others say so and wait.

    On a file system without locks, all of them are inside at once.

    Args:
        path: of the lock, in a folder that exists. It is removed after the block.
        doing: what the block does, for the line of those who wait: "draws the sample".

    Raises:
        OSError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process {doing}; waiting for it", flush=True)
            lock.acquire()
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # as in `one_writer`
                path.unlink(missing_ok=True)
            lock.release()


def _writer(folder: Path) -> str:
    """Who holds the lock of a folder, in words."""
    try:
        return str(read_state(folder / WRITER, Writer, remedy=""))
    except StateError:  # it has just begun
        return "another process"
