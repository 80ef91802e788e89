"""Which clips to read: the data flags of the command line, as they were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Request:
    """The data flags; None or empty if a flag was not given. A `Reader` knows what it means for its dataset.

    A checkpoint keeps the flags, so that `-e` reads the data of the training.

    Attributes:
        train_root, val_root: folders of the two splits.
        train_list, val_list: list files; `{fold}` in a name stands for the fold's number, "none" for no list.
        labels: the class names in the order of their indices, for datasets without fixed ones.
        root_map: `OLD=NEW`, for lists that were written on another machine.
        person_pattern: a regular expression that finds the person in a clip's name.
        folds: k of the cross-validation.
        fold_file: a file that has the fold of every clip.
        eval_split: which split of a list with both is evaluated.
        skip_empty: skip clips without frames instead of raising.
        clip_frames, telling, distractors, train_clips, val_clips: of composed clips.
        fold: the fold to evaluate, from 1; "all": every fold in turn; None: a fixed split.
        seed: of all random draws.
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
