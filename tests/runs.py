"""Short trainings on the drawn sample, and what two of them have in common."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from Code import experiment
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.weights import published_weights
from Code.recipes import pretraining
from Code.training import run
from Code.training.metrics import confusion_metrics

TIMES = ("seconds", "frames_per_second", "val_frames_per_second")
SMALL = ("--image-size", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32", "--lr", 0.01)


@contextmanager
def without_pictures() -> Iterator[None]:
    """Trainings without report and TensorBoard, which take longer than such a training and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment, pretraining):
            patch.setattr(module, "write_report", lambda folder, progress=False: folder)
        patch.setattr(run.Run, "show", lambda self, line: None)
        yield


@contextmanager
def at_call(number: int, place: object, name: str, do: Callable[[], Any]) -> Iterator[None]:
    """Does something before the n-th call, from 1, of a function of a module or class."""
    function, calls = getattr(place, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            do()
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, counted)
        yield


def interrupt() -> None:
    raise KeyboardInterrupt


def at_step(number: int, do: Callable[[], Any]) -> Any:
    """Does something in the n-th training step, counted over all epochs."""
    return at_call(number, torch.amp.GradScaler, "update", do)


def flags_of(sample: Path, *more: object) -> tuple[object, ...]:
    """The main script's flags for a tiny training on the sample, three steps an epoch."""
    lists = ("--train-list", sample / "list_train.txt", "--val-list", sample / "list_eval.txt")
    roots = ("--train-root", sample / "Train", "--val-root", sample / "Val", *lists)
    return ("--dataset", "sample", *roots, *SMALL, "--samples-per-clip", 2, *more)


def make_run(
    folder: Path, labels: Sequence[str], clips: Sequence[tuple[str, str, str, float]], *, frames: int = 0,
    skipped: int = 0, args: dict[str, Any] | None = None, **results: Any,
) -> Path:  # fmt: skip
    """The folder of a finished run, as its pages read it.

    Args:
        clips: name, true class, predicted class and its probability of each.
        frames: of each clip, `0.png`, `1.png`, ...: they are drawn, and attention.csv and clips.csv written.
        skipped: listed clips without frames.
        args: of args.json.
        results: more of results.json, or other metrics.
    """
    folder.mkdir(parents=True)
    confusion = torch.zeros(len(labels), len(labels), dtype=torch.int64)
    for _, label, prediction, _ in clips:
        confusion[labels.index(label), labels.index(prediction)] += 1
    best = confusion_metrics(confusion, num_listed=len(clips) + skipped, num_skipped=skipped) | {
        "epoch": 2,
        "loss": 1.0,
    }
    content = {"labels": labels, "selected_on": "best on the evaluated split", "best": best, "last": best, **results}
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "args.json").write_text(json.dumps({"args": args or {}, "command": "python Demo_AFEW_Attention.py"}))
    lines = [
        {"epoch": at, "lr": 0.1 / at, "train_loss": 1 / at, "val_war": 0.2 * at, "seconds": 3.25} for at in (1, 2, 3)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tables: dict[str, list[list[Any]]] = {"predictions.csv": [["clip", "label", "prediction", *labels]]}
    for name, label, prediction, sure in clips:
        rest = (1 - sure) / (len(labels) - 1)
        shares = [sure if of == prediction else rest for of in labels]
        tables["predictions.csv"].append([name, label, prediction, *shares])
    if frames:
        tables["attention.csv"] = [["clip", "frame", "alpha", "beta", "weight", "intensity"]]
        tables["clips.csv"] = [["clip", "folder"]]
    for number, (name, *_) in enumerate(clips if frames else ()):
        pictures = folder / "frames" / str(number)
        pictures.mkdir(parents=True)
        tables["clips.csv"].append([name, pictures])
        for at in range(frames):
            pixels = np.random.default_rng(at).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(pictures / f"{at}.png")
            tables["attention.csv"].append([name, f"{at}.png", 0.2 * at, 0.5, (at + 1) / 6, at / frames])
    for table, rows in tables.items():
        write_rows(folder / table, rows)
    return folder


def save_run(path: Path, fan: FAN, labels: Sequence[str], **about: Any) -> Path:
    """The checkpoint of a run, as `load_fan` reads it."""
    run = {"format": "emotion-fan/1", "state_dict": published_weights(fan), "at_type": fan.at_type}
    save_atomically({**run, "labels": list(labels), **about}, path)
    return path


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def only_run(cwd: Path) -> Path:
    (folder,) = (cwd / "model").iterdir()
    return folder


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log_of(folder: Path) -> list[dict]:
    """The log without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def ended_alike(one: Path, other: Path) -> bool:
    """Whether two runs have the same log, results and clip tables, and byte-equal weights and states."""
    assert log_of(one) == log_of(other)
    for name in ("results.json", "predictions.csv", "attention.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("last.pth", "best.pth"):
        first, second = read_checkpoint(one / name), read_checkpoint(other / name)
        assert first["metrics"] == second["metrics"] and first["epoch"] == second["epoch"]
        assert same(first["state_dict"], second["state_dict"]), name
        if name == "last.pth":
            for part in ("model", "average", "optimizer", "scheduler", "best"):
                assert same(first["training"][part], second["training"][part]), part
    return True


def same(one: object, other: object) -> bool:
    """Equality to the last bit, of nested plain data and tensors."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))  # type: ignore[arg-type]
    return one == other


def told_command(err: str) -> list[str]:
    """The flags of the command that resumes the run, from the last line of the script."""
    found = re.search(r"to resume: python (.*)$", err.strip().splitlines()[-1])
    assert found, err
    return shlex.split(found[1])[1:]


def forked(work: Callable[[], int | None]) -> int:
    """Starts `work` in a child process that shares nothing with this one but open files; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
