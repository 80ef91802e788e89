"""Frame Attention Network: a backbone for single frames and attention that makes a clip of them.

Meng, Peng, Wang, Qiao: "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019,
arXiv 1907.00193.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from Code.network.attention import frame_mask, normalise, weighted_mean
from Code.network.backbone import FEATURE_SIZE, Backbone

SELF_ATTENTION, RELATION_ATTENTION, SCORE_FUSION = 0, 1, 2


@dataclass
class FANOutput:
    """What FAN says about B clips of up to T frames and C classes; everything is 0 on padding.

    Attributes:
        logits: [B, C].
        alpha: [B, T], sigmoid of the self-attention; 1 / length for score fusion.
        beta: [B, T], sigmoid of the relation-attention; None without it.
        weights: [B, T], what each frame counts: alpha (at_type 0) or alpha * beta (1), normalised, or
            1 / length (2). Sums to 1 over a clip.
        clip_features: [B, 1024] with relation-attention, else [B, 512]: the mean of frame features under
            ``weights``, followed by the global feature in the case of relation-attention.
    """

    logits: Tensor
    alpha: Tensor
    beta: Tensor | None
    weights: Tensor
    clip_features: Tensor


class FAN(Backbone):
    """ResNet18 features of every frame, weighted by attention into one clip, and classified.

    With frame features f_i:

        alpha_i        = sigmoid(w_a . f_i + b_a)
        global feature = f' = sum alpha_i f_i / sum alpha_i
        beta_i         = sigmoid(w_b . [f_i : f'] + b_b)
        clip feature   = sum alpha_i beta_i [f_i : f'] / sum alpha_i beta_i

    at_type 0 (self-attention) classifies f' with ``pred_fc1``, at_type 1 (self + relation) the clip feature
    with ``pred_fc2``, at_type 2 (score fusion) every frame alone with ``pred_fc1`` and averages the scores.
    A model has only the parameters of its attention, under their published names.

    Args:
        at_type: 0, 1 or 2.
        num_classes: C.
        dropout: Probability for every dropout of the head; None means the published ones: 0.5 before alpha,
            beta and pred_fc1, 0.6 before pred_fc2.
    """

    def __init__(self, at_type: int = 1, num_classes: int = 7, *, dropout: float | None = None) -> None:
        if at_type not in (SELF_ATTENTION, RELATION_ATTENTION, SCORE_FUSION):
            raise ValueError(f"at_type must be 0 (self), 1 (self + relation) or 2 (none), not {at_type!r}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}")
        super().__init__()
        self.at_type = at_type
        self.num_classes = num_classes
        self.dropout = nn.Dropout(0.5 if dropout is None else dropout)
        self.dropout2 = nn.Dropout(0.6 if dropout is None else dropout)
        # Sequentials of one layer: checkpoints call these parameters alpha.0.weight and beta.0.weight. The
        # sigmoid that the published modules hold behind it is applied in the log domain instead.
        if at_type != SCORE_FUSION:
            self.alpha = nn.Sequential(nn.Linear(FEATURE_SIZE, 1))
        if at_type == RELATION_ATTENTION:
            self.beta = nn.Sequential(nn.Linear(2 * FEATURE_SIZE, 1))
            self.pred_fc2 = nn.Linear(2 * FEATURE_SIZE, num_classes)
        else:
            self.pred_fc1 = nn.Linear(FEATURE_SIZE, num_classes)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> FANOutput:
        """Classify clips: one backbone pass over all their frames, then attention within each clip.

        Args:
            frames: float [B, T, 3, H, W], RGB in [0, 1]. What lies behind a clip's length is never looked at.
            lengths: int64 [B], frames of each clip; None when all have T.

        Raises:
            ValueError: On another shape or type of frames, and where ``attend`` raises it.
        """
        if frames.dim() != 5 or frames.shape[2] != 3:
            raise ValueError(f"frames must be [B, T, 3, H, W], not {list(frames.shape)}")
        if not frames.is_floating_point():
            raise ValueError(f"frames must be float in [0, 1], not {frames.dtype}")
        num_clips, num_frames = frames.shape[:2]
        if lengths is None:
            encoded = self.encode(frames.flatten(0, 1))  # [B * T, 512]
            return self.attend(encoded.reshape(num_clips, num_frames, FEATURE_SIZE))
        mask = frame_mask(lengths, num_clips, num_frames, frames.device)
        encoded = self.encode(frames[mask])  # [B, T, 3, H, W] -> [N, 3, H, W] -> [N, 512]
        features = encoded.new_zeros(num_clips, num_frames, FEATURE_SIZE)
        features[mask] = encoded
        return self.attend(features, lengths)

    def attend(self, features: Tensor, lengths: Tensor | None = None) -> FANOutput:
        """Attention and classification, always in the head's own precision (float32), autocast or not.

        Args:
            features: float [B, T, 512] from ``encode``; what lies behind a clip's length, NaN included, has
                no influence and receives no gradient.
            lengths: int64 [B], frames of each clip; None when all have T.

        Raises:
            ValueError: If a clip has no frames, or a length exceeds T; both name the clip's index.
        """
        if features.dim() != 3 or features.shape[2] != FEATURE_SIZE:
            raise ValueError(f"features must be [B, T, {FEATURE_SIZE}], not {list(features.shape)}")
        mask = frame_mask(lengths, features.shape[0], features.shape[1], features.device)  # [B, T]
        with torch.autocast(features.device.type, enabled=False):
            return self.attend_masked(features, mask)

    def attend_masked(self, features: Tensor, mask: Tensor) -> FANOutput:
        """``attend`` without its checks: features float [B, T, 512], mask bool [B, T], a frame per clip at least.

        It branches on no value, so that it can be traced into a graph (ONNX).
        """
        features = features.to(self._classifier.weight.dtype).masked_fill(~mask.unsqueeze(-1), 0.0)
        if self.at_type == SCORE_FUSION:
            return self._fuse_scores(features, mask)
        alpha_logits = self.alpha(self.dropout(features)).squeeze(-1)  # [B, T, 1] -> [B, T]
        alpha = torch.sigmoid(alpha_logits).masked_fill(~mask, 0.0)
        weights = normalise(logsigmoid(alpha_logits), mask)
        global_feature = weighted_mean(features, weights)  # [B, 512]
        if self.at_type == SELF_ATTENTION:
            logits = self.pred_fc1(self.dropout(global_feature))
            return FANOutput(logits, alpha, None, weights, global_feature)

        context = global_feature.unsqueeze(1).expand_as(features)  # [B, 512] -> [B, T, 512]
        pairs = torch.cat([features, context], dim=2)  # [f_i : f'], [B, T, 1024]
        beta_logits = self.beta(self.dropout(pairs)).squeeze(-1)  # [B, T]
        beta = torch.sigmoid(beta_logits).masked_fill(~mask, 0.0)
        weights = normalise(logsigmoid(alpha_logits) + logsigmoid(beta_logits), mask)
        clip_features = weighted_mean(pairs, weights)  # [B, 1024]
        logits = self.pred_fc2(self.dropout2(clip_features))
        return FANOutput(logits, alpha, beta, weights, clip_features)

    @property
    def _classifier(self) -> nn.Linear:
        return self.pred_fc2 if self.at_type == RELATION_ATTENTION else self.pred_fc1

    def _fuse_scores(self, features: Tensor, mask: Tensor) -> FANOutput:
        """Mean over a clip's frames of what each says alone; features [B, T, 512] with zeros on padding."""
        weights = mask / mask.sum(dim=1, keepdim=True).to(features.dtype)  # [B, T]
        scores = self.pred_fc1(self.dropout(features))  # [B, T, C]
        return FANOutput(
            logits=weighted_mean(scores, weights),
            alpha=weights,
            beta=None,
            weights=weights,
            clip_features=weighted_mean(features, weights),
        )
