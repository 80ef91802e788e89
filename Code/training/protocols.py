"""The protocol of each dataset: the settings of a training unless a flag overrides them.

A protocol names its reader, a module of `Code.data.readers`, which knows the dataset's classes, files and folds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from Code.common.conventions import IMAGE_SIZE
from Code.data.readers.base import Request


@dataclass(frozen=True)
class Protocol:
    """How a dataset is read, trained on and evaluated.

    Attributes:
        dataset: the value of `--dataset`.
        reader: name of a module of `Code.data.readers`.
        num_frames: K, frames per training sample.
        epochs, lr, batch_size (samples), momentum, weight_decay: of SGD.
        decay: factor on the learning rate after each of the epochs `decay_at`.
        samples_per_clip: per epoch; None draws one sample per frame of the training set.
        freeze_backbone: features are computed once, and only the head is trained.
        image_size: input side in pixels if the starting checkpoint does not name one.
        select_on: the clips that choose the best epoch: "val", the evaluated ones, "heldout", a tenth of the training
            clips, or "last": none, the last epoch counts as the best.
        data: the clips to read. `Code.training.datasets.resolve` fills it in.
    """

    dataset: str
    reader: str
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
    select_on: str = "val"
    data: Request = field(default_factory=Request)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and args.json."""
        data = self.data
        return {
            "dataset": self.dataset,
            "labels": data.labels,
            "train_root": data.train_root,
            "val_root": data.val_root,
            "train_list": data.list_file("train"),
            "val_list": data.list_file("val"),
            "one_root": data.one_root,
            "num_folds": data.num_folds,
            "fold": data.fold,
            "num_frames": self.num_frames,
            "epochs": self.epochs,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "decay": self.decay,
            "decay_at": list(self.decay_at),
            "samples_per_clip": self.samples_per_clip,
            "freeze_backbone": self.freeze_backbone,
            "image_size": self.image_size,
            "select_on": self.select_on,
            "data_flags": dict(data.flags),
        }

    def trained_for(self, epochs: int) -> Protocol:
        """The same for another number of epochs. The learning rate decays after the same shares of them."""
        return replace(self, epochs=epochs, decay_at=tuple(epochs * at / self.epochs for at in self.decay_at))


# Settings that the dataset's users share: Former-DFER (Zhao and Liu, ACM MM 2021; main_DFEW.py of
# github.com/zengqunzhao/Former-DFER) takes 16 frames of a clip, one sample per clip and epoch, SGD at 0.01 with
# momentum 0.9 and weight decay 1e-4, x 0.1 every 40 of 100 epochs, batches of 32.
_FORMER_DFER = Protocol(
    dataset="",
    reader="",
    num_frames=16,
    epochs=100,
    lr=1e-2,
    batch_size=32,
    decay=0.1,
    decay_at=(40, 80),
    samples_per_clip=1,
)
# Own clips: few epochs, from a network trained on faces, with a learning rate for fine-tuning all of it.
_OWN_CLIPS = Protocol(dataset="", reader="", epochs=15, lr=1e-2, decay_at=(5, 10), samples_per_clip=4)

PROTOCOLS = {
    # Paper and first release: learning rate 4e-6, x 0.2 after 60 and 120 of 180 epochs, batches of 48.
    "afew": Protocol(dataset="afew", reader="afew"),
    # Paper: learning rate 0.1, x 0.2 after 30 of 60 epochs, whole sequences including the apex.
    "ckplus": Protocol(dataset="ckplus", reader="ckplus", epochs=60, lr=0.1, decay_at=(30,)),
    "dfew": replace(_FORMER_DFER, dataset="dfew", reader="dfew"),
    "ferv39k": replace(_FORMER_DFER, dataset="ferv39k", reader="ferv39k"),  # as main_FERV39K.py
    "folders": replace(_OWN_CLIPS, dataset="folders", reader="folders"),
    "list": replace(_OWN_CLIPS, dataset="list", reader="list"),
    # A minute or two on two CPU cores. Only the head is trained: fine-tuning the whole network for the same time was
    # worse (relation-attention 80 to 91 %, correlation 0.3 to 0.6).
    "sample": Protocol(
        dataset="sample",
        reader="sample",
        epochs=48,
        lr=1e-2,
        decay_at=(16, 32),
        batch_size=32,
        samples_per_clip=4,
        freeze_backbone=True,
        image_size=64,
    ),
    # A sample is a whole clip: K is the length of the clips. Only the head is trained: it takes minutes on two CPU
    # cores, and classifies more clips correctly than the whole network trained for the same time.
    "composed": Protocol(
        dataset="composed",
        reader="composed",
        num_frames=16,
        epochs=24,
        lr=1e-2,
        decay_at=(8, 16),
        batch_size=32,
        samples_per_clip=1,
        freeze_backbone=True,
        image_size=80,
    ),
}
