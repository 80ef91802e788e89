"""Readers: one module per dataset. Each has an object `reader`, which a protocol names by its module."""

from __future__ import annotations

import importlib

from Code.data.readers.base import Reader


def find_reader(name: str) -> Reader:
    """The reader of the module `Code.data.readers.<name>`."""
    reader = importlib.import_module(f"Code.data.readers.{name}").reader
    assert isinstance(reader, Reader)
    return reader
