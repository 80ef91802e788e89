"""Per-dataset protocol: what a training uses unless a flag says otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from Code.data.clips import AFEW_LABELS
from Code.data.readers.ckplus import CKPLUS_LABELS
from Code.data.readers.dfew import DFEW_FOLDS, DFEW_LABELS, DFEW_TEST_LIST, DFEW_TRAIN_LIST
from Code.data.readers.ferplus import FERPLUS_LABELS
from Code.data.readers.ferv39k import FERV39K_LABELS, FERV39K_TEST_LIST, FERV39K_TRAIN_LIST

ATTENTIONS = {0: "self-attention", 1: "relation-attention", 2: "score-fusion"}


@dataclass(frozen=True)
class Protocol:
    """How a dataset is trained on and evaluated.

    Attributes:
        dataset: the value of `--dataset`.
        labels: class names in the order of their indices; None where the folders or a list name them.
        train_root, val_root, train_list, val_list: default places. Lists are optional files; `{fold}` in a
            list's name stands for the fold's number.
        one_root: all clips lie in one tree, `train_root`, and lists in it say what is what.
        num_folds: k of the dataset's cross-validation; None where clips have a fixed split.
        fold: the one that is evaluated, from 1; None without folds.
        num_frames: K, frames per training sample.
        epochs, lr, batch_size (samples), momentum, weight_decay: of SGD.
        decay: factor on the learning rate after each of the epochs `decay_at`.
        freeze_backbone: features are computed once, the head alone learns.
        samples_per_clip: None draws one sample per frame of the training set an epoch.
        image_size: input side in pixels where the starting checkpoint does not name one.
        select_on: which clips choose the best epoch: "val" those evaluated, "heldout" a tenth of training's.
        data_flags: flags of the command line that say which clips are read.
    """

    dataset: str
    labels: tuple[str, ...] | None
    train_root: str
    val_root: str
    train_list: str | None = None
    val_list: str | None = None
    one_root: bool = False
    num_folds: int | None = None
    fold: int | None = None
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
    image_size: int = 224
    select_on: str = "val"
    data_flags: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and args.json."""
        return {**asdict(self), "decay_at": list(self.decay_at)}

    def trained_for(self, epochs: int) -> Protocol:
        """The same for another number of epochs: the learning rate decays at the same shares of them."""
        return replace(self, epochs=epochs, decay_at=tuple(epochs * at / self.epochs for at in self.decay_at))


# The five folds are the dataset's own. Settings are those that its users share: Former-DFER (Zhao and Liu,
# ACM MM 2021; main_DFEW.py of github.com/zengqunzhao/Former-DFER) takes 16 frames of a clip, one sample a
# clip and epoch, SGD at 0.01 with momentum 0.9 and weight decay 1e-4, x 0.1 every 40 of 100 epochs, batches of 32.
_DFEW = Protocol(
    dataset="dfew",
    labels=DFEW_LABELS,
    train_root="Data/DFEW",
    val_root="Data/DFEW",
    train_list=DFEW_TRAIN_LIST,
    val_list=DFEW_TEST_LIST,
    one_root=True,
    num_folds=DFEW_FOLDS,
    num_frames=16,
    epochs=100,
    lr=1e-2,
    batch_size=32,
    decay=0.1,
    decay_at=(40, 80),
    samples_per_clip=1,
)

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
    # Paper: learning rate 0.1, x 0.2 after 30 of 60 epochs, whole sequences including the apex, ten
    # person-independent folds (subjects in the order of their ids, every tenth).
    "ckplus": Protocol(
        dataset="ckplus",
        labels=CKPLUS_LABELS,
        train_root="Data/CKPlus",
        val_root="Data/CKPlus",
        one_root=True,
        num_folds=10,
        epochs=60,
        lr=0.1,
        decay_at=(30,),
    ),
    "dfew": _DFEW,
    # The split of all scenes is the dataset's own; settings as for DFEW (main_FERV39K.py of the same project).
    "ferv39k": replace(
        _DFEW,
        dataset="ferv39k",
        labels=FERV39K_LABELS,
        train_root="Data/FERV39k",
        val_root="Data/FERV39k",
        train_list=FERV39K_TRAIN_LIST,
        val_list=FERV39K_TEST_LIST,
        num_folds=None,
    ),
    # One's own clips: few epochs from a face network at a rate that moves the whole network.
    "folders": Protocol(
        dataset="folders",
        labels=None,
        train_root="Data/Train",
        val_root="Data/Val",
        epochs=15,
        lr=1e-2,
        decay_at=(5, 10),
        samples_per_clip=4,
    ),
    # The same, named by a list.
    "list": Protocol(
        dataset="list",
        labels=None,
        train_root="",  # where the list lies
        val_root="",
        one_root=True,
        epochs=15,
        lr=1e-2,
        decay_at=(5, 10),
        samples_per_clip=4,
    ),
    # The generated sample: a minute or two on two CPU cores. The head learns on a fixed backbone: to fine-tune the
    # whole network in the same minutes gave less (relation-attention 80 to 91 %, correlation 0.3 to 0.6).
    "sample": Protocol(
        dataset="sample",
        labels=AFEW_LABELS,
        train_root="Data/Sample/Train",
        val_root="Data/Sample/Val",
        train_list="Data/Sample/list_train.txt",
        val_list="Data/Sample/list_eval.txt",
        epochs=48,
        lr=1e-2,
        decay_at=(16, 32),
        batch_size=32,
        samples_per_clip=4,
        freeze_backbone=True,
        image_size=64,
    ),
    # Composed of FER+ stills. A sample is a whole clip (K is the clips' length). The head learns on a fixed backbone:
    # minutes on two CPU cores, and right in more clips than after as many minutes of training the whole network.
    "composed": Protocol(
        dataset="composed",
        labels=FERPLUS_LABELS,
        train_root="Data/FERPlus",
        val_root="Data/FERPlus",
        one_root=True,
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
