"""How a dataset is usually trained on. Readers state it, the training reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from ..common.names import IMAGE_SIZE


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a dataset is usually trained on. The defaults are those of AFEW: the paper's and its first release's.

    Attributes:
        num_frames: K, frames per training sample.
        epochs, lr, batch_size (samples), momentum, weight_decay: of SGD.
        decay: factor on the learning rate after each of the epochs `decay_at`.
        samples_per_clip: per epoch; None draws one sample per frame of the training set.
        freeze_backbone: features are computed once, and only the head is trained.
        image_size: input side in pixels if the starting checkpoint does not name one.
        fixed_size: use image_size even if the checkpoint names another.
    """

    num_frames: int = 3
    epochs: int = 180
    lr: float = 4e-6
    batch_size: int = 48
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: float = 0.2
    decay_at: tuple[float, ...] = (60, 120)
    samples_per_clip: int | None = None
    freeze_backbone: bool = False
    image_size: int = IMAGE_SIZE
    fixed_size: bool = False

    def trained_for(self, epochs: int) -> Self:
        """The same for another number of epochs. The learning rate decays after the same shares of them."""
        return replace(self, epochs=epochs, decay_at=tuple(epochs * at / self.epochs for at in self.decay_at))
