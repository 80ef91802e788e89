"""More faces to pretrain on together with FER+: folders of face crops, labeled or not.

    EXTRA/<emotion>/<image>     emotion: one of the eight classes of FER+
    EXTRA/unlabeled/<image>     for `--teachers`, which give the labels

They are converted to gray and resized to the same side as the images of FER+.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..common.wording import printable
from ..data.clips import DataError
from ..data.images import read_image
from ..data.listing import list_folder
from ..data.stores import FrameTable, Store

UNLABELED = "unlabeled"
MAX_SIDE = 128  # pixels; larger pictures are shrunk to it


@dataclass
class ExtraFaces:
    """Face crops in memory.

    Attributes:
        images: uint8 [N, 1, side, side].
        targets: float32 [N, C], one-hot; zeros without a label.
        names: path of each image, relative to its root.
    """

    images: np.ndarray
    targets: Tensor
    names: list[str]

    @property
    def labeled(self) -> Tensor:
        """bool [N]."""
        return self.targets.sum(dim=1) > 0


def read_extra(roots: Sequence[str | Path], labels: Sequence[str], side: int, workers: int = 2) -> ExtraFaces:
    """Reads folders of face crops into memory, in gray.

    Args:
        roots: each has a folder per emotion, and may have `unlabeled`.
        labels: the emotions, in the order of their indices.
        side: to resize them to, in pixels.

    Raises:
        DataError: a folder has another name, a picture cannot be read, or a root has no pictures.
    """
    problems: list[str] = []
    files: list[tuple[str, str, int]] = []  # path, name, class index or -1
    for root in map(str, roots):
        before = len(files)
        try:
            folders, _ = list_folder(root, problems)
        except OSError as error:
            problems.append(f"{printable(root)}: cannot be read ({error.strerror})")
            continue
        for folder in folders:
            if folder not in labels and folder != UNLABELED:
                known = ", ".join([*labels, UNLABELED])
                problems.append(
                    f"{printable(os.path.join(root, folder))}: not an emotion; name the folder one of {known}"
                )
                continue
            label = labels.index(folder) if folder in labels else -1
            for image in list_folder(os.path.join(root, folder), problems)[1]:
                files.append((os.path.join(root, folder, image), f"{folder}/{image}", label))
        if len(files) == before and not problems:
            problems.append(f"{printable(root)}: no pictures; they belong in <emotion>/<image>")
    images = np.empty((len(files), 1, side, side), dtype=np.uint8)

    def decode(index: int) -> str | None:
        try:
            picture = Image.fromarray(read_image(files[index][0])).convert("L")
        except DataError as error:
            return str(error)
        images[index, 0] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        problems += [problem for problem in pool.map(decode, range(len(files))) if problem]
    if problems:
        raise DataError(problems)
    targets = torch.zeros(len(files), len(labels))
    for index, (_, _, label) in enumerate(files):
        if label >= 0:
            targets[index, label] = 1
    return ExtraFaces(images, targets, [name for _, name, _ in files])


class JoinedStore:
    """Several stores as one, with frames of one size: the ids of the second store follow those of the first.

    Args:
        stores: all of them gray, or all in color.
        counts: number of frames of each.
        side: of the result, in pixels.
    """

    def __init__(self, stores: Sequence[Store], counts: Sequence[int], side: int) -> None:
        self.stores, self.side = list(stores), side
        self.starts = np.cumsum([0, *counts])

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Frames as uint8 [N, channels, side, side]."""
        out: Tensor | None = None
        for store, start, stop in zip(self.stores, self.starts[:-1], self.starts[1:], strict=True):
            rows = np.flatnonzero((frame_ids >= start) & (frame_ids < stop))
            if not len(rows):
                continue
            frames = resized(store.read(frame_ids[rows] - start), self.side)
            if out is None:
                out = frames.new_empty((len(frame_ids), *frames.shape[1:]))
            out[torch.from_numpy(rows).to(out.device)] = frames
        assert out is not None
        return out


def resized(frames: Tensor, side: int) -> Tensor:
    """Resizes uint8 frames [N, channels, H, W] to a square."""
    if frames.shape[-2:] == (side, side):
        return frames
    shrinks = side < frames.shape[-1]
    floats = F.interpolate(frames.float(), (side, side), mode="bilinear", align_corners=False, antialias=shrinks)
    return floats.round_().clamp_(0, 255).to(torch.uint8)


def with_extra(table: FrameTable, extra: ExtraFaces, keep: Tensor) -> FrameTable:
    """A training set followed by extra faces.

    Args:
        table: of single pictures, with float targets [N, C].
        keep: bool [extra faces], which of them to add; the store must hold the same.
    """
    names = [name for name, kept in zip(extra.names, keep.tolist(), strict=True) if kept]
    return replace(
        table,
        lengths=np.ones(len(table) + len(names), dtype=np.int64),
        targets=torch.cat([table.targets, extra.targets[keep]]),
        names=[*table.names, *names],
        listed=table.listed + len(names),
    )
