"""The settings that make a backbone: what it is trained on, what it starts from, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.names import IMAGE_SIZE

FERPLUS, FOLDERS = "ferplus", "folders"
OF_THIS_MACHINE = ("data_root", "data_list")  # places that a published file does not name


@dataclass(frozen=True)
class Recipe:
    """The flags of Pretrain_FERPlus.py that decide about the weights; its `--help` explains each.

    Attributes:
        pretrained: a file, "none", or None: the file of MS-Celeb-1M if it is there and fits.
        backbone: None: that of the file, or resnet18.
        small_size: side of the input in the first `small_epochs` epochs, in pixels; 0: none.
        votes: weight of the labels where `teachers` give answers.
    """

    dataset: str = FERPLUS
    data_root: Path = Path("Data/FERPlus")
    extra: Sequence[str] = ()
    data_list: str | None = None
    val_share: float = 0.1
    person_pattern: str | None = None
    pretrained: str | None = None
    backbone: str | None = None
    image_size: int = IMAGE_SIZE
    small_size: int = 0
    small_epochs: int = 0
    epochs: int = 40
    batch_size: int = 128
    lr: float = 2e-3
    balance: float = 0.0
    balance_floor: float = 0.0
    teachers: Sequence[str] = ()
    teacher_weights: Sequence[float] = ()
    votes: float = 0.5
    vary: bool = False
    mix: float = 0.0
    seed: int = 0

    def size(self, epoch: int) -> int:
        """Side of the input in an epoch, from 1, in pixels."""
        return self.small_size if self.small_size and epoch <= self.small_epochs else self.image_size

    def as_published(self, pretrained: str) -> dict[str, str]:
        """The settings with the names of files and folders, not with where they are on this machine.

        Args:
            pretrained: the file that the training started from, or "none".
        """
        settings = {**asdict(self), "pretrained": Path(pretrained).name}
        return {
            name: " ".join(Path(str(one)).name for one in value) if isinstance(value, (list, tuple)) else str(value)
            for name, value in settings.items()
            if name not in OF_THIS_MACHINE and value not in (None, (), [])
        }
