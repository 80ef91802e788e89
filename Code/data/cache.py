"""A file with all frames of a split, decoded once, which later runs read.

A cache file starts with 4096 bytes of JSON (its format, and the paths, sizes and times of the frames) and the CRC-32 of
every frame. The frames follow at the next multiple of 4096: uint8 [N, S, S, 3], in the order of the clips. The file is
written under a name that ends in `.partial`, flushed to the disk and renamed, under a lock that other processes
building the same file wait for. Changes since then (other frames, a truncated file, a damaged header) are found when
the file is opened, or, frame by frame, when a process first reads a frame.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..common.files import flush, in_words, regular
from ..common.json_files import StateError, parse_state
from ..common.progress import Progress
from .clips import Clip, ClipSet, DataError
from .loaders import Say, ignore_signals
from .stores import FileStore

FORMAT = "emotion-fan frames/1"
HEADER_BYTES = PAGE = 4096
logger = logging.getLogger(__name__)


class CacheError(DataError):
    """A cache that cannot be built or read."""


@dataclass
class CacheHeader:
    """The JSON at the start of a cache file; see `CacheFile`."""

    format: str
    image_size: int
    frames: int
    paths: str
    stamps: str
    decoder: str
    checksums: int


class CacheFile:
    """The decoded frames of a clip set at one size.

    Args:
        clips: the clips with the frames.
        image_size: side in pixels.
        folder: contains the cache files; made when one is built.
    """

    def __init__(self, clips: ClipSet, image_size: int, folder: Path) -> None:
        self.source = FileStore(clips, image_size)
        self.num_frames = int(self.source.offsets[-1])
        self.shape = (self.num_frames, image_size, image_size, 3)
        self.frame_bytes = image_size * image_size * 3
        paths, stamps = _identify(clips.clips)
        label = re.sub(r"[^\w-]+", "_", Path(clips.root).name) or "frames"
        self.path = folder / f"{label}_{image_size}px_{paths[:12]}.frames"
        self.partial = self.path.with_suffix(".partial")
        start = HEADER_BYTES + 4 * self.num_frames
        self.pixels_at = -(-start // PAGE) * PAGE
        self.size = self.pixels_at + self.num_frames * self.frame_bytes
        # Another version of Pillow may decode a JPEG to slightly different pixels.
        self.about = {
            "format": FORMAT,
            "image_size": image_size,
            "frames": self.num_frames,
            "paths": paths,
            "stamps": stamps,
            "decoder": f"Pillow {PIL.__version__}",
        }

    def fault(self) -> str | None:
        """Why the file on the disk cannot be used; None if it can."""
        try:
            with open(self.path, "rb", opener=regular) as file:
                header = file.read(HEADER_BYTES).rstrip(b"\0")
                if os.fstat(file.fileno()).st_size != self.size:
                    return "it is truncated or too long"
                found = parse_state(header, CacheHeader, place=str(self.path), remedy="it is built again")
                table = file.read(4 * self.num_frames)
        except FileNotFoundError:
            return "it does not exist yet"
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        except StateError:
            return "its header is damaged"
        if found.format != FORMAT:
            return f"it has the format {found.format[:40]!r} of another version"
        if found.checksums != zlib.crc32(table):
            return "its checksums are damaged"
        if {name: getattr(found, name) for name in self.about} != self.about:
            other = "the decoder" if found.decoder != self.about["decoder"] else "frames"
            return f"{other} changed"
        return None

    def open(self, workers: int, say: Say, show_progress: bool = True) -> DiskStore:
        """Opens the file, after building it if necessary.

        Args:
            workers: processes that decode; 0 decodes in this one.
            say: prints one line about what is done.
            show_progress: show the progress of decoding.

        Raises:
            DataError: naming every frame that cannot be decoded.
            CacheError: the file cannot be written. No part of it is left.
        """
        fault = self.fault()
        if fault is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(f"{self.path}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    say(f"cache: another run is building {self.path}; waiting for it")
                    lock.acquire()
            except (OSError, NotImplementedError) as error:
                raise self._error(error) from None
            try:
                fault = self.fault()  # another process may have built it
                if fault is not None:
                    again = "" if fault.startswith("it does not exist") else f"; built again, because {fault}"
                    say(f"cache: decoding {self.num_frames} frames once into {self.path}{again}")
                    self._build(workers, show_progress)
            finally:
                lock.release()
        return DiskStore(self)

    def _build(self, workers: int, show_progress: bool) -> None:
        try:
            self.partial.unlink(missing_ok=True)  # left by a process that was killed, since this one has the lock
            with self.partial.open("xb") as file:
                _reserve(file.fileno(), self.size)
            checksums = self._decode_all(workers, show_progress)
            with self.partial.open("r+b") as file:
                header = json.dumps({**self.about, "checksums": zlib.crc32(checksums.tobytes())})
                file.write(header.encode().ljust(HEADER_BYTES, b"\0"))
                file.write(checksums.tobytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.partial, self.path)
            flush(self.path.parent)
        except OSError as error:
            raise self._error(error) from None
        finally:
            self.partial.unlink(missing_ok=True)

    def _decode_all(self, workers: int, show_progress: bool) -> np.ndarray:
        """Decodes all frames into the partial file; returns their CRC-32, uint32 [N]."""
        checksums = np.zeros(self.num_frames, dtype="<u4")
        problems: list[str] = []
        rows = _DecodedRows(self.source, self.partial, self.pixels_at)
        with Progress("decoding frames", self.num_frames, show=show_progress) as progress:
            for ids, outcome in read_in_chunks(rows, self.num_frames, workers):
                if isinstance(outcome, DataError):
                    problems += outcome.problems
                elif isinstance(outcome, OSError):
                    raise outcome
                else:
                    checksums[ids] = outcome
                progress(len(ids))
        if problems:
            raise DataError(problems)
        return checksums

    def _error(self, error: Exception) -> CacheError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return CacheError(
            f"--cache disk: {self.path} cannot be written ({reason}); it needs {in_words(self.size)}: free some space, "
            "choose another folder with --cache-dir, or use --cache none"
        )


class DiskStore:
    """The frames of a cache file. The system keeps as many of them in memory as fit.

    They are read, not mapped into memory: a file that is cut, or whose disk is gone, would kill the process.
    The CRC-32 of a frame is checked when this process first reads it. A damaged frame is decoded again from its image
    file, and repaired in the cache.
    """

    def __init__(self, cache: CacheFile) -> None:
        self.cache = cache
        try:
            self.checksums = np.fromfile(cache.path, dtype="<u4", count=cache.num_frames, offset=HEADER_BYTES)
            self.file = cache.path.open("rb", buffering=0)
        except (OSError, ValueError) as error:
            raise cache._error(error) from None
        self.checked = np.zeros(cache.num_frames, dtype=bool)

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are spawned open the file themselves.
        return {"cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["cache"])  # type: ignore[misc]

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 3, S, S], RGB.

        Raises:
            DataError: a frame is damaged, and its image file cannot be decoded either.
        """
        rows = np.empty((len(frame_ids), *self.cache.shape[1:]), dtype=np.uint8)  # [N, S, S, 3]
        for row, frame_id in zip(rows, frame_ids.tolist(), strict=True):
            if not self._fill(row, frame_id):
                row[:] = self._repair(frame_id)
        return torch.from_numpy(rows).permute(0, 3, 1, 2)

    def _fill(self, row: np.ndarray, frame_id: int) -> bool:
        """Reads a frame into `row`; returns whether it is whole."""
        try:
            data = os.pread(self.file.fileno(), row.nbytes, self.cache.pixels_at + frame_id * self.cache.frame_bytes)
        except OSError:
            return False
        if len(data) != row.nbytes:
            return False
        row[:] = np.frombuffer(data, np.uint8).reshape(row.shape)
        if not self.checked[frame_id]:
            self.checked[frame_id] = zlib.crc32(data) == self.checksums[frame_id]
        return bool(self.checked[frame_id])

    def _repair(self, frame_id: int) -> np.ndarray:
        """Decodes a damaged frame, uint8 [S, S, 3], and writes it to the cache if possible."""
        cache = self.cache
        pixels = cache.source.read(np.array([frame_id]))[0].permute(1, 2, 0).contiguous().numpy()
        outcome = "repaired"
        try:
            with cache.path.open("r+b") as file:
                _write_all(file.fileno(), pixels, cache.pixels_at + frame_id * cache.frame_bytes)
        except OSError as error:
            outcome = f"not repaired ({error.strerror})"
        logger.warning("%s: frame %d was damaged; decoded again, %s", cache.path, frame_id, outcome)
        return pixels


class _DecodedRows(Dataset):
    """Maps consecutive frame ids to their CRC-32, or to an error, after decoding the frames into the file."""

    def __init__(self, source: FileStore, path: Path, pixels_at: int) -> None:
        self.source, self.path, self.pixels_at = source, path, pixels_at

    def __getitem__(self, ids: np.ndarray) -> list[int] | DataError | OSError:
        try:
            pixels = self.source.read(ids).permute(0, 2, 3, 1).contiguous().numpy()  # [N, S, S, 3]
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                # Not through a memory map: with one, a full disk kills the process.
                _write_all(descriptor, pixels, self.pixels_at + int(ids[0]) * pixels[0].nbytes)
            finally:
                os.close(descriptor)
            return [zlib.crc32(frame) for frame in pixels]
        except (DataError, OSError) as error:
            return error  # not raised: see Code.data.loaders


def _identify(clips: Sequence[Clip]) -> tuple[str, str]:
    """Digests of all frames' absolute paths, and of their sizes and times."""
    paths, stamps = hashlib.sha256(), hashlib.sha256()
    with ThreadPoolExecutor(8) as pool:  # mostly waiting for the disk or a file server
        for clip, stamp in zip(clips, pool.map(_stamp, clips), strict=True):
            paths.update(os.fsencode("\0".join([os.path.abspath(clip.folder), *clip.frames]) + "\0\0"))
            stamps.update(stamp)
    return paths.hexdigest(), stamps.hexdigest()


def _stamp(clip: Clip) -> bytes:
    """Size and time of a clip's frames, int64 [T, 2]; -1 for a file that cannot be read."""
    found = np.full((len(clip), 2), -1, dtype="<i8")
    for index, path in enumerate(clip.paths):
        try:
            status = os.stat(path)
        except OSError:
            continue  # reported when the frame is decoded
        found[index] = status.st_size, status.st_mtime_ns
    return found.tobytes()


def _reserve(descriptor: int, size: int) -> None:
    """Reserves space for the whole file, so that a full disk is an error now and not in the middle of the work."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _write_all(descriptor: int, pixels: np.ndarray, offset: int) -> None:
    view = memoryview(pixels.reshape(-1))  # type: ignore[arg-type]
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


CHUNK_FRAMES = 32  # decoded by a worker at a time


def read_in_chunks(dataset: Dataset, num_frames: int, workers: int) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields (ids, dataset[ids]) for all frames in order, computed in parallel."""
    keys = [np.arange(start, min(start + CHUNK_FRAMES, num_frames)) for start in range(0, num_frames, CHUNK_FRAMES)]
    loader = DataLoader(
        dataset,
        sampler=keys,  # type: ignore[arg-type]  # keys are whole chunks
        batch_size=None,
        num_workers=min(workers, len(keys)),
        collate_fn=_unchanged,
        worker_init_fn=ignore_signals,
    )
    return zip(keys, loader, strict=True)


def _unchanged(value: Any) -> Any:
    return value
