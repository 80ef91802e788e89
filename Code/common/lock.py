"""A lock between processes: one writer to a folder."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ProjectError, UsageError

# Errors of file systems without locks: NFS without its lock service, some FUSE and cluster file systems.
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class FolderInUseError(ProjectError, RuntimeError):
    """Another process writes to the folder."""


@contextmanager
def one_writer(folder: Path, name: str = ".lock", *, doing: str = "") -> Iterator[None]:
    """Inside the block, no other process is inside such a block of the same folder, which is made if it is missing.

    The operating system releases the lock when the process ends, however it ends. Where the file system has no locks, a
    note says so, and the block runs without one.

    Args:
        name: of the lock's file, which is removed after the block.
        doing: what the block does: "draws the sample". Other processes say so and wait; "": they fail.

    Raises:
        FolderInUseError: another process writes there.
        UsageError: the folder cannot be written to.
    """
    lock = FileLock(folder / name, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not doing:
                raise FolderInUseError(f"{folder}: another process writes there; wait for it, or stop it") from None
            print(f"another process {doing}; waiting for it", flush=True)
            lock.acquire()
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
        reason = f"its file system has no locks ({error.strerror})"
        print(f"note: {folder}: {reason}; make sure that no other process writes there", file=sys.stderr)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # the folder or its disk is gone; an error inside the block counts
                (folder / name).unlink(missing_ok=True)
            lock.release()
