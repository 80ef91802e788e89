"""The features of a frozen backbone, which take the place of the frames.

They are computed once, plain and mirrored. Attention and classifier have a few thousand parameters, so a training step
on features costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..common.device import Compute
from ..common.errors import UsageError
from ..data.augment import to_float
from ..data.batches import BATCH_FRAMES, ArrayStore, EvaluationBatches, FrameTable, Loading, Store
from ..network.fan import FAN
from .loops import Transform, encode


def store_features(
    model: FAN, table: FrameTable, store: Store, compute: Compute, *, mirrored: bool, loading: Loading
) -> ArrayStore:
    """Computes the features of all frames of a table, in the same batches as an evaluation.

    Args:
        mirrored: add a second view, of the mirrored frames.

    Returns:
        float32 [N, V, D], which are read like frames: V views of frame i in row i.
    """
    views: list[Transform] = [lambda frames, generator: to_float(frames)]
    if mirrored:
        views.append(lambda frames, generator: to_float(frames.flip(-1)))
    batches = EvaluationBatches(table, store, batch_frames=BATCH_FRAMES[compute.device.type], loading=loading)
    of_views = [torch.cat([part.cpu() for part in encode(model, batches, compute, view)]) for view in views]
    return ArrayStore(torch.stack(of_views, dim=1))


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


def view_named(augmentation: str) -> Transform:
    """What `--augmentation` does to features. Raises UsageError if it needs pixels in every epoch."""
    if augmentation not in VIEWS:
        raise UsageError(
            f"--augmentation {augmentation}: changes pixels, but with --freeze-backbone features are computed once; "
            f"use --no-freeze-backbone, or --augmentation {' or '.join(VIEWS)}"
        )
    return VIEWS[augmentation]()
