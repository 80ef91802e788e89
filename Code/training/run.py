"""The folder of a run: `<output>/<date-time>_<dataset>_<attention>/`, and everything that a training writes there.

args.json      every flag, versions and device      last.pth  best.pth   checkpoints
log.jsonl      a line per epoch                      results.json         metrics of both, written last
predictions.csv  attention.csv  clips.csv            of the best one, per clip and per frame
"""

from __future__ import annotations

import csv
import functools
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from ..common.device import Compute, describe_device, git_commit, versions
from ..common.errors import ProjectError, UsageError
from ..common.files import atomic_text, one_writer, save_text
from ..common.names import ATTENTION_TITLES, CHECKPOINT_FORMAT
from ..data.clips import Clip
from ..network.checkpoints import CheckpointError, save_atomically
from ..network.fan import FAN
from ..network.weights import load_trained, published_weights, stored_labels
from . import ddp
from .loops import Evaluation
from .metrics import MANY_CLASSES
from .records import VERSION, started_at
from .resume import command_line

LAST, BEST = "last.pth", "best.pth"
P = ParamSpec("P")


@dataclass
class State:
    """What a training changes: all that it takes to go on after an epoch, and to end with the same bytes.

    Attributes:
        model: the network that is trained.
        average: an average of its weights over the steps. If there is one, it is evaluated and saved.
        epoch: how many are done.
        metrics: of the validation set after the last one.
        best: {"epoch", "accuracy"} of the best one.
        log: a line for each.
    """

    model: FAN
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def network(self) -> FAN:
        """The network that is evaluated and saved."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def finish_epoch(self, line: dict[str, Any], metrics: dict[str, Any], *, best: bool = False) -> bool:
        """Notes an epoch that is done.

        Args:
            line: of the log.
            metrics: of the validation set.
            best: it counts as the best one, whatever its accuracy.

        Returns:
            Whether it is the best one so far; of equal ones, the earlier counts.
        """
        self.epoch, self.metrics = line["epoch"], metrics
        self.log.append(line)
        best = best or not self.best or metrics["accuracy"] > self.best["accuracy"]
        if best:
            self.best = {"epoch": self.epoch, "accuracy": metrics["accuracy"]}
        return best

    def training(self, seed: int, epochs: int) -> dict[str, Any]:
        """What last.pth has besides: all that resuming needs."""
        return {
            "model": published_weights(self.model) if self.average is not None else None,
            "average": int(self.average.n_averaged) if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seed": seed,
            "epochs": epochs,
            "best": self.best,
            "log": self.log,
        }

    def resume(self, checkpoint: Mapping[str, Any], path: Path, *, seed: int, epochs: int, steps: int) -> None:
        """Goes on after the epoch of a checkpoint.

        Args:
            checkpoint: the content of `path`, see `check_resumable`.
            seed, epochs: of this training.
            steps: in an epoch.

        Raises:
            CheckpointError: it is of a training with other settings or data, or is damaged.
        """
        state = checkpoint["training"]
        for name, value in (("seed", seed), ("epochs", epochs)):
            if state.get(name) != value:
                raise CheckpointError(f"{path}: was trained with --{name} {state.get(name)}; resume with the same")
        try:
            load_trained(self.network, checkpoint)
            if self.average is not None:
                load_trained(self.model, state["model"])
                self.average.n_averaged.fill_(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.metrics = int(checkpoint["epoch"]), dict(checkpoint["metrics"])
            self.best, self.log = dict(state["best"]), [dict(line) for line in state["log"]]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise CheckpointError(
                f"{path}: its training state does not fit this run ({type(error).__name__}: {reason}); start a new run"
            ) from None
        if self.scheduler.last_epoch != self.epoch * steps:
            raise CheckpointError(
                f"{path}: has {self.scheduler.last_epoch} steps in {self.epoch} epochs, but an epoch now has {steps} "
                "steps; the training set has changed, so start again"
            )


def checkpoint_payload(network: FAN, **about: Any) -> dict[str, Any]:
    """A checkpoint that describes itself, with plain data and tensors only.

    Args:
        about: `labels`, `image_size`, `dataset`, `protocol`, `precision`, `epoch`, `metrics`, and what else is known.
    """
    return {
        "format": CHECKPOINT_FORMAT,
        "state_dict": {name: value.detach().cpu() for name, value in published_weights(network).items()},
        "at_type": network.at_type,
        "backbone": network.backbone.name,
        **about,
    }


def check_resumable(checkpoint: Mapping[str, Any], path: Path, labels: Sequence[str]) -> None:
    """Makes sure that a training on these classes can go on from a checkpoint.

    Raises:
        CheckpointError: it has no training state, or the data has other classes than it.
    """
    if not isinstance(checkpoint.get("training"), dict):
        raise CheckpointError(f"{path}: has weights but no training state; --resume needs the last.pth of a run")
    try:
        of_file = list(stored_labels(checkpoint, None))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if list(labels) != of_file:
        raise CheckpointError(f"{path}: its classes are {', '.join(of_file)}; the data's {', '.join(labels)}")


def load_weights(model: FAN, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Loads the weights of a checkpoint into a network of the same shape.

    Raises:
        CheckpointError: they are not those of this network.
    """
    try:
        load_trained(model, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def main_only(method: Callable[P, None]) -> Callable[P, None]:
    """Makes a method run in the main process only, so that no two processes write the same file.

    An `OSError` becomes a `ProjectError` that names the file, and the run can be resumed.
    """

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        if not ddp.world().is_main:
            return
        try:
            method(*args, **kwargs)
        except OSError as error:
            path = error.filename or args[0].folder  # type: ignore[attr-defined]
            raise ProjectError(f"{path}: cannot be written ({error.strerror or error}); free some space") from None

    return guarded


class Run:
    """The folder of one run, or of several folds or seeds. All processes of a training share it.

    Args:
        folder: exists; see `open_run`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._board: SummaryWriter | None = None  # made when something is shown for the first time

    @main_only
    def write_arguments(self, given: Mapping[str, Any], resolved: Mapping[str, Any], compute: Compute) -> None:
        """Writes args.json: every argument as given and as resolved, versions, commit and device.

        Args:
            given: the flags as they were given, which `--resume` restores.
            resolved: the values from the protocol, a checkpoint or the machine.
        """
        resolved = {name: str(value) if isinstance(value, Path) else value for name, value in resolved.items()}
        # So that `--resume RUN --dataset afew` fits a run that was started without `--dataset`.
        chosen = {name: resolved[name] for name in ("dataset", "fold") if name in resolved}
        content: dict[str, Any] = {
            "version": VERSION,
            "started": datetime.now(UTC).isoformat(timespec="microseconds"),
            "command": command_line(),
            "args": {**given, **resolved},
            "given": {**given, **chosen},
            "versions": {"python": platform.python_version(), **versions()},
            "git_commit": git_commit(),
            "device": describe_device(compute.device),
            "precision": compute.precision,
            "threads": torch.get_num_threads(),
            "processes": ddp.world().size,
        }
        self._write_json("args.json", content)

    @main_only
    def save_epoch(self, state: State, about: Mapping[str, Any], *, best: bool, seed: int, epochs: int) -> None:
        """Writes best.pth if this is the best epoch, then last.pth, then the log that last.pth has.

        A process may be killed between any two of them: resuming from last.pth writes the others again.
        """
        checkpoint = checkpoint_payload(state.network, **about, epoch=state.epoch, metrics=state.metrics)
        if best:
            save_atomically({**checkpoint, "training": None}, self.folder / BEST)
        save_atomically({**checkpoint, "training": state.training(seed, epochs)}, self.folder / LAST)
        self.write_log(state.log)
        self.show(state.log[-1])

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

    @main_only
    def write_log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes log.jsonl."""
        save_text("".join(json.dumps(line) + "\n" for line in lines), self.folder / "log.jsonl")

    @main_only
    def write_results(
        self, labels: Sequence[str], results: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any] | None = None
    ) -> None:
        """Writes results.json: the metrics under "last" and "best"; of an evaluation, under "best" alone.

        It comes last: it marks the results as complete.

        Args:
            about: more entries: which fold, how the best epoch was chosen.
        """
        self._write_json("results.json", {"version": VERSION, "labels": list(labels), **(about or {}), **results})

    @main_only
    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json of several runs."""
        self._write_json("summary.json", {"version": VERSION, **summary})

    @main_only
    def write_rows(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Writes a CSV file. File names that are not valid UTF-8 are written byte for byte."""
        with atomic_text(self.folder / name, newline="", errors="surrogateescape") as file:
            csv.writer(file).writerows([header, *rows])

    def write_predictions(
        self, labels: Sequence[str], names: Sequence[str], targets: Sequence[int], evaluation: Evaluation
    ) -> None:
        """Writes predictions.csv: clip, label, prediction, and a probability per class, if there are few classes."""
        probabilities = evaluation.logits.softmax(dim=1)
        shown = len(labels) if len(labels) <= MANY_CLASSES else 0
        rows = (
            [name, labels[target], labels[int(row.argmax())], *(f"{p:.6f}" for p in row[:shown].tolist())]
            for name, target, row in zip(names, targets, probabilities, strict=True)
        )
        self.write_rows("predictions.csv", ["clip", "label", "prediction", *labels[:shown]], rows)

    def write_attention(
        self, clips: Sequence[Clip], evaluation: Evaluation, intensities: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Writes attention.csv and clips.csv.

        attention.csv: clip, frame, alpha, beta (empty without relation-attention), weight and, if it is known, the true
        intensity. clips.csv: clip and the folder of its frames, from which the report takes its pictures.
        """
        rows = []
        outputs = zip(clips, evaluation.alpha, evaluation.beta, evaluation.weights, strict=True)
        for clip, alpha, beta, weight in outputs:
            for index, frame in enumerate(clip.frames):
                relation = "" if beta is None else f"{beta[index]:.6f}"
                row = [clip.name, frame, f"{alpha[index]:.6f}", relation, f"{weight[index]:.6f}"]
                rows.append(row if intensities is None else [*row, f"{intensities[clip.name][index]:.4f}"])
        extra = ["intensity"] if intensities is not None else []
        self.write_rows("attention.csv", ["clip", "frame", "alpha", "beta", "weight", *extra], rows)
        self.write_rows("clips.csv", ["clip", "folder"], ([clip.name, os.path.abspath(clip.folder)] for clip in clips))

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        save_text(json.dumps(content, indent=1) + "\n", self.folder / name)


@contextmanager
def open_run(folder: Path | None, parent: Path, name: str) -> Iterator[Run]:
    """The folder of a run, which no other training may write to in the block.

    Args:
        folder: of a run to begin or to resume; None makes a new one.
        parent: of a new folder; made if it is missing.
        name: what a new folder is called, after the date and time.

    Raises:
        FolderInUseError: another process writes there.
        UsageError: the folder cannot be made.
    """
    with ExitStack() as stack:
        if ddp.world().is_main:
            made = [] if parent.exists() else [parent]
            folder = folder or _new_folder(parent, name)
            stack.callback(_remove_empty, [folder, *made])
            stack.enter_context(one_writer(folder))
        run = Run(Path(ddp.from_main(lambda: str(folder))))
        stack.callback(run.close)
        yield run


def _remove_empty(folders: Sequence[Path]) -> None:
    """A run that ended in an error before it wrote anything leaves no folder."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}_{name}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        path = error.filename or parent
        raise UsageError(f"--output {path}: cannot be made ({error.strerror}); name a folder to write to") from None
    raise AssertionError


def newest_best(parent: Path, dataset: str, at_type: int | None = None, fold: int | None = None) -> Path | None:
    """The newest best.pth below `parent` of a dataset, and of an attention if one is given; None if there is none.

    The newest is of the run that was started last, as its args.json says.

    Args:
        fold: look for the networks of this fold. None skips networks of single folds.
    """
    patterns = []
    for word in ATTENTION_TITLES.values() if at_type is None else [ATTENTION_TITLES[at_type]]:
        name = f"*_{dataset}_{word}{fold_suffix(fold)}"
        patterns += [name, f"{name}-[0-9]*"]
        if fold is not None:
            patterns.append(f"*_{dataset}_{word}_folds*/fold-{fold:02d}")
    found = [path for pattern in patterns for path in parent.glob(f"{pattern}/{BEST}")]

    def age(path: Path) -> tuple[datetime, datetime, str]:
        whole = parent / path.relative_to(parent).parts[0]  # of several folds
        return started_at(whole), started_at(path.parent), str(path)

    return max(found, key=age, default=None)


def fold_suffix(fold: int | None) -> str:
    """The end of the folder's name if a run is of one fold only."""
    return "" if fold is None else f"_fold-{fold}"
