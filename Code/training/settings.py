"""The settings of one run, in one object. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..common.names import DEFAULT_AT_TYPE
from ..data.request import Protocol, Request


@dataclass(frozen=True, kw_only=True)
class Settings(Protocol):
    """One run: the dataset's protocol, changed by flags, and all other flags.

    Attributes:
        data: which clips of the dataset are read; `sources`: from which folders and lists, for the record.
        num_folds: of the data, once they are read; None without folds.
        select_on: the clips that choose the best epoch: "val", the evaluated ones, "heldout", a tenth of the training
            clips, or "last": none, the last epoch counts as the best.
        pretrained: the file of the starting weights, "none", or None for the usual one.
        backbone: a network of torchvision; None for that of the starting weights.
        keep_classifier: leave the classifier of the starting weights unchanged.
        label_map: class of the data -> class of the starting weights, where they differ.
        output: parent of the folders of runs.
        flags: as they were given, which `--resume` restores.
    """

    dataset: str
    data: Request = field(default_factory=Request)
    sources: Mapping[str, str | None] = field(default_factory=dict)
    num_folds: int | None = None
    at_type: int = DEFAULT_AT_TYPE
    seed: int = 0
    select_on: str = "val"
    pretrained: str | None = None
    backbone: str | None = None
    keep_classifier: bool = False
    label_map: Mapping[str, str] = field(default_factory=dict)
    augmentation: str = "flip"
    loss: str = "cross-entropy"
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    cache: str | None = None
    compile: bool = False
    deterministic: bool = False
    print_freq: int = 0
    output: Path = Path("model")
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fold(self) -> int | None:
        """The fold to evaluate, from 1; None for a fixed split and for all folds."""
        return self.data.fold if isinstance(self.data.fold, int) else None

    def as_protocol(self) -> dict[str, Any]:
        """What checkpoints say about the training, as plain values."""
        trained = {each.name: getattr(self, each.name) for each in fields(Protocol) if each.name != "fixed_size"}
        return {
            **trained,
            "decay_at": list(self.decay_at),
            "dataset": self.dataset,
            **self.sources,
            "num_folds": self.num_folds,
            "fold": self.fold,
            "select_on": self.select_on,
            "data_flags": self.data.given(),
        }

    def resolved(self) -> dict[str, Any]:
        """What args.json says beside the flags as they were given."""
        return self.as_protocol() | {"at_type": self.at_type, "seed": self.seed}
