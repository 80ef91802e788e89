"""FAN as modules that map tensors to tensors, to be exported as graphs (ONNX).

They do not branch on values, so lengths are not checked: one above K counts as K, and 0 gives NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..network.fan import FAN


class _Graph(nn.Module):
    def __init__(self, fan: FAN) -> None:
        super().__init__()
        self.fan = fan


class FeaturesGraph(_Graph):
    """images float [N, 3, H, W] in [0, 1] -> features float [N, D]."""

    def forward(self, images: Tensor) -> Tensor:
        return self.fan.encode(images)


class HeadGraph(_Graph):
    """features float [B, K, D], lengths int64 [B] -> logits [B, C], weights [B, K].

    Values beyond a clip's length, NaN included, have no influence.
    """

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)  # [K] < [B, 1]
        output = self.fan.attend_masked(features, mask)
        return output.logits, output.weights


class WholeGraph(nn.Module):
    """images float [B, K, 3, H, W] in [0, 1], lengths int64 [B] -> logits [B, C], weights [B, K].

    The backbone computes padding, too, since a graph cannot pack frames as ``FAN.forward`` does.
    """

    def __init__(self, fan: FAN) -> None:
        super().__init__()
        self.features, self.head = FeaturesGraph(fan), HeadGraph(fan)

    def forward(self, images: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        num_clips, num_frames = images.shape[:2]
        features = self.features(images.flatten(0, 1))  # [B, K, 3, H, W] -> [B * K, D]
        logits, weights = self.head(features.reshape(num_clips, num_frames, -1), lengths)
        return logits, weights
