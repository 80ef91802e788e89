"""The features of a frozen backbone, which take the place of the frames.

They are computed once, plain and mirrored. Attention and classifier have a few thousand parameters, so a training step
on features costs next to nothing: a CPU trains a head in about the time that the frames need to pass the backbone
twice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..common.device import Compute
from ..common.errors import UsageError
from ..data.augment import augmentation_named, to_float
from ..data.batches import BATCH_FRAMES, EvaluationBatches, FrameTable, Loading, Store
from ..network.fan import FAN
from .loops import Transform, encode


class FeatureStore:
    """Features in memory, which are read like frames.

    Args:
        features: float32 [N, V, D]: V views of frame i in row i.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @classmethod
    def of(
        cls, model: FAN, table: FrameTable, store: Store, compute: Compute, *, mirrored: bool, loading: Loading
    ) -> FeatureStore:
        """Computes the features of all frames of a table, in the same batches as an evaluation.

        Args:
            mirrored: add a second view, of the mirrored frames.
        """
        views: list[Transform] = [_plain, _mirrored] if mirrored else [_plain]
        batches = EvaluationBatches(table, store, batch_frames=BATCH_FRAMES[compute.device.type], loading=loading)
        of_views = [encode(model, batches, compute=compute, transform=view) for view in views]
        return cls(torch.stack([torch.cat([part.cpu() for part in parts]) for parts in of_views], dim=1))

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Features as float32 [N, V, D]."""
        return self.features[torch.from_numpy(frame_ids)]


def _plain(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames)


def _mirrored(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames.flip(-1))


class RandomView:
    """Training transform: the plain or the mirrored view, drawn per clip, as `FlippedClips` flips frames."""

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """[B, T, 2, D] -> [B, T, D]."""
        flip = (torch.rand(len(features), generator=generator) < 0.5).to(features.device)
        return torch.where(flip[:, None, None], features[:, :, 1], features[:, :, 0])


class PlainView:
    """The features of the frames as they are; the transform of evaluation."""

    def __call__(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, T, V, D] -> [B, T, D]."""
        return features[:, :, 0]


# The augmentations that the stored views can express, by the name that `--augmentation` has for them.
VIEWS: dict[str, Callable[[], Transform]] = {"flip": RandomView, "none": PlainView}


def training_transform(augmentation: str, frozen: bool) -> Transform:
    """What `--augmentation` does to frames, or, with a frozen backbone, to features of them.

    Raises:
        UsageError: there is no such augmentation, or it needs pixels in every epoch.
    """
    of_frames = augmentation_named(augmentation)
    if not frozen:
        return of_frames
    if augmentation not in VIEWS:
        raise UsageError(
            f"--augmentation {augmentation}: changes pixels, but with --freeze-backbone features are computed once; "
            f"use --no-freeze-backbone, or --augmentation {' or '.join(VIEWS)}"
        )
    return VIEWS[augmentation]()
