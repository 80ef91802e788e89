"""The frames of clips by number: a table that numbers them, and stores that read them.

`FrameTable` lays the frames of all clips out in one row. A frame's id is its place in that row. A `Store` reads frames
by their ids: `FileStore` decodes image files, `ArrayStore` has the frames in memory, `Code.data.cache.DiskStore` reads
a file of decoded frames, `Code.composed` renders them. `Code.training.frames` chooses among them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..common.wording import printable
from .clips import ClipSet, DataError
from .images import read_image


@dataclass
class FrameTable:
    """The frames of all clips in one row: clip c has the ids offsets[c] to offsets[c + 1] - 1.

    Attributes:
        lengths: int64 [clips], number of frames of each clip.
        targets: int64 [clips] class indices, or float32 [clips, C] class probabilities.
        names: one name per clip.
        labels: the class names, in the order of their indices.
        listed: number of clips that the dataset lists, including those without frames.
        skipped: names of the clips that were skipped.
        renewed: every training epoch has new frames; their ids are id + epoch * num_frames.
    """

    lengths: np.ndarray
    targets: Tensor
    names: Sequence[str]
    labels: tuple[str, ...]
    listed: int
    skipped: list[str]
    renewed: bool = False

    def __post_init__(self) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Of all clips together."""
        return int(self.offsets[-1])

    @classmethod
    def of(cls, clips: ClipSet) -> FrameTable:
        """The table of a `ClipSet`, in the same order."""
        return cls(
            lengths=np.array([len(clip) for clip in clips.clips], dtype=np.int64),
            targets=torch.tensor([clip.label for clip in clips.clips], dtype=torch.int64),
            names=[clip.name for clip in clips.clips],
            labels=clips.labels,
            listed=clips.listed,
            skipped=clips.skipped,
            renewed=not clips.in_files,
        )


class Store(Protocol):
    """Reads frames by their ids."""

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, channels, H, W]."""
        ...


class FileStore:
    """Decodes image files when they are read, and resizes them to one square size.

    Args:
        clips: the clips with the frames.
        image_size: side of the result in pixels. Resizing is antialiased. A frame that is not square is squeezed, as
            in the published pipeline.
        gray: see `read_image`.
    """

    def __init__(self, clips: ClipSet, image_size: int, *, gray: bool = False) -> None:
        self.clips, self.gray = clips.clips, gray
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in self.clips])])
        self.image_size = image_size
        # Of each frame when it was first read; 0: not yet. Worker processes share it.
        self.stamps = torch.zeros(int(self.offsets[-1]), dtype=torch.int64)
        with contextlib.suppress(RuntimeError):  # no shared memory: each worker keeps its own
            self.stamps.share_memory_()

    def locate(self, frame_id: int) -> tuple[int, int]:
        """(clip index, frame index within the clip) of a frame id."""
        clip = int(np.searchsorted(self.offsets, frame_id, side="right")) - 1
        return clip, int(frame_id - self.offsets[clip])

    def path(self, frame_id: int) -> str:
        """The path of a frame."""
        clip, index = self.locate(frame_id)
        return self.clips[clip].path(index)

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 3, S, S], RGB.

        Raises:
            DataError: naming every file of this call that cannot be read, or was replaced since it was first read.
        """
        out = np.empty((len(frame_ids), self.image_size, self.image_size, 3), dtype=np.uint8)
        problems = []
        for row, frame_id in enumerate(frame_ids):
            path = self.path(int(frame_id))
            try:
                out[row] = read_image(path, self.image_size, gray=self.gray)
                if self._is_replaced(int(frame_id), path):
                    problems.append(f"{printable(path)}: was replaced during the run; start again with the new frames")
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _is_replaced(self, frame_id: int, path: str) -> bool:
        """Whether the size or the time of a frame is another one than when it was first read."""
        try:
            status = os.stat(path)
        except OSError:  # gone since it was read; the next read says so
            return False
        stamp = (status.st_mtime_ns * 1_000_003 + status.st_size) % 2**62 + 1
        first = int(self.stamps[frame_id])
        if not first:
            self.stamps[frame_id] = stamp
        return first not in (0, stamp)


class ArrayStore:
    """Frames in the memory of the host or of a GPU.

    Args:
        frames: uint8 [N, 1 or 3, H, W]; row i is frame i. Grayscale frames keep one channel until they are on the
            device.
    """

    def __init__(self, frames: np.ndarray | Tensor) -> None:
        self.frames = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1 or 3, H, W], on the device of the store."""
        return self.frames[torch.from_numpy(frame_ids).to(self.frames.device, non_blocking=True)]
