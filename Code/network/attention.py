"""From frames to one clip: masks for ragged batches, and weighted means that stay finite.

Attention is computed in the log domain. With scores s_i = alpha_i * beta_i,

    s_i / sum_j s_j = softmax over valid frames of log s_i,
    log s_i = logsigmoid(a_i) + logsigmoid(b_i),

which is the same function as the quotient of sigmoids, but cannot become 0 / 0 when all sigmoids of a clip
underflow together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frame_mask(lengths: Tensor | None, num_clips: int, num_frames: int, device: torch.device) -> Tensor:
    """Which entries of a padded batch are frames.

    Args:
        lengths: int64 [B], frames per clip, the rest is padding; None when every clip has all T frames.
            Lengths on the CPU are checked without waiting for the accelerator.
        num_clips: B.
        num_frames: T, the padded length.
        device: Where the mask shall be.

    Returns:
        Bool [B, T], True for the first ``lengths[b]`` entries of row b.

    Raises:
        ValueError: If a clip has no frames or more than T, naming its index in the batch, or if ``lengths``
            is not a vector of B integers.
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
        if length == 0:
            raise ValueError(f"clip {clip} of the batch has no frames (length 0)")
        if not 0 < length <= num_frames:
            raise ValueError(f"clip {clip} of the batch: length {length} is not in 1..{num_frames}")
    return torch.arange(num_frames, device=device) < lengths.to(device).unsqueeze(1)  # [1, T] < [B, 1]


def normalise(log_scores: Tensor, mask: Tensor) -> Tensor:
    """Scores of frames, given by their logarithms, to weights that sum to one over each clip.

    Args:
        log_scores: Float [B, T], finite.
        mask: Bool [B, T] with at least one frame per clip.

    Returns:
        Float [B, T], exactly 0 on padding.
    """
    return torch.softmax(log_scores.masked_fill(~mask, float("-inf")), dim=1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over a clip's frames of weight times value: values [B, T, D], weights [B, T] -> [B, D].

    Written as product and sum, not as a matrix product: reduced-precision matrix products (TF32) would make
    a clip's result depend on the batch it came in.
    """
    return (weights.unsqueeze(-1) * values).sum(dim=1)
