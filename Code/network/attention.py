"""Frame attention: the heads, which turn the features of a clip's frames into one prediction.

Meng, Peng, Wang, Qiao: "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019,
arXiv 1907.00193. With frame features f_i:

    alpha_i        = sigmoid(w_a . f_i + b_a)                                  self-attention
    global feature = f' = sum alpha_i f_i / sum alpha_i
    beta_i         = sigmoid(w_b . [f_i : f'] + b_b)                           relation-attention
    clip feature   = sum alpha_i beta_i [f_i : f'] / sum alpha_i beta_i

The weights are computed in the log domain. With scores s_i = alpha_i * beta_i,

    s_i / sum_j s_j = softmax over the frames of log s_i,    log s_i = logsigmoid(a_i) + logsigmoid(b_i),

which is the same function, but cannot become 0 / 0 when all sigmoids of a clip underflow.

A new head is a class here, its entry in `HEADS`, and its title in `common/names.py`. Its logits should be the layer
`classifier` of the clip features, which start with a mean of the frames' features: `--neutral` shifts that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from ..common.names import ATTENTION_TITLES


@dataclass
class FANOutput:
    """The answer to B clips of up to T frames, in C classes. All values on padding are 0."""

    logits: Tensor  # float [B, C]
    alpha: Tensor  # float [B, T], sigmoid of the self-attention; 1 / length for score fusion
    beta: Tensor | None  # float [B, T], sigmoid of the relation-attention; None without it
    weights: Tensor  # float [B, T], the share of each frame in the clip; they sum to 1
    clip_features: Tensor  # float [B, D], the mean of the features under `weights`; with beta [B, 2 D], then also f'


class AttentionHead(nn.Module):
    """Base class of the heads. Layers have the names of published checkpoints: `alpha.0`, `beta.0`, `pred_fc1`, ...

    Args:
        feature_size: D, of the backbone.
        num_classes: C.
        dropout: probability for every dropout of the head; None: the published ones.
    """

    at_type: ClassVar[int]  # the value of `--at_type`, stored in checkpoints
    classifier: ClassVar[str] = "pred_fc1"  # the name of the linear layer that gives the logits
    weighs_frames: ClassVar[bool] = True  # whether frames of one clip can have different weights

    def __init__(self, feature_size: int, num_classes: int, dropout: float | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5 if dropout is None else dropout)

    @property
    def title(self) -> str:
        """The name of the attention for people and in the names of runs' folders."""
        return ATTENTION_TITLES[self.at_type]

    def forward(self, features: Tensor, mask: Tensor) -> FANOutput:
        """Weighs the frames and classifies the clips. It must not branch on values, so that it can be exported.

        Args:
            features: float [B, T, D], 0 on padding.
            mask: bool [B, T], True for frames; at least one per clip.
        """
        raise NotImplementedError

    def attend_long(self, features: Tensor) -> FANOutput:
        """`forward` in evaluation for a very long clip, float [1, T, D], with as few copies of it as possible."""
        return self(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))


class SelfAttention(AttentionHead):
    """Self-attention alone: classifies the global feature f' with ``pred_fc1``."""

    at_type = 0

    def __init__(self, feature_size: int, num_classes: int, dropout: float | None = None) -> None:
        super().__init__(feature_size, num_classes, dropout)
        # A Sequential of one layer gives the published name alpha.0. The sigmoid behind it is in the log domain.
        self.alpha = nn.Sequential(nn.Linear(feature_size, 1))
        self.pred_fc1 = nn.Linear(feature_size, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> FANOutput:
        alpha_logits = self.alpha(self.dropout(features)).squeeze(2)  # [B, T]
        weights = normalize(logsigmoid(alpha_logits), mask)
        global_feature = weighted_sum(features, weights)  # [B, D]
        return FANOutput(
            logits=self.pred_fc1(self.dropout(global_feature)),
            alpha=torch.sigmoid(alpha_logits).masked_fill(~mask, 0.0),
            beta=None,
            weights=weights,
            clip_features=global_feature,
        )


class RelationAttention(AttentionHead):
    """Self-attention, then relation-attention; classifies the clip feature with ``pred_fc2``."""

    at_type = 1
    classifier = "pred_fc2"

    def __init__(self, feature_size: int, num_classes: int, dropout: float | None = None) -> None:
        super().__init__(feature_size, num_classes, dropout)
        self.dropout2 = nn.Dropout(0.6 if dropout is None else dropout)
        self.alpha = nn.Sequential(nn.Linear(feature_size, 1))
        self.beta = nn.Sequential(nn.Linear(2 * feature_size, 1))
        self.pred_fc2 = nn.Linear(2 * feature_size, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> FANOutput:
        alpha_logits = self.alpha(self.dropout(features)).squeeze(2)  # [B, T]
        global_feature = weighted_sum(features, normalize(logsigmoid(alpha_logits), mask))  # [B, D]
        pairs = torch.cat([features, global_feature.unsqueeze(1).expand_as(features)], dim=2)  # [B, T, 2 D]
        beta_logits = self.beta(self.dropout(pairs)).squeeze(2)  # [B, T]
        weights = normalize(logsigmoid(alpha_logits) + logsigmoid(beta_logits), mask)
        clip_features = weighted_sum(pairs, weights)  # [B, 2 D]
        return FANOutput(
            logits=self.pred_fc2(self.dropout2(clip_features)),
            alpha=torch.sigmoid(alpha_logits).masked_fill(~mask, 0.0),
            beta=torch.sigmoid(beta_logits).masked_fill(~mask, 0.0),
            weights=weights,
            clip_features=clip_features,
        )

    def attend_long(self, features: Tensor) -> FANOutput:
        # Without pairs: w_b . [f_i : f'] is a sum, and f' is its own mean under weights that sum to 1.
        weight, bias = self.beta.parameters()
        of_frame, of_clip = weight.chunk(2, dim=1)  # [1, D] each
        alpha_logits = self.alpha(features).squeeze(2)  # [1, T]
        global_feature = torch.softmax(logsigmoid(alpha_logits), dim=1) @ features[0]  # [1, D]
        beta_logits = linear(features, of_frame).squeeze(2) + linear(global_feature, of_clip, bias)
        weights = torch.softmax(logsigmoid(alpha_logits) + logsigmoid(beta_logits), dim=1)  # [1, T]
        clip_features = torch.cat([weights @ features[0], global_feature], dim=1)  # [1, 2 D]
        logits = self.pred_fc2(clip_features)
        return FANOutput(logits, torch.sigmoid(alpha_logits), torch.sigmoid(beta_logits), weights, clip_features)


class ScoreFusion(AttentionHead):
    """No attention: classifies every frame with ``pred_fc1`` and averages the scores. The paper's baseline.

    A FAN with this head is also the frame classifier that a backbone is pretrained as.
    """

    at_type = 2
    weighs_frames = False

    def __init__(self, feature_size: int, num_classes: int, dropout: float | None = None) -> None:
        super().__init__(feature_size, num_classes, dropout)
        self.pred_fc1 = nn.Linear(feature_size, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> FANOutput:
        weights = mask / mask.sum(dim=1, keepdim=True).to(features.dtype)  # [B, T]
        return FANOutput(
            logits=weighted_sum(self.pred_fc1(self.dropout(features)), weights),
            alpha=weights,
            beta=None,
            weights=weights,
            clip_features=weighted_sum(features, weights),
        )


HEADS: dict[int, type[AttentionHead]] = {head.at_type: head for head in (SelfAttention, RelationAttention, ScoreFusion)}


def parameter_names(head: type[AttentionHead]) -> frozenset[str]:
    """The names of a head's parameters: `alpha.0.weight`, ..."""
    with torch.device("meta"):  # neither memory nor random numbers
        return frozenset(name for name, _ in head(1, 1).named_parameters())


def all_parameter_names() -> frozenset[str]:
    """The names of the parameters of all heads."""
    return frozenset().union(*map(parameter_names, HEADS.values()))


def frame_mask(lengths: Tensor | None, num_clips: int, num_frames: int, device: torch.device) -> Tensor:
    """Which entries of a padded batch are frames.

    Args:
        lengths: int64 [B], frames per clip, the rest is padding; None: every clip has T frames. Lengths on the
            CPU are checked without waiting for the accelerator.
        num_clips, num_frames: B and T, the padded length.

    Returns:
        Bool [B, T], True for the first `lengths[b]` entries of row b.

    Raises:
        ValueError: a clip has no frames or more than T (the message gives its index in the batch), or `lengths` is
            not a vector of B integers.
    """
    if lengths is None:
        if num_clips and not num_frames:
            raise ValueError("clip 0 of the batch has no frames")
        return torch.ones(num_clips, num_frames, dtype=torch.bool, device=device)
    if lengths.is_floating_point() or lengths.dtype == torch.bool or lengths.shape != (num_clips,):
        raise ValueError(
            f"lengths must be {num_clips} integers, one per clip; got {lengths.dtype} {list(lengths.shape)}"
        )
    for clip, length in enumerate(lengths.tolist()):
        if not 0 < length <= num_frames:
            raise ValueError(f"clip {clip} of the batch: length {length} is not in 1..{num_frames}")
    return torch.arange(num_frames, device=device) < lengths.to(device).unsqueeze(1)  # [1, T] < [B, 1]


def normalize(log_scores: Tensor, mask: Tensor) -> Tensor:
    """Weights of the frames, float [B, T], from the logarithms of their scores, finite float [B, T].

    They sum to 1 over each clip and are exactly 0 on padding; `mask` bool [B, T] has at least one frame per clip.
    """
    return torch.softmax(log_scores.masked_fill(~mask, float("-inf")), dim=1)


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """The sum over a clip's frames of weight times value: float [B, T, V] and [B, T] -> [B, V].

    A product and a sum, not a matrix product: in reduced precision (TF32) a matrix product would make a clip's result
    depend on the batch it is in.
    """
    return (weights.unsqueeze(2) * values).sum(dim=1)
