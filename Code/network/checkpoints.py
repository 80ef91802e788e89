"""Checkpoint files: read as data only, written so that a crash leaves no half file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable, unsafe, or of another network; one line for people."""


class _NumpyNumberType:
    """Stands in for numpy.dtype in a pickle: plain numbers only.

    The real numpy.dtype takes its state from the file, and a forged state makes numpy read memory it must
    not. Numbers need only the type's letter, its width and the byte order.
    """

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise ValueError(f"numpy type {code!r} is no plain number")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _numpy_number(dtype: _NumpyNumberType, data: bytes) -> int | float | bool:
    """Stands in for numpy's ``scalar(dtype, bytes)``; gives a Python number."""
    number: int | float | bool = np.frombuffer(data, np.dtype(dtype.order + dtype.code), count=1)[0].item()
    return number


# The two names of one function: before and since numpy 2.
_NUMPY_NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_NumpyNumberType, "numpy.dtype"),
    (_numpy_number, "numpy.core.multiarray.scalar"),
    (_numpy_number, "numpy._core.multiarray.scalar"),
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as data, onto the CPU; nothing in the file can run.

    Both of torch's formats are read (zip, and the pickle stream of torch before 1.6), with tensors from any
    device. Beside tensors and plain Python values only numpy numbers are accepted, and become Python numbers.

    Raises:
        CheckpointError: If the file is missing, empty, damaged, no checkpoint, or wants to execute code.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file. Pretrained weights belong in pretrain_model/: get {path.name} from the "
            "links at github.com/Open-Debin/Emotion-FAN or make one with `python Pretrain_FERPlus.py`; "
            "to start without, use `--pretrained none`"
        )
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path}: the file is empty; copy or download it again")
        with torch.serialization.safe_globals(_NUMPY_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the reader about a damaged file; the one error below says it
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged or foreign file can provoke anything in the reader
        raise CheckpointError(f"{path}: {_why_unreadable(error)}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: holds a {type(checkpoint).__name__}, not a dict of weights")
    return checkpoint


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "unsupported GLOBAL "):
        if mark in text:
            name = text.split(mark, 1)[1].split()[0][:80]
            return f"refused, it would run code on loading ({name}); only tensors and plain values are read"
    reason = (text.splitlines() or [""])[0][:150]
    return f"not a checkpoint, or damaged ({type(error).__name__}: {reason}); copy or download it again"


def save_atomically(payload: object, path: str | Path) -> None:
    """``torch.save`` that never leaves half a file under ``path``, not even after a power cut.

    The folder is made if missing. A failed attempt leaves what was at ``path`` before, and no temporary.

    Raises:
        OSError: If the disk refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
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
