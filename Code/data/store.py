"""Where pixels come from.

A store answers one question, `read(frame_ids) -> uint8 [N, channels, H, W]`, for the frames of a
`FrameTable`, which lays all frames of all clips out in one row. Here are two: image files that are decoded on
demand, and frames that are in memory already. Code.data.cache has a third, one file of decoded frames;
Code.data.stores chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from Code.data.clips import ClipSet, DataError

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
    """

    lengths: np.ndarray
    targets: Tensor
    names: Sequence[str]
    labels: tuple[str, ...]
    listed: int
    skipped: list[str]

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


def read_image(path: str, size: int | None = None) -> np.ndarray:
    """Decodes one image file.

    Args:
        path: a file in any format that Pillow reads.
        size: side in pixels to resize to (bilinear, antialiased), or None to leave the size alone.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DataError: one line naming the file, if it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size) if size else None)
            if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion cuts off at 255
                rgb = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
            else:
                rgb = image.convert("RGB")
            if size and rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(rgb)
    except UnidentifiedImageError:
        raise DataError([f"{path}: not an image; delete the file or write the frame again"]) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError([f"{path}: cannot be decoded ({reason}); write the frame again"]) from None


def broken_images(clips: ClipSet, show_progress: bool = False) -> list[str]:
    """Opens every frame's header, so that files that are no images are all named before a training starts.

    Pixels are not decoded (that would take minutes): a file that breaks off in its middle is found when
    it is read.

    Returns:
        A line per file that cannot be opened as an image.
    """
    paths = (path for clip in clips.clips for path in clip.paths)
    total = sum(len(clip) for clip in clips.clips)
    with (
        ThreadPoolExecutor(8) as pool,  # waiting for disks, mostly
        tqdm(total=total, desc="looking at frames", leave=False, disable=None if show_progress else True) as bar,
    ):
        problems = []
        for chunk in batched(paths, 4096):
            problems += [problem for problem in pool.map(_header_problem, chunk) if problem]
            bar.update(len(chunk))
    return problems


def _header_problem(path: str) -> str | None:
    try:
        with Image.open(path):
            return None
    except UnidentifiedImageError:
        return f"{path}: not an image; delete the file or write the frame again"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error}); write the frame again"


def batched(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    """Tuples of up to `size` items (itertools.batched comes with Python 3.12)."""
    iterator = iter(items)
    while chunk := tuple(islice(iterator, size)):
        yield chunk
