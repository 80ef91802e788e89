"""Whether a run's folder can be written to and has room, asked before the first epoch."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from torch import nn

from Code.data.cache import in_words
from Code.data.stores import free_disk
from Code.training.errors import WriteError

CHECKPOINTS = ("last.pth", "previous.pth", "best.pth")
SPARE = 16 * 2**20  # log, results, report, TensorBoard


def checkpoint_bytes(model: nn.Module) -> int:
    """About the size of a checkpoint to resume from: weights, and a momentum as large."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return 2 * weights + 2**20


def check_room(folder: Path, size: int) -> None:
    """Makes sure that `folder` can hold a run: last, previous and best checkpoint, and one being written.

    Asks the file system for the room and gives it back at once: a quota or a limit on the size of files shows
    itself only so.

    Args:
        folder: made if it is not there.
        size: of a checkpoint, bytes.

    Raises:
        WriteError: one line.
    """
    present = [name for name in CHECKPOINTS if (folder / name).exists()]
    wanted = (len(CHECKPOINTS) + 1 - len(present)) * size + SPARE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = free_disk(folder)
    except OSError as error:
        raise WriteError(f"--output {folder}: cannot be made ({error.strerror}); name a folder to write to") from None
    if free < wanted:
        raise WriteError(
            f"--output {folder}: {in_words(free)} are free, but a run needs about {in_words(wanted)} "
            f"(checkpoints of {in_words(size)}); free some room, or name another folder"
        )
    probes = [folder / f".room-{number}.{os.getpid()}.tmp" for number in range(-(-(wanted - SPARE) // size))]
    try:
        for probe in probes:
            with probe.open("xb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.write(b"\0")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what = f"has no room for {len(probes)} checkpoints of {in_words(size)}"
            raise WriteError(
                f"--output {folder}: {what} ({error.strerror}); free some room, or name another folder"
            ) from None
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that reserves nothing
            raise WriteError(
                f"--output {folder}: cannot be written to ({error.strerror}); name a folder to write to"
            ) from None
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)
