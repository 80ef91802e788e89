"""Where pixels come from.

A store answers one question, `read(frame_ids) -> uint8 [N, channels, H, W]`, for the frames of a
`FrameTable`, which lays all frames of all clips out in one row. Here are two: image files that are decoded on
demand, and frames that are in memory already. Code.data.cache has a third, one file of decoded frames;
Code.data.stores chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from Code.data.clips import ClipSet, DataError
from Code.data.images import read_image

Say = Callable[[str], None]  # takes a line for people


@dataclass
class FrameTable:
    """The frames of all clips in one row: clip c owns the ids offsets[c] .. offsets[c + 1] - 1.

    Attributes:
        lengths: int64 [clips], frames of each clip.
        targets: int64 [clips] class indices, or float32 [clips, C] class probabilities.
        names: a name per clip.
        labels: the class names, in the order of their indices.
        listed: clips that the dataset lists, those without frames included.
        skipped: names of listed clips that were left out.
        renewed: the frames are others in every epoch; a training asks its store for id + epoch * num_frames.
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
        return int(self.offsets[-1])

    @classmethod
    def of(cls, clips: ClipSet) -> FrameTable:
        """The table of a `ClipSet`, in its order."""
        return cls(
            lengths=np.array([len(clip) for clip in clips.clips], dtype=np.int64),
            targets=torch.tensor([clip.label for clip in clips.clips], dtype=torch.int64),
            names=[clip.name for clip in clips.clips],
            labels=clips.labels,
            listed=clips.listed,
            skipped=clips.skipped,
            renewed=not clips.in_files,
        )


class FileStore:
    """Decodes image files on demand and brings them to one square size.

    Args:
        clips: whose frames to read.
        image_size: side of the result in pixels. Other sizes are resized with antialiasing; a frame
            that is not square is resized all the same, as the published pipeline does.
    """

    def __init__(self, clips: ClipSet, image_size: int) -> None:
        self.clips = clips.clips
        self.offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in self.clips])])
        self.image_size = image_size

    def locate(self, frame_id: int) -> tuple[int, int]:
        """(clip index, frame index within the clip) of a frame id."""
        clip = int(np.searchsorted(self.offsets, frame_id, side="right")) - 1
        return clip, int(frame_id - self.offsets[clip])

    def path(self, frame_id: int) -> str:
        """The file that holds a frame."""
        clip, index = self.locate(frame_id)
        return self.clips[clip].path(index)

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 3, S, S], RGB.

        Raises:
            DataError: naming every file of this call that is not a readable image.
        """
        out = np.empty((len(frame_ids), self.image_size, self.image_size, 3), dtype=np.uint8)
        problems = []
        for row, frame_id in enumerate(frame_ids):
            path = self.path(int(frame_id))
            try:
                out[row] = read_image(path, self.image_size)
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)
        return torch.from_numpy(out).permute(0, 3, 1, 2)


class ArrayStore:
    """Frames that are in memory already, the host's or a GPU's.

    Args:
        frames: uint8 [N, 1 or 3, H, W], row i being frame i. Grey frames stay one channel wide until
            they are on the device.
    """

    def __init__(self, frames: np.ndarray | Tensor) -> None:
        self.frames = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, 1 or 3, H, W], where the store's own are."""
        return self.frames[torch.from_numpy(frame_ids).to(self.frames.device, non_blocking=True)]
