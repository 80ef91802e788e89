"""Checkpoints and teachers' answers of the right format and another shape: one line names the file; nothing runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.device import Compute
from Code.data.augment import PlainFrames
from Code.data.loaders import EvaluationBatches, TrainingBatches
from Code.data.stores import ArrayStore, FrameTable
from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.training.engine import EvaluationSplit
from Code.training.trainer import Training
from tests.runs import flags_of, only_run, without_pictures


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


@pytest.fixture(scope="module")
def stopped(call, sample, tmp_path_factory) -> Path:
    """A run that was stopped inside its second epoch."""
    cwd = tmp_path_factory.mktemp("stopped")
    flags = flags_of(sample, "--epochs", 2, "--pretrained", "none", "--workers", 0, "--checkpoint-every", 1e-9)
    with pytest.MonkeyPatch.context() as patch:
        from Code.training import stopping

        seen = []

        def requested() -> int | None:
            seen.append(1)
            return 15 if len(seen) > 5 else None

        patch.setattr(stopping, "requested", requested)
        outcome = call(script, *flags, cwd=cwd)
    assert outcome.status == 143, outcome.err
    run = only_run(cwd)
    held = read_checkpoint(run / "last.pth")
    assert held["epoch"] == 1 and held["training"]["position"] is not None
    return run


def at(*path: str) -> Callable[[dict], dict]:
    def place(content: dict) -> dict:
        for name in path:
            content = content[name]
        return content

    return place


VALUES: list[Any] = [None, 5, -1, 1.5, "x", [], {}, [1], {"a": 1}, True, torch.zeros(3), float("nan"), 10**30]
OUTER = ("epoch", "metrics", "labels", "state_dict", "training")
INNER = ("seed", "epochs", "best", "log", "position", "optimizer", "scheduler")
PLACES = [
    *((at(), name) for name in OUTER),
    *((at("training"), name) for name in INNER),
    *((at("training", "position"), name) for name in ("epoch", "steps", "processes")),
]


def test_checkpoints_of_another_shape_are_one_line(stopped, tmp_path):
    good = read_checkpoint(stopped / "last.pth")
    labels, rng, path = good["labels"], random.Random(3), tmp_path / "last.pth"
    table = FrameTable(np.ones(14, np.int64), torch.zeros(14, dtype=torch.int64), ["a"] * 14, tuple(labels), 14, [])
    batches = TrainingBatches(table, ArrayStore(np.zeros((14, 3, 8, 8), np.uint8)), num_frames=1, batch_size=7, seed=0)
    batches.plan.keys = batches.plan.keys * (good["training"]["position"]["steps"] // 2 + 1)
    del batches.plan.keys[good["training"]["position"]["steps"] :]

    def resume(content: dict) -> Training:
        save_atomically(content, path)
        model = FAN(1, len(labels))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        split = EvaluationSplit(EvaluationBatches(table, batches.loader.dataset.store, batch_frames=7), PlainFrames())
        about = {"labels": labels, "image_size": 8, "dataset": "sample", "protocol": {}, "epochs": 2, "seed": 0}
        parts = {"train": batches, "val": split, "optimizer": optimizer, "scheduler": scheduler}
        training = Training(
            model=model, compute=Compute(torch.device("cpu")), transform=lambda epoch: PlainFrames(), **parts, **about
        )
        training.resume(path)
        return training

    assert resume(good).first_epoch == 2
    refused = 0
    for place, name in PLACES:
        for value in (*rng.sample(VALUES, 2), "missing"):
            before = place(good)[name]
            if isinstance(value, str) and value == "missing":
                del place(good)[name]
            else:
                place(good)[name] = value
            try:
                resume(good)
            except CheckpointError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
            place(good)[name] = before
    assert refused >= 2 * len(PLACES)


PROTOCOLS: list[tuple[Any, str]] = [
    (5, "protocol: expected"),
    ([], "protocol: expected"),
    ({"fold": "all"}, "protocol: fold: expected int"),
    ({"data_flags": []}, "data_flags: expected object"),
    ({"data_flags": {"train_root": 5}}, "data_flags.train_root: expected str"),
    ({"data_flags": {"labels": "Happy"}}, "data_flags.labels: expected array"),
    ({"data_flags": {"folds": 0}}, "folds 0 is not a number from 1"),
    ({"data_flags": {"root_map": ["x"]}}, "something else than OLD=NEW"),
    ({"data_flags": {"eval_split": "train"}}, "data_flags.eval_split"),
]


@pytest.mark.parametrize(("protocol", "message"), PROTOCOLS)
def test_a_protocol_of_another_shape_is_one_line(call, stopped, tmp_path, protocol, message):
    content = read_checkpoint(stopped / "best.pth")
    content["protocol"] = protocol
    path = tmp_path / "other.pth"
    save_atomically(content, path)
    outcome = call(script, "-e", "--checkpoint", path, "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 2 and f"error: {path}: " in outcome.err and message in outcome.err
    assert outcome.err.count("\n") == 1 and not (tmp_path / "model").exists()
