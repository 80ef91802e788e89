"""The folder of a run: `<output>/<date-time>_<dataset>_<attention>/`, and everything that a training writes there.

args.json      every flag, versions and device      last.pth  best.pth   checkpoints
log.jsonl      a line per epoch                      results.json         metrics of both, written last
predictions.csv  attention.csv  clips.csv            of the best one, per clip and per frame
"""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from ..common.device import Compute, describe_device, git_commit, versions
from ..common.errors import UsageError
from ..common.files import atomic_text, one_writer, save_text
from ..common.names import CHECKPOINT_FORMAT
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from ..network.fan import FAN
from ..network.weights import load_trained, published_weights
from . import ddp
from .loops import Evaluation, EvaluationSplit, State
from .metrics import MANY_CLASSES
from .records import VERSION, read_arguments
from .stopping import command_line

LAST, BEST = "last.pth", "best.pth"
STATEFUL = ("optimizer", "scheduler", "scaler")  # attributes of `State` whose state is saved


def checkpoint_payload(network: FAN, **facts: Any) -> dict[str, Any]:
    """A checkpoint that describes itself, with plain data and tensors only.

    Args:
        facts: `labels`, `image_size`, `dataset`, `protocol`, `precision`, `epoch`, `metrics`, and what else is known.
    """
    return {
        "format": CHECKPOINT_FORMAT,
        "state_dict": {name: value.detach().cpu() for name, value in published_weights(network).items()},
        "at_type": network.at_type,
        "backbone": network.backbone.name,
        **facts,
    }


class Run:
    """The folder of one run, or of several folds or seeds, which exists.

    All processes of a training share it, and only the main one writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._board: SummaryWriter | None = None  # made when something is shown for the first time

    def write_arguments(self, flags: Mapping[str, Any], resolved: Mapping[str, Any], compute: Compute) -> None:
        """Writes args.json: flags as they were given and as they were resolved, versions, commit and device."""
        if not ddp.world().is_main:
            return
        # So that `--resume RUN --dataset afew` fits a run that was started without `--dataset`.
        chosen = {name: resolved[name] for name in ("dataset", "fold") if name in resolved}
        content: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="microseconds"),
            "command": command_line(),
            "args": {**flags, **resolved},
            "given": {**flags, **chosen},
            "versions": {"python": platform.python_version(), **versions()},
            "git_commit": git_commit(),
            "device": describe_device(compute.device),
            "precision": compute.precision,
            "threads": torch.get_num_threads(),
            "processes": ddp.world().size,
        }
        self.write_json("args.json", content)

    def save_epoch(self, state: State, facts: Mapping[str, Any]) -> None:
        """Writes best.pth if this is the best epoch, then last.pth, then the log that last.pth has.

        A process may be killed between any two of them: resuming from last.pth writes the others again.
        """
        if not ddp.world().is_main:
            return
        checkpoint = checkpoint_payload(state.saved, **facts, epoch=state.epoch)
        if state.best["epoch"] == state.epoch:
            save_atomically({**checkpoint, "training": None}, self.folder / BEST)
        training = {
            "model": None if state.average is None else state.network.state_dict(),
            "average": None if state.average is None else int(state.average.n_averaged),
            **{name: getattr(state, name).state_dict() for name in STATEFUL},
            "best": state.best,
            "log": state.log,
        }
        save_atomically({**checkpoint, "training": training}, self.folder / LAST)
        self.write_log(state.log)
        self.show(state.log[-1])

    def resume(self, state: State, labels: Sequence[str], steps: int) -> dict[str, Any]:
        """Sets the state to that of last.pth, which it returns; `steps`: in an epoch.

        Raises:
            CheckpointError: last.pth is of another training or other data, or is damaged.
        """
        path = self.folder / LAST
        checkpoint = read_checkpoint(path)
        if checkpoint.get("labels") != list(labels):
            raise CheckpointError(f"{path}: its classes are {checkpoint.get('labels')}; the data's {list(labels)}")
        try:
            training = checkpoint["training"]
            load_trained(state.saved, checkpoint)
            if state.average is not None:
                state.network.load_state_dict(training["model"])
                state.average.n_averaged.fill_(training["average"])
            for name in STATEFUL:
                getattr(state, name).load_state_dict(training[name])
            state.epoch, state.best, state.log = int(checkpoint["epoch"]), dict(training["best"]), list(training["log"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit this training ({error!r:.200}); start a new run") from None
        if state.scheduler.last_epoch != state.epoch * steps:
            raise CheckpointError(
                f"{path}: has {state.scheduler.last_epoch} steps in {state.epoch} epochs, but an epoch now has {steps} "
                "steps; the training set has changed, so start again"
            )
        return checkpoint

    def show(self, line: Mapping[str, Any]) -> None:
        """Adds a line of the log to the TensorBoard events. Later epochs, from before an interruption, are dropped."""
        if self._board is None:
            self._board = SummaryWriter(str(self.folder), purge_step=line["epoch"])
        for name, value in line.items():
            if name != "epoch":
                self._board.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
        self._board.flush()

    def close(self) -> None:
        """Closes the TensorBoard events."""
        if self._board is not None:
            self._board.close()

    def write_log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes log.jsonl."""
        if ddp.world().is_main:
            save_text("".join(json.dumps(line) + "\n" for line in lines), self.folder / "log.jsonl")

    def write_results(
        self, split: EvaluationSplit, results: Mapping[str, Any], evaluation: Evaluation, about: Mapping[str, Any]
    ) -> None:
        """Writes the tables of an evaluation, and last results.json, which marks the run as complete.

        predictions.csv: clip, label, prediction, and a probability per class, if there are few classes.
        attention.csv: clip, frame, alpha, beta (empty without relation-attention), weight and, if it is known, the true
        intensity. clips.csv: clip and the folder of its frames, from which the report takes its pictures.

        Args:
            results: the metrics under "last" and "best"; of an evaluation, under "best" alone.
            about: more entries: which fold, how the best epoch was chosen.
        """
        if not ddp.world().is_main:
            return
        labels, names, targets = split.table.labels, split.table.names, split.table.targets.tolist()
        shown = len(labels) if len(labels) <= MANY_CLASSES else 0
        rows = [
            [name, labels[target], labels[int(row.argmax())], *(f"{p:.6f}" for p in row[:shown].tolist())]
            for name, target, row in zip(names, targets, evaluation.logits.softmax(dim=1), strict=True)
        ]
        self.write_rows("predictions.csv", ["clip", "label", "prediction", *labels[:shown]], rows)
        if split.clips is not None:
            self._write_attention(split, evaluation)
            folders = [[clip.name, os.path.abspath(clip.folder)] for clip in split.clips]
            self.write_rows("clips.csv", ["clip", "folder"], folders)
        self.write_json("results.json", {"labels": list(labels), **about, **results})

    def _write_attention(self, split: EvaluationSplit, evaluation: Evaluation) -> None:
        rows = []
        beta = evaluation.beta
        for number, clip in enumerate(split.clips or ()):
            alpha, weight = evaluation.alpha[number], evaluation.weights[number]
            for index, frame in enumerate(clip.frames):
                relation = f"{beta[number][index]:.6f}" if beta else ""
                row = [clip.name, frame, f"{alpha[index]:.6f}", relation, f"{weight[index]:.6f}"]
                if split.intensities is not None:
                    row.append(f"{split.intensities[clip.name][index]:.4f}")
                rows.append(row)
        extra = ["intensity"] if split.intensities is not None else []
        self.write_rows("attention.csv", ["clip", "frame", "alpha", "beta", "weight", *extra], rows)

    def write_rows(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Writes a CSV file. File names that are not valid UTF-8 are written byte for byte."""
        with atomic_text(self.folder / name, newline="", errors="surrogateescape") as file:
            csv.writer(file).writerows([header, *rows])

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file, with the version of its form."""
        text = json.dumps({"version": VERSION, **content}, indent=1, default=str)
        save_text(text + "\n", self.folder / name)


@contextmanager
def open_run(folder: Path | None, parent: Path, name: str) -> Iterator[Run]:
    """The folder of a run, which no other training may write to in the block.

    Args:
        folder: of a run to begin or to resume; None makes a new one in `parent`, called `name` after date and time.

    Raises:
        UsageError: another process writes there, or the folder cannot be made.
    """
    with ExitStack() as stack:
        if ddp.world().is_main:
            made = [] if parent.exists() else [parent]
            folder = folder or _new_folder(parent, name)
            stack.callback(_remove_empty, [folder, *made])
            stack.enter_context(one_writer(folder))
        folder = ddp.from_main(folder)
        assert folder is not None
        run = Run(folder)
        stack.callback(run.close)
        yield run


def _remove_empty(folders: Sequence[Path]) -> None:
    """A run that ended in an error before it wrote anything leaves no folder."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist."""
    stem, number = f"{datetime.now():%Y%m%d-%H%M%S}_{name}", 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            path = error.filename or parent
            raise UsageError(f"--output {path}: cannot be made ({error.strerror}); name a folder to write to") from None


def newest_best(parent: Path, dataset: str, at_type: int | None = None, fold: int | None = None) -> Path | None:
    """The best.pth in `parent` of the run of a dataset that was started last; None if there is none.

    Args:
        at_type: of this attention; None: of any.
        fold: look for the networks of this fold. None skips networks of single folds.
    """
    networks = {}
    for path in [*parent.glob(f"*/{BEST}"), *parent.glob(f"*/fold-*/{BEST}")]:
        if (path.parent / "args.json").is_file():
            arguments = read_arguments(path.parent)
            args = arguments.args
            if (args.get("dataset"), args.get("fold")) == (dataset, fold) and at_type in (None, args.get("at_type")):
                networks[arguments.started] = path
    return networks[max(networks)] if networks else None
