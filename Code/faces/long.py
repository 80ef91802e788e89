"""Attention over very many frames: `FAN.attend` for one clip, a part of its frames at a time.

`FAN.attend` holds several copies of [T, 1024]: a gigabyte for an hour of video. Here memory grows by a few numbers a
frame.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from Code.network.attention import normalise
from Code.network.fan import FAN, SCORE_FUSION, SELF_ATTENTION, FANOutput

FRAMES_AT_ONCE = 4096


@torch.inference_mode()
def attend_in_parts(fan: FAN, features: Tensor, at_once: int = FRAMES_AT_ONCE) -> FANOutput:
    """What `fan.attend(features[None])` says, but for rounding; the network must be in evaluation mode.

    Args:
        fan: any kind of attention.
        features: float32 [T, 512], T > 0.
        at_once: frames that are worked on together.
    """
    parts = features.split(at_once)
    mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)

    def mean(weights: Tensor, context: Tensor | None = None) -> Tensor:
        """Sum of weight times feature, or times [feature : context]: [1, 512 or 1024]."""
        sums = [
            (weight.unsqueeze(-1) * joined(part, context)).sum(dim=0)
            for part, weight in zip(parts, weights[0].split(at_once), strict=True)
        ]
        return torch.stack(sums).sum(dim=0, keepdim=True)

    if fan.at_type == SCORE_FUSION:
        even = mask / features.new_full((1, 1), len(features))
        middle = mean(even)
        return FANOutput(fan.pred_fc1(middle), even, None, even, middle)  # its scores are linear in the features
    alpha_logits = torch.cat([fan.alpha(part)[:, 0] for part in parts])[None]  # [1, T]
    weights = normalise(logsigmoid(alpha_logits), mask)
    global_feature = mean(weights)
    alpha = alpha_logits.sigmoid()
    if fan.at_type == SELF_ATTENTION:
        return FANOutput(fan.pred_fc1(global_feature), alpha, None, weights, global_feature)
    beta_logits = torch.cat([fan.beta(joined(part, global_feature))[:, 0] for part in parts])[None]
    weights = normalise(logsigmoid(alpha_logits) + logsigmoid(beta_logits), mask)
    clip_feature = mean(weights, global_feature)
    return FANOutput(fan.pred_fc2(clip_feature), alpha, beta_logits.sigmoid(), weights, clip_feature)


def joined(part: Tensor, context: Tensor | None) -> Tensor:
    """[t, 512], with a context of [1, 512] behind each row."""
    return part if context is None else torch.cat([part, context.expand(len(part), -1)], dim=1)
