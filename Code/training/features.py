"""Training with a fixed backbone: the features of every frame are computed once, the head alone learns.

Attention and classifier have a few thousand parameters; on fixed features a step costs next to nothing, so that a
CPU trains them in the time that the frames need to pass the backbone twice, once plain and once mirrored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from Code.data.augment import to_float
from Code.data.loaders import EvaluationBatches, Store
from Code.data.store import FrameTable
from Code.network.fan import FAN, FANOutput
from Code.training.compute import Compute
from Code.training.engine import Transform, encode_all


class FeatureStore:
    """Features in memory, read like frames.

    Args:
        features: float32 [N, V, D]: V views of frame i in row i.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @classmethod
    def of(
        cls,
        model: FAN,
        table: FrameTable,
        store: Store,
        compute: Compute,
        *,
        mirrored: bool,
        batch_frames: int,
        loading: dict[str, Any],
    ) -> FeatureStore:
        """Passes all frames of a table through the backbone, in the batches that an evaluation takes.

        Args:
            mirrored: a second view holds the features of the mirrored frames.
            loading: what `EvaluationBatches` is told of workers and processes.
        """
        views: list[Transform] = [_plain, _mirrored] if mirrored else [_plain]
        batches = EvaluationBatches(table, store, batch_frames=batch_frames, **loading)
        return cls(torch.stack([encode_all(model, batches, compute=compute, transform=view) for view in views], dim=1))

    def read(self, frame_ids: np.ndarray) -> Tensor:
        """Features as float32 [N, V, D]."""
        return self.features[torch.from_numpy(frame_ids)]


def _plain(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames)


def _mirrored(frames: Tensor, generator: torch.Generator) -> Tensor:
    return to_float(frames.flip(-1))


class DrawnView:
    """Training transform: one of the views, drawn per clip so that its frames agree (flips of `FlippedClips`)."""

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """[B, T, 2, D] -> [B, T, D]."""
        flip = (torch.rand(len(features), generator=generator) < 0.5).to(features.device)
        return torch.where(flip[:, None, None], features[:, :, 1], features[:, :, 0])


class FirstView:
    """Evaluation transform: the frames as they are."""

    def __call__(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, T, V, D] -> [B, T, D]."""
        return features[:, :, 0]


class Head(nn.Module):
    """A FAN seen from its features: attention and classifier."""

    def __init__(self, fan: FAN) -> None:
        super().__init__()
        self.fan = fan

    def forward(self, features: Tensor) -> FANOutput:
        """[B, T, D] -> what the FAN says."""
        return self.fan.attend(features)


def head_parameters(fan: FAN) -> list[nn.Parameter]:
    """Freezes the backbone; returns what is left to learn."""
    for name, parameter in fan.named_parameters():
        parameter.requires_grad = name.split(".")[0] in ("alpha", "beta", "pred_fc1", "pred_fc2")
    return [parameter for parameter in fan.parameters() if parameter.requires_grad]
