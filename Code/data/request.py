"""What is asked of a dataset: how to train on it, and which of its clips to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from ..common.names import IMAGE_SIZE


@dataclass(frozen=True, kw_only=True)
class TrainingProtocol:
    """How a dataset is usually trained on. The defaults are those of AFEW: the paper's and its first release's.

    Attributes:
        num_frames: K, frames per training sample.
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


@dataclass(frozen=True)
class Request:
    """The data flags of the command line; None or empty if a flag was not given. A checkpoint keeps them for `-e`.

    Attributes:
        train_list, val_list: `{fold}` in a name stands for the fold's number, "none" for no list.
        root_map: `OLD=NEW`, for lists that were written on another machine.
        folds: k of the cross-validation.
        fold: the fold to evaluate, from 1; "all": every fold in turn; None: a fixed split.
    """

    train_root: str | None = None
    val_root: str | None = None
    train_list: str | None = None
    val_list: str | None = None
    labels: tuple[str, ...] | None = None
    root_map: tuple[str, ...] = ()
    person_pattern: str | None = None
    folds: int | None = None
    fold_file: str | None = None
    eval_split: Literal["val", "test"] | None = None
    skip_empty: bool = False
    clip_frames: tuple[int, ...] = ()
    telling: tuple[float, ...] = ()
    distractors: tuple[str, ...] = ()
    train_clips: int | None = None
    val_clips: int | None = None
    fold: int | Literal["all"] | None = None
    seed: int = 0

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> Request:
        """The request in a command line's flags, or in a dictionary that `given` made. Other flags are ignored."""
        given: dict[str, Any] = {field.name: flags.get(field.name) for field in fields(cls)}
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def given(self) -> dict[str, Any]:
        """The flags that were given, without `fold` and `seed`, as plain values for JSON and checkpoints."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value and name not in ("fold", "seed")
        }
