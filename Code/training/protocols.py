"""Per-dataset protocol: what a training uses unless a flag says otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from Code.data.clips import AFEW_LABELS

ATTENTIONS = {0: "self-attention", 1: "relation-attention", 2: "score-fusion"}


@dataclass(frozen=True)
class Protocol:
    """How a dataset is trained on and evaluated.

    Attributes:
        dataset: the value of `--dataset`.
        labels: class names in the order of their indices; None where the folders name them.
        train_root, val_root, train_list, val_list: default places. Lists are optional files.
        num_frames: K, frames per training sample.
        epochs, lr, batch_size (samples), momentum, weight_decay: of SGD.
        decay: factor on the learning rate after each third of the epochs.
        samples_per_clip: None draws one sample per frame of the training set an epoch.
        image_size: input side in pixels where the starting checkpoint does not name one.
    """

    dataset: str
    labels: tuple[str, ...] | None
    train_root: str
    val_root: str
    train_list: str | None = None
    val_list: str | None = None
    num_frames: int = 3
    epochs: int = 180
    lr: float = 4e-6
    batch_size: int = 48
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: float = 0.2
    samples_per_clip: int | None = None
    image_size: int = 224

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and args.json."""
        return asdict(self)


PROTOCOLS = {
    # Paper and first release: learning rate 4e-6, x 0.2 after 60 and 120 of 180 epochs, batches of 48.
    "afew": Protocol(
        dataset="afew",
        labels=AFEW_LABELS,
        train_root="Data/Train",
        val_root="Data/Val",
        train_list="Data/list_train.txt",
        val_list="Data/list_eval.txt",
    ),
    # One's own clips: few epochs from a face network at a rate that moves the whole network.
    "folders": Protocol(
        dataset="folders",
        labels=None,
        train_root="Data/Train",
        val_root="Data/Val",
        epochs=15,
        lr=1e-2,
        samples_per_clip=4,
    ),
    # The generated sample: minutes on two CPU cores. The rate suits the shipped backbone: Adam left its weights
    # large, so that SGD at 1e-2 hardly moves them in six epochs (71 instead of 91 % on the sample).
    "sample": Protocol(
        dataset="sample",
        labels=AFEW_LABELS,
        train_root="Data/Sample/Train",
        val_root="Data/Sample/Val",
        train_list="Data/Sample/list_train.txt",
        val_list="Data/Sample/list_eval.txt",
        epochs=6,
        lr=4e-2,
        batch_size=32,
        samples_per_clip=2,
        image_size=64,
    ),
}
