"""A run in TensorBoard: the numbers of its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Board:
    """The TensorBoard events of a run; the file is made when something is shown for the first time.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, line: Mapping[str, Any]) -> None:
        """Shows the numbers of a line of the log. Later epochs, from before an interruption, are dropped."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=line["epoch"])
        for name, value in line.items():
            if name != "epoch":
                self._writer.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the events file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
