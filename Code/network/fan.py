"""Frame Attention Network: a backbone for single frames and an attention head that makes a clip of them.

Meng, Peng, Wang, Qiao: "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019,
arXiv 1907.00193. The equations are in `Code.network.attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..common.names import DEFAULT_AT_TYPE
from .attention import HEADS, FANOutput, frame_mask
from .backbone import DEFAULT_BACKBONE, Backbone

__all__ = ["FAN", "FANOutput"]


class FAN(nn.Module):
    """Features of every frame, weighed by attention into one clip, and classified.

    It has only the parameters of its own head. Checkpoints have the names of the published code for them, see
    `Code.network.weights`.

    Args:
        at_type: which head: 0 self-attention, 1 self-attention and relation-attention, 2 none (score fusion).
        num_classes: C.
        dropout: probability for every dropout of the head; None: the published ones, 0.5 before alpha, beta and
            pred_fc1, 0.6 before pred_fc2.
        backbone: the name of a classification network, see `Backbone`; it gives features of the size D.
    """

    def __init__(
        self,
        at_type: int = DEFAULT_AT_TYPE,
        num_classes: int = 7,
        *,
        dropout: float | None = None,
        backbone: str = DEFAULT_BACKBONE,
    ) -> None:
        if at_type not in HEADS or num_classes < 1:
            raise ValueError(f"at_type {at_type!r} is not one of {sorted(HEADS)}, or num_classes {num_classes} below 1")
        super().__init__()
        self.at_type = at_type
        self.num_classes = num_classes
        self.backbone = Backbone(backbone)
        self.feature_size = self.backbone.feature_size
        self.head = HEADS[at_type](self.feature_size, num_classes, dropout)

    @property
    def classifier(self) -> nn.Linear:
        """The linear layer that turns clip features into logits."""
        layer: nn.Linear = getattr(self.head, self.head.classifier)
        return layer

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> FANOutput:
        """Classifies clips: one pass of the backbone over all their frames, then attention within each clip.

        Args:
            frames: float [B, T, 3, H, W], RGB in [0, 1]; or float [B, T, D], what `encode` has made of them. Frames
                beyond a clip's length are ignored.
            lengths: int64 [B], frames of each clip; None when all have T.

        Raises:
            ValueError: frames of another shape or type, and where `attend` raises it.
        """
        if frames.dim() == 3:
            return self.attend(frames, lengths)
        if frames.dim() != 5 or frames.shape[2] != 3 or not frames.is_floating_point():
            raise ValueError(f"frames must be float [B, T, 3, H, W] in [0, 1], not {frames.dtype} {list(frames.shape)}")
        num_clips, num_frames = frames.shape[:2]
        if lengths is None:
            encoded = self.encode(frames.flatten(0, 1))  # [B * T, D]
            return self.attend(encoded.reshape(num_clips, num_frames, self.feature_size))
        mask = frame_mask(lengths, num_clips, num_frames, frames.device)
        encoded = self.encode(frames[mask])  # [B, T, 3, H, W] -> [N, 3, H, W] -> [N, D]
        features = encoded.new_zeros(num_clips, num_frames, self.feature_size)
        features[mask] = encoded
        return self.attend(features, lengths)

    def encode(self, images: Tensor) -> Tensor:
        """Features of single images: float [N, 3, H, W], RGB in [0, 1], without mean/std normalization -> [N, D].

        What are features already, [N, D], stays as it is: those of a frozen backbone are computed once, and stored.
        """
        features: Tensor = images if images.dim() == 2 else self.backbone(images)
        return features

    def attend(self, features: Tensor, lengths: Tensor | None = None) -> FANOutput:
        """Attention and classification, always in the precision of the head (float32), with autocast or without.

        Args:
            features: float [B, T, D] from `encode`. Values beyond a clip's length, NaN included, have no influence
                and receive no gradient.
            lengths: int64 [B], frames of each clip; None when all have T.

        Raises:
            ValueError: features of another shape, and where `frame_mask` raises it.
        """
        if features.dim() != 3 or features.shape[2] != self.feature_size:
            raise ValueError(f"features must be [B, T, {self.feature_size}], not {list(features.shape)}")
        mask = frame_mask(lengths, features.shape[0], features.shape[1], features.device)  # [B, T]
        with torch.autocast(features.device.type, enabled=False):
            return self.attend_masked(features, mask)

    def attend_masked(self, features: Tensor, mask: Tensor) -> FANOutput:
        """`attend` for a mask, bool [B, T], one frame per clip at least; it branches on no value, for exports."""
        features = features.to(self.classifier.weight.dtype).masked_fill(~mask.unsqueeze(2), 0.0)
        output: FANOutput = self.head(features, mask)
        return output
