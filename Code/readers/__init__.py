"""The datasets. Each is a `Reader` in a module of this package, or in the module `reader` of a room of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .base import Reader

# What networks are trained on that is no dataset of clips, in words.
STILLS = {"ferplus": "single gray pictures of faces (FER+)", "pictures": "single labeled pictures (class folders)"}


def find(name: str) -> Reader:
    """The dataset that `--dataset` calls `name`. Raises KeyError if there is none."""
    return _readers()[name]


def names() -> list[str]:
    """The values of `--dataset`."""
    return sorted(_readers())


def title_of(dataset: str) -> str:
    """What reports call a dataset."""
    return _readers()[dataset].title if dataset in _readers() else dataset


def trained_on(dataset: str | None) -> str:
    """What a network was trained on, in words: `trained on film clips (AFEW)`."""
    if dataset is None:
        return "the file does not say what it was trained on"
    return f"trained on {_readers()[dataset].trained_on if dataset in _readers() else STILLS.get(dataset, dataset)}"


def crop_of(info: Mapping[str, Any]) -> str:
    """How the faces are cropped that a network of `load_fan` was trained on: `Reader.crop`.

    Files in the published format need not say what they were trained on. A frame classifier is then taken for FER+'s.
    """
    dataset = info["dataset"] or ("ferplus" if info["kind"] == "frame classifier" else "afew")
    if dataset == "ferplus":
        return "fer2013"
    return _readers()[dataset].crop if dataset in _readers() else "paper"


@cache
def _readers() -> dict[str, Reader]:
    """All readers by their names. A file that is added here is found, without a list of them to edit."""
    package = Path(__file__).parent
    modules = [f".{path.stem}" for path in package.glob("*.py") if path.stem != "__init__"]
    modules += [f"..{path.parent.name}.reader" for path in package.parent.glob("*/reader.py")]
    objects = [value for name in modules for value in vars(importlib.import_module(name, __name__)).values()]
    return {value.name: value for value in objects if isinstance(value, Reader)}
