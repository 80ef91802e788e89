"""Locks between processes: one writer to a folder, or one process after another."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ProjectError, UsageError

LOCK = ".lock"
# Errors of file systems without locks: NFS without its lock service, some FUSE and cluster file systems.
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class FolderInUseError(ProjectError, RuntimeError):
    """Another process writes to the folder."""


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Inside the block, no other process may write to the folder. The folder is made if it is missing.

    Raises:
        FolderInUseError: another process writes there.
        UsageError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder / LOCK))
        except Timeout:
            raise FolderInUseError(f"{folder}: another process writes there; wait for it, or stop it") from None
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
        yield


@contextmanager
def one_after_another(path: Path, doing: str) -> Iterator[None]:
    """Only one process at a time is inside the block; the others say so and wait.

    Args:
        path: of the lock, in a folder that exists. It is removed after the block.
        doing: what the block does, for the line of those who wait: "draws the sample".

    Raises:
        OSError: the folder cannot be written to.
    """
    with _locked(path, f"another process {doing}; waiting for it"):
        yield


@contextmanager
def _locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Holds a lock, which the operating system releases when the process ends, however it ends.

    Where the file system has no locks, a note says so, and the block runs without one.

    Raises:
        Timeout: another process holds it, and there is nothing to print while `waiting`.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not waiting:
                raise
            print(waiting, flush=True)
            lock.acquire()
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in WITHOUT_LOCKS:
            raise
        reason = f"its file system has no locks ({error.strerror})"
        print(f"note: {path.parent}: {reason}; make sure that no other process writes there", file=sys.stderr)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # the folder or its disk is gone; an error inside the block counts
                path.unlink(missing_ok=True)
            lock.release()
