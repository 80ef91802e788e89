"""How the shipped networks are made: pretraining, distillation, the class prior, the released file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.names import IMAGE_SIZE

FERPLUS, FOLDERS = "ferplus", "folders"
# Flags that a published file does not name: places and processes of one machine.
OF_THIS_MACHINE = {"data_root", "data_list", "evaluate", "checkpoint", "export", "half", "output", "resume"}
OF_THIS_MACHINE |= {"workers", "cache", "device", "precision", "print_freq"}


@dataclass(frozen=True)
class Recipe:
    """The flags of Pretrain_FERPlus.py with their defaults; its `--help` explains each."""

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
    evaluate: bool = False
    checkpoint: Path | None = None
    export: Path | None = None
    half: bool = False
    output: Path = Path("model")
    resume: Path | None = None
    workers: int | None = None
    cache: str | None = None
    device: str = "auto"
    precision: str = "auto"
    print_freq: int = 0

    def size(self, epoch: int) -> int:
        """Side of the input in an epoch, from 1, in pixels."""
        return self.small_size if self.small_size and epoch <= self.small_epochs else self.image_size

    def as_published(self, pretrained: str) -> dict[str, str]:
        """What decides about the weights, with the names of files and folders, not with where they are.

        Args:
            pretrained: the file that the training started from, or "none".
        """
        settings = {**asdict(self), "pretrained": Path(pretrained).name}
        return {
            name: " ".join(Path(str(one)).name for one in value) if isinstance(value, (list, tuple)) else str(value)
            for name, value in settings.items()
            if name not in OF_THIS_MACHINE and value not in (None, (), [])
        }
