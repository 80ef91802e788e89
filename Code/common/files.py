"""Files that are never half written: under a temporary name, flushed, then renamed; and one writer to a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from .errors import IS_CLONE, UsageError

# The folder that holds pretrain_model/ and, in a clone, the scripts.
PROJECT = Path(__file__).resolve().parents[2 if IS_CLONE else 1]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # as on NFS without a lock service


def shown_path(path: str | Path) -> str:
    """A path for files that are shared: within the current folder, the project or the user's folder, else as it is."""
    full = Path(os.path.abspath(path))
    for root, start in ((Path.cwd(), ""), (PROJECT, ""), (Path(os.path.expanduser("~")), "~/")):
        if full.is_relative_to(root):
            return start + full.relative_to(root).as_posix()
    return str(path)


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """The name of a temporary file to write. When the block ends, the file is flushed and renamed to `path`.

    The folder is made if it is missing. If the block fails, the old file stays; what a killed process left behind, the
    next writer of the same path removes. The temporary name has the same suffix, by which encoders choose a format.

    Raises:
        OSError: the disk refuses, or the name is that of a device or a pipe, which a file must not replace.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which gets its name when the block ends; see `new_file`."""
    with new_file(path) as temporary, open(temporary, "wb") as file:
        yield file


@contextmanager
def atomic_text(path: str | Path, *, newline: str | None = None, errors: str = "strict") -> Iterator[IO[str]]:
    """A text file in UTF-8, as `atomic_file`. `newline` and `errors` are those of `open`."""
    with new_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline=newline, errors=errors) as file:
        yield file


def save_text(text: str, path: str | Path) -> None:
    """Writes a text file in UTF-8, as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def writing_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder to write files into, which gets its name when the block ends; see `new_file`.

    Raises:
        OSError: the disk refuses, or there is a folder with files in it, and `replace` does not say to remove it.
    """
    path = Path(path)
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        paths = [Path(folder, name) for folder, _, names in os.walk(temporary) for name in names]
        with ThreadPoolExecutor(16) as threads:  # the file system commits many files at once: 12 ms for 120, not 400
            list(threads.map(_flush, paths))
        if replace and path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(path.parent)


def _temporary(path: Path) -> Path:
    """The name under which this process writes `path`. Removes what killed processes left of it."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9]+)\.tmp{re.escape(path.suffix)}")
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        match = pattern.fullmatch(left.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be known."""
    if os.name != "posix":  # on Windows, signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _flush(path: Path) -> None:
    """Waits until a file that was written, or the names in a folder, are on the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened; a rename is then as durable as it gets
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_replaceable(path: Path) -> None:
    """Raises an `OSError` for a device, a pipe and what belongs to the system: renaming onto it would destroy it."""
    systems = path.parent.resolve().parts[1:2] in (("proc",), ("sys",), ("dev",))
    if systems or (path.exists() and not path.is_file() and not path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def regular(path: str, flags: int) -> int:
    """An `opener` for `open`. Reading a pipe would block, and a device may never end, so neither is opened.

    Raises:
        OSError: the path is of no regular file.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "a folder" if stat.S_ISDIR(mode) else "not a regular file", path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` inside the block into a `UsageError` that names the file, or `path` if it has no name."""
    try:
        yield
    except BrokenPipeError:  # the reader of stdout has ended, as in `... | head`
        raise
    except OSError as error:
        raise UsageError(f"{error.filename or path}: cannot be written ({error.strerror})") from error


@contextmanager
def one_writer(folder: Path, name: str = ".lock", *, doing: str = "") -> Iterator[None]:
    """Inside the block, no other process is inside such a block of the same folder, which is made if it is missing.

    The lock, a file of the given name, ends with the process, however that ends. A file system that cannot lock does
    without.

    Args:
        doing: what the block does: "draws the sample". Other processes say so and wait; "": they fail.

    Raises:
        UsageError: another process writes there, or the folder cannot be written to.
    """
    lock = FileLock(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not doing:
                raise UsageError(f"{folder}: another process writes there; wait for it, or stop it") from None
            print(f"another process {doing}; waiting for it", flush=True)
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
        print(f"note:  {folder}: this file system has no locks; let nothing else write there", flush=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder or its disk is gone; an error inside the block counts
            (folder / name).unlink(missing_ok=True)
        lock.release()
