"""Checkpoint files: read as data only, checked for damage, written so that a crash leaves no half file."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import torch

from ..common.errors import ProjectError
from ..common.files import atomic_file, regular
from ..common.names import MAX_IMAGE_SIZE, printable

T = TypeVar("T")


class CheckpointError(ProjectError, ValueError):
    """A checkpoint that is missing, unreadable, unsafe, or of another network. The message is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, 2000))  # a forged file may hold names of any length


@dataclass
class CheckpointFacts:
    """What a checkpoint says about its weights; published files say little of it."""

    image_size: int | None = None  # side in pixels
    dataset: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    protocol: dict[str, Any] | None = None
    class_shares: tuple[float, ...] | None = None  # how often its training set shows each class
    recipe: dict[str, Any] | None = None  # how the weights were made, among it `balance`, see `Code.network.prior`
    epoch: int | float | None = None  # a fraction in some published files
    metrics: dict[str, Any] | None = None
    neutral_feature: tuple[float, ...] | None = None  # mean of neutral faces, D numbers, see `Code.faces.neutral`

    def __post_init__(self) -> None:
        if self.image_size is not None and not 1 <= self.image_size <= MAX_IMAGE_SIZE:
            raise ValueError(f"image_size {self.image_size} is not a number of pixels from 1 to {MAX_IMAGE_SIZE}")
        if self.class_shares is not None and not (min(self.class_shares, default=0) >= 0 < sum(self.class_shares)):
            raise ValueError("class_shares are not one share for each class")


def read_part(content: Any, kind: type[T], path: str | Path) -> T:
    """Converts plain data of a checkpoint into a dataclass.

    Raises:
        CheckpointError: naming the field that has another shape.
    """
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint") from None


class _NumpyNumberType:
    """Replaces numpy.dtype in a pickle; plain numbers only.

    The real numpy.dtype takes its state from the file, and with a forged state numpy reads memory out of bounds.
    Numbers only need the letter of the type, its width and the byte order.
    """

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise ValueError(f"numpy type {code!r} is no plain number")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _numpy_number(dtype: _NumpyNumberType, data: bytes) -> int | float | bool:
    """Replaces numpy's `scalar(dtype, bytes)`; returns a Python number."""
    number: int | float | bool = np.frombuffer(data, np.dtype(dtype.order + dtype.code), count=1)[0].item()
    return number


# The two names of one function: before and since numpy 2.
_NUMPY_NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_NumpyNumberType, "numpy.dtype"),
    (_numpy_number, "numpy.core.multiarray.scalar"),
    (_numpy_number, "numpy._core.multiarray.scalar"),
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint as data, onto the CPU. No code in the file can run.

    Both formats of torch are read (zip, and the pickle stream of torch before 1.6), with tensors from any device.
    Besides tensors and plain Python values, only numpy numbers are accepted; they become Python numbers.

    Raises:
        CheckpointError: the file is missing, empty, truncated, changed, no checkpoint, or would execute code.
    """
    try:
        _check_zip(Path(path))
        with torch.serialization.safe_globals(_NUMPY_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a damaged file; the error below says it
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; a run has best.pth, and pretrain_model/README.md says where published weights are "
            "(to start without, use `--pretrained none`)"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged or foreign file can provoke anything in the reader
        raise CheckpointError(f"{path}: {_why_unreadable(error)}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: holds a {type(checkpoint).__name__}, not a dict of weights")
    return checkpoint


def _check_zip(path: Path) -> None:
    """Compares every record of a zip checkpoint with its CRC-32, which torch does not.

    No record may be compressed: torch never compresses, and a few bytes could unpack to more than the memory holds.
    """
    with open(path, "rb", opener=regular) as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("its records are compressed")
        if broken := archive.testzip():
            raise ValueError(f"{broken[:80]!r} does not match its CRC-32")


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "unsupported GLOBAL "):
        if mark in text:
            name = text.split(mark, 1)[1].split()[0][:80]
            return f"refused, it would run code on loading ({name}); only tensors and plain values are read"
    reason = text.partition("\n")[0][:150]
    return f"not a checkpoint, or damaged ({type(error).__name__}: {reason}); copy or download it again"


def save_atomically(payload: object, path: str | Path) -> None:
    """`torch.save` that never leaves an incomplete file, not even after a power cut; see `atomic_file`.

    Raises:
        OSError: the disk refuses.
    """
    try:
        with atomic_file(path) as file:
            torch.save(payload, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # a full disk, which torch reports as "unexpected pos"
            raise error.__context__ from None
        raise
