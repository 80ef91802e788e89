"""A run in TensorBoard: scalars, the confusion matrix, the attention of a few clips, and hyperparameters."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..data.clips import Clip, DataError
from ..data.images import read_image
from ..results.figures import attention_figure, choose_frames, confusion_figure, figure_bytes
from .engine import Evaluation

SHOWN_CLIPS = 4
SHOWN_TIMES = 5  # how often figures are drawn in a training; it takes seconds each time
SIDE = 96


class Board:
    """The TensorBoard events of a run; the file is made when something is shown for the first time.

    Args:
        folder: of the run.
        first_epoch: events of this and later epochs, from before an interruption, are dropped.
    """

    def __init__(self, folder: Path, first_epoch: int | None = None) -> None:
        self.folder = folder
        self._first_epoch = first_epoch
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        """The open events file."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=self._first_epoch)
        return self._writer

    def scalars(self, line: Mapping[str, Any]) -> None:
        """Adds the numbers of a line of the log."""
        for name, value in line.items():
            if name != "epoch" and isinstance(value, int | float):
                self.writer.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
        self.writer.flush()

    def confusion(self, epoch: int, labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> None:
        """Adds the confusion matrix of the validation clips after an epoch, if there is one."""
        if confusion:  # empty for very many classes
            self._picture("val/confusion", confusion_figure(confusion, labels), epoch)

    def attention(
        self,
        epoch: int,
        labels: Sequence[str],
        clips: Sequence[Clip],
        evaluation: Evaluation,
        intensities: Mapping[str, np.ndarray] | None,
    ) -> None:
        """Adds attention figures of a few clips, spread over the list and the same after every epoch."""
        for at in fixed_clips(len(clips)):
            clip, weights = clips[at], evaluation.weights[at]
            shown = choose_frames(weights, 10)
            try:
                frames = np.stack([read_image(clip.path(index), SIDE) for index in shown])
            except DataError:
                continue  # the cache can have frames whose files are gone; that is no reason to stop the training
            probabilities = evaluation.logits[at].softmax(dim=0)
            figure = attention_figure(
                frames,
                evaluation.alpha[at],
                weights,
                shown=shown,
                title=clip.name,
                label=labels[clip.label],
                prediction=labels[int(probabilities.argmax())],
                probabilities=dict(zip(labels, probabilities.tolist(), strict=True)),
                intensity=None if intensities is None else intensities[clip.name],
            )
            self._picture(f"attention/{clip.name}", figure, epoch)

    def hyperparameters(self, arguments: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Adds the arguments and the final metrics to TensorBoard's table of runs."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in arguments.items()
            if value is not None
        }
        reached = {
            f"hparam/{name}": float(metrics[name])
            for name in ("accuracy", "uar", "loss", "attention_correlation")
            if metrics.get(name) is not None
        }
        # SummaryWriter.add_hparams would open a second events file in the run's folder.
        file_writer = self.writer._get_file_writer()
        for summary in hparams(plain, reached):
            file_writer.add_summary(summary)
        for name, value in reached.items():
            self.writer.add_scalar(name, value)
        self.writer.flush()

    def close(self) -> None:
        """Closes the events file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _picture(self, tag: str, figure: Figure, epoch: int) -> None:
        with Image.open(io.BytesIO(figure_bytes(figure, "png", dpi=80))) as image:
            self.writer.add_image(tag, np.asarray(image.convert("RGB")), epoch, dataformats="HWC")
        self.writer.flush()


def fixed_clips(total: int) -> list[int]:
    """Indices of the clips that are shown, spread over the list, which may be sorted by class."""
    return sorted({round(float(at)) for at in np.linspace(0, total - 1, min(SHOWN_CLIPS, total))})


def is_shown(epoch: int, epochs: int) -> bool:
    """Whether figures are drawn after an epoch (from 1): a few times in a training, and after the last epoch."""
    return epoch == epochs or epoch % -(-epochs // SHOWN_TIMES) == 0
