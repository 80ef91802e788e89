"""The folder of a run: everything that a run writes, what earlier runs wrote, and whether there is space for it."""

from __future__ import annotations

import csv
import errno
import functools
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import nn

from ..common.device import Compute, describe_device, git_commit, versions
from ..common.errors import UsageError, WriteError
from ..common.files import atomic_text, free_disk, in_words, regular, save_text
from ..common.names import CHECKPOINT_FORMAT
from ..common.wording import counted
from ..data.clips import Clip
from ..network.checkpoints import DamagedCheckpointError, read_checkpoint, save_atomically
from ..network.fan import FAN
from ..network.weights import published_weights
from . import distributed
from .engine import Evaluation
from .launch import command_line
from .metrics import MANY_CLASSES
from .records import VERSION, read_arguments
from .tensorboard import Board

FINISHED = "finished.json"
MARK = "no-checkpoint.txt"  # in the folder of a run, until it has a checkpoint or results
ONE_OF_SEVERAL = re.compile(r"(fold|seed)-\d+")  # the folder of a run that is one of several
TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")  # names that files have while they are written
LAST, PREVIOUS = "last.pth", "previous.pth"
P = ParamSpec("P")


def main_only(method: Callable[P, None]) -> Callable[P, None]:
    """Makes a method run in the main process only, so that no two processes write the same file.

    An `OSError` becomes a `WriteError` that names the file.
    """

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        if not distributed.world().is_main:
            return
        try:
            method(*args, **kwargs)
        except OSError as error:
            where = error.filename or args[0].folder  # type: ignore[attr-defined]
            raise WriteError(f"{where}: cannot be written ({error.strerror or error}); free some space") from None

    return guarded


class Run:
    """The folder of one run, `<parent>/<date-time>_<dataset>_<attention>/`. Several processes share one.

    Args:
        folder: made if it is missing; `run_places.new_run` makes new ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--output {folder}: cannot be made ({error.strerror}); name a folder to write to"
            ) from None
        self._first_epoch: int | None = None  # that TensorBoard is to show anew

    @functools.cached_property
    def board(self) -> Board:
        """TensorBoard's view of the run."""
        return Board(self.folder, self._first_epoch)

    @main_only
    def write_arguments(self, given: dict[str, Any], resolved: dict[str, Any], compute: Compute) -> None:
        """Writes args.json: every argument as given and as resolved, versions, commit and device.

        Args:
            given: the flags as they were given, which `--resume` restores.
            resolved: the values from the protocol, a checkpoint or the machine.
        """
        filled = {name: str(value) if isinstance(value, Path) else value for name, value in resolved.items()}
        # Stored in UTC: decisions do not rest on local time, which repeats an hour every year.
        started = datetime.now(UTC).isoformat(timespec="microseconds")
        # So that `--resume RUN --dataset afew` fits a run that was started without `--dataset`.
        asked = {name: resolved[name] for name in ("dataset", "fold") if name in resolved}
        self._write_json(
            "args.json",
            {
                "version": VERSION,
                "started": started,
                "command": command_line(),
                "args": {**given, **filled},
                "given": {**given, **asked},
                "versions": {"python": platform.python_version(), **versions()},
                "git_commit": git_commit(),
                "device": describe_device(compute.device),
                "precision": compute.precision,
                "threads": torch.get_num_threads(),
                "processes": distributed.world().size,
            },
        )

    @main_only
    def log(self, line: dict[str, Any]) -> None:
        """Appends an epoch to log.jsonl and to TensorBoard."""
        with open(self.folder / "log.jsonl", "a", encoding="utf-8", opener=regular) as file:
            file.write(json.dumps(line) + "\n")
        self.board.scalars(line)

    @main_only
    def log_figures(
        self,
        epoch: int,
        labels: Sequence[str],
        confusion: Sequence[Sequence[int]],
        clips: Sequence[Clip] | None,
        evaluation: Evaluation,
        intensities: Mapping[str, np.ndarray] | None,
    ) -> None:
        """Shows the confusion matrix in TensorBoard, and the attention of a few clips if their frames are files."""
        self.board.confusion(epoch, labels, confusion)
        if clips is not None:
            self.board.attention(epoch, labels, clips, evaluation, intensities)

    @main_only
    def log_outcome(self, metrics: dict[str, Any]) -> None:
        """Adds the arguments and the final metrics to TensorBoard's table of runs."""
        path = self.folder / "args.json"
        if path.exists():
            self.board.hyperparameters(read_arguments(self.folder).args, metrics)

    @main_only
    def begin_log(self, lines: Sequence[dict[str, Any]] = ()) -> None:
        """Rewrites log.jsonl with these lines, those of the checkpoint that is resumed.

        TensorBoard drops later epochs that it has been shown.
        """
        save_text("".join(json.dumps(line) + "\n" for line in lines), self.folder / "log.jsonl")
        self._first_epoch = lines[-1]["epoch"] + 1 if lines else 1

    @main_only
    def save(self, name: str, payload: dict[str, Any]) -> None:
        """Writes a checkpoint with a checksum. The old last.pth is kept as previous.pth.

        Raises:
            WriteError: the disk refuses; the old file is whole.
        """
        previous = self.folder / PREVIOUS if name == LAST else None
        path = self.folder / name
        try:
            save_atomically(payload, path, previous=previous)
        except OSError as error:
            kept = "; the one before it is whole" if path.exists() else ""
            raise WriteError(f"{path}: cannot be written ({error.strerror or error}){kept}; free some space") from None
        self._unmark()

    def _unmark(self) -> None:
        """From now on the run can be resumed or reported on; and so can the folds and seeds around it."""
        folder = self.folder
        (folder / MARK).unlink(missing_ok=True)
        while ONE_OF_SEVERAL.fullmatch(folder.name):
            folder = folder.parent
            (folder / MARK).unlink(missing_ok=True)

    @main_only
    def clear_leftovers(self) -> None:
        """Deletes the temporary files of a process that was killed while it wrote."""
        for path in self.folder.glob(".*.tmp*"):
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    @main_only
    def write_results(
        self, labels: Sequence[str], results: dict[str, dict[str, Any]], about: dict[str, Any] | None = None
    ) -> None:
        """Writes results.json: the metrics under "last" and "best"; of an evaluation, under "best" alone.

        It comes last: it marks the results as complete.

        Args:
            about: more entries: which fold, how the best epoch was chosen.
        """
        about = {"labels": list(labels), **(about or {})}
        self._write_json("results.json", {"version": VERSION, **about, **results})
        self._unmark()

    @main_only
    def write_summary(self, summary: dict[str, Any], table: str) -> None:
        """Writes summary.md and summary.json of several runs."""
        save_text(table, self.folder / "summary.md")
        self._write_json("summary.json", {"version": VERSION, **summary})

    @main_only
    def write_rows(self, name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Writes a CSV file."""
        with self._table(name, header) as writer:
            writer.writerows(rows)

    @main_only
    def mark_finished(self) -> None:
        """Marks a fold or seed as finished, so that resuming does not train it again."""
        self._write_json(FINISHED, {"finished": datetime.now().isoformat(timespec="seconds")})

    @property
    def is_finished(self) -> bool:
        """Whether `mark_finished` was called, and the results are there."""
        return (self.folder / FINISHED).is_file() and (self.folder / "results.json").is_file()

    @main_only
    def write_predictions(
        self, labels: Sequence[str], names: Sequence[str], targets: Sequence[int], evaluation: Evaluation
    ) -> None:
        """Writes predictions.csv: clip, label, prediction, and a probability per class, if there are few classes."""
        probabilities = evaluation.logits.softmax(dim=1)
        shown = len(labels) if len(labels) <= MANY_CLASSES else 0
        with self._table("predictions.csv", ["clip", "label", "prediction", *labels[:shown]]) as writer:
            for name, target, row in zip(names, targets, probabilities, strict=True):
                columns = (f"{p:.6f}" for p in row[:shown].tolist())
                writer.writerow([name, labels[target], labels[int(row.argmax())], *columns])

    @main_only
    def write_attention(
        self, clips: Sequence[Clip], evaluation: Evaluation, intensities: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Writes attention.csv and clips.csv.

        attention.csv: clip, frame, alpha, beta (empty without relation-attention), weight and, if it is known, the true
        intensity. clips.csv: clip and the folder of its frames, from which the report takes its pictures.
        """
        extra = ["intensity"] if intensities is not None else []
        with self._table("attention.csv", ["clip", "frame", "alpha", "beta", "weight", *extra]) as writer:
            for clip, alpha, beta, weight in zip(
                clips, evaluation.alpha, evaluation.beta, evaluation.weights, strict=True
            ):
                for index, frame in enumerate(clip.frames):
                    relation = "" if beta is None else f"{beta[index]:.6f}"
                    row = [clip.name, frame, f"{alpha[index]:.6f}", relation, f"{weight[index]:.6f}"]
                    writer.writerow(row if intensities is None else [*row, f"{intensities[clip.name][index]:.4f}"])
        with self._table("clips.csv", ["clip", "folder"]) as writer:
            writer.writerows([clip.name, os.path.abspath(clip.folder)] for clip in clips)

    @contextmanager
    def _table(self, name: str, header: Sequence[str]) -> Iterator[Any]:
        """Writes a CSV file. File names that are not valid UTF-8 are written byte for byte."""
        with atomic_text(self.folder / name, newline="", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            yield writer

    def close(self) -> None:
        """Closes the TensorBoard file."""
        self.board.close()

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        save_text(json.dumps(content, indent=1) + "\n", self.folder / name)


def checkpoint_payload(
    model: FAN,
    *,
    labels: Sequence[str],
    image_size: int,
    dataset: str,
    protocol: dict[str, Any],
    precision: str,
    epoch: int,
    metrics: dict[str, Any],
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A checkpoint that describes itself, with plain data and tensors only.

    Args:
        training: the state that resuming needs (optimizer, schedule, ...); None for a checkpoint to use only.
    """
    return {
        "format": CHECKPOINT_FORMAT,
        "state_dict": {name: value.detach().cpu() for name, value in published_weights(model).items()},
        "at_type": model.at_type,
        "backbone": model.backbone.name,
        "labels": list(labels),
        "image_size": image_size,
        "dataset": dataset,
        "protocol": {k: list(v) if isinstance(v, tuple) else v for k, v in protocol.items()},
        "precision": precision,
        "epoch": epoch,
        "metrics": metrics,
        "training": training,
    }


def newest_whole(folder: Path) -> Path:
    """The checkpoint that `--resume` loads: last.pth, or previous.pth with a warning if last.pth is damaged.

    Raises:
        CheckpointError: neither can be read; the message is about last.pth.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        read_checkpoint(last)
    except DamagedCheckpointError as error:
        if not previous.is_file():
            raise
        read_checkpoint(previous)
        if distributed.world().is_main:
            print(f"warning: {error}; resuming from {previous}, the checkpoint before it", file=sys.stderr)
        return previous
    return last


CHECKPOINTS = ("last.pth", "previous.pth", "best.pth")
SPARE = 16 * 2**20  # log, results, report, TensorBoard


def checkpoint_bytes(model: nn.Module) -> int:
    """The approximate size of a checkpoint to resume from: the weights, and a momentum of the same size."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return 2 * weights + 2**20


def check_space(folder: Path, size: int) -> None:
    """Makes sure that a folder has space for a run: last, previous and best checkpoint, and one being written.

    It reserves the space and frees it at once, because a quota or a limit on file sizes only shows that way.

    Args:
        folder: made if it is missing.
        size: of a checkpoint, bytes.

    Raises:
        WriteError: there is not enough space, or the folder cannot be written to.
    """
    present = [name for name in CHECKPOINTS if (folder / name).exists()]
    wanted = (len(CHECKPOINTS) + 1 - len(present)) * size + SPARE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = free_disk(folder)
    except OSError as error:
        raise WriteError(f"--output {folder}: cannot be made ({error.strerror}); name a folder to write to") from None
    if free < wanted:
        raise WriteError(
            f"--output {folder}: {in_words(free)} are free, but a run needs about {in_words(wanted)} "
            f"(checkpoints of {in_words(size)}); free some space, or name another folder"
        )
    probes = [folder / f".space-{number}.{os.getpid()}.tmp" for number in range(-(-(wanted - SPARE) // size))]
    try:
        for probe in probes:
            with probe.open("xb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.write(b"\0")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what = f"has no space for {counted(len(probes), 'checkpoint')} of {in_words(size)}"
            raise WriteError(
                f"--output {folder}: {what} ({error.strerror}); free some space, or name another folder"
            ) from None
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve space
            raise WriteError(
                f"--output {folder}: cannot be written to ({error.strerror}); name a folder to write to"
            ) from None
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)
