"""Checkpoint files: read as data only, checked for damage, written so that a crash leaves no half file."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from Code.common.errors import ProjectError
from Code.common.files import atomic_file

_LONGEST = 2000  # characters of an error; a forged file may hold names of any length
CHECKSUM = "checksum"


class CheckpointError(ProjectError, ValueError):
    """A checkpoint that is missing, unreadable, unsafe, or of another network; one line for people."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        # What a file says of itself must not steer the terminal.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are not those that were written (or are no checkpoint at all)."""


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
    Bits that changed since the file was written are found: by the zip's own CRC-32, which torch itself does not
    look at, and by the checksum that `save_checkpoint` put in.

    Raises:
        DamagedCheckpointError: If the file is empty, truncated, changed, or no checkpoint, or wants to execute code.
        CheckpointError: If it is missing or cannot be read.
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
            raise DamagedCheckpointError(f"{path}: the file is empty; copy or download it again")
        _check_zip(path)
        with torch.serialization.safe_globals(_NUMPY_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the reader about a damaged file; the one error below says it
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged or foreign file can provoke anything in the reader
        raise DamagedCheckpointError(f"{path}: {_why_unreadable(error)}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: holds a {type(checkpoint).__name__}, not a dict of weights")
    if CHECKSUM in checkpoint and checkpoint[CHECKSUM] != _digest_or_none(checkpoint):
        raise DamagedCheckpointError(f"{path}: damaged, its contents do not match the checksum written with them")
    return checkpoint


def _check_zip(path: Path) -> None:
    """Compares every record of a zip checkpoint with its CRC-32; files of torch before 1.6 are no zips.

    Raises:
        DamagedCheckpointError: If one differs, or is compressed: torch never does that, and a record of a few
            bytes could then unpack to more than the memory holds.
        zipfile.BadZipFile, OSError, ...: If the zip is broken.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        packed = [record.filename for record in archive.infolist() if record.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise DamagedCheckpointError(f"{path}: not a checkpoint, its record {packed[0][:80]!r} is compressed")
        broken = archive.testzip()
    if broken is not None:
        raise DamagedCheckpointError(
            f"{path}: damaged, record {broken[:80]!r} does not match its CRC-32; copy or download it again"
        )


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "unsupported GLOBAL "):
        if mark in text:
            name = text.split(mark, 1)[1].split()[0][:80]
            return f"refused, it would run code on loading ({name}); only tensors and plain values are read"
    reason = (text.splitlines() or [""])[0][:150]
    return f"not a checkpoint, or damaged ({type(error).__name__}: {reason}); copy or download it again"


def content_digest(value: object) -> str:
    """SHA-256 (hex) over plain values and tensors: types, shapes, order of keys, and every bit.

    The entry "checksum" of the outermost dict is left out, as it holds this digest.

    Raises:
        TypeError: If there is anything else in it.
    """
    digest = hashlib.sha256()
    if isinstance(value, Mapping):
        value = {name: item for name, item in value.items() if name != CHECKSUM}
    _digest_into(digest, value)
    return digest.hexdigest()


def _digest_into(digest: Any, value: object) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        # [...] -> uint8 [bytes]; the layout in memory is not part of the content
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(f"dict {len(value)};".encode())
        for name, item in value.items():
            _digest_into(digest, name)
            _digest_into(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for item in value:
            _digest_into(digest, item)
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        digest.update(b"str %d;" % len(data) + data)
    elif value is None or isinstance(value, bool | int):
        digest.update(f"{value};".encode())
    elif isinstance(value, float):  # numpy.float64 too
        digest.update(b"float" + struct.pack("<d", value))
    else:
        raise TypeError(f"a {type(value).__name__} has no place in a checkpoint")


def _digest_or_none(checkpoint: dict[str, Any]) -> str | None:
    try:
        return content_digest(checkpoint)
    except (TypeError, RuntimeError, RecursionError):  # foreign types or sparse tensors behind a forged checksum
        return None


def save_checkpoint(payload: Mapping[str, Any], path: str | Path, *, previous: str | Path | None = None) -> None:
    """`save_atomically` with a checksum of the contents inside, under "checksum".

    Args:
        previous: where the file that was at `path` goes, once the new one is safely on the disk. At every
            instant, whatever fails, a whole file is at `path` (if there was one before).

    Raises:
        OSError: If the disk refuses; `path` and `previous` are then as they were.
        TypeError: If the payload holds more than plain values and tensors.
    """
    save_atomically({**payload, CHECKSUM: content_digest(payload)}, path, previous=previous)


def save_atomically(payload: object, path: str | Path, *, previous: str | Path | None = None) -> None:
    """``torch.save`` that never leaves half a file under ``path``, not even after a power cut.

    The folder is made if missing. A failed attempt leaves what was at ``path`` before, and no temporary.

    Args:
        previous: see `save_checkpoint`.

    Raises:
        OSError: If the disk refuses.
    """
    with atomic_file(path, previous=previous) as file:
        _write(payload, file)


def _write(payload: object, file: IO[bytes]) -> None:
    try:
        torch.save(payload, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # a full disk, behind torch's own "unexpected pos"
            raise error.__context__ from None
        raise
