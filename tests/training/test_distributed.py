"""Several processes: shares of one plan, one evaluation whatever their number, one writer of the run's folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import Demo_AFEW_Attention as script
from Code.common.errors import UsageError
from Code.data.clips import DataError
from Code.data.loaders import EvaluationBatches, TrainingBatches
from Code.data.stores import ArrayStore, FrameTable
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.training import distributed
from Code.training import frames as run_frames
from Code.training.run_folder import checkpoint_payload

SCRIPT = Path(script.__file__).resolve()
JOIN = distributed.processes  # a test replaces the name


def table_and_store(lengths: list[int]) -> tuple[FrameTable, ArrayStore]:
    number, frames = len(lengths), np.arange(sum(lengths), dtype=np.uint8)
    table = FrameTable(
        np.array(lengths), torch.arange(number) % 2, list(map(str, range(number))), ("a", "b"), number, []
    )
    return table, ArrayStore(np.broadcast_to(frames[:, None, None, None], (len(frames), 1, 2, 2)).copy())


# Plans


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_training_shares_make_up_the_batches_of_one_process(world_size):
    def keys(rank: int, size: int) -> TrainingBatches:
        batches = TrainingBatches(
            *table_and_store([5, 7, 9]), num_frames=3, batch_size=8, seed=4, rank=rank, world_size=size
        )
        batches.set_epoch(3)
        return batches

    alone, parts = keys(0, 1), [keys(rank, world_size) for rank in range(world_size)]
    assert alone.shares == [1.0] * 2
    for step, whole in enumerate(alone.plan.keys):
        assert np.array_equal(np.concatenate([part.plan.keys[step] for part in parts]), whole)
        assert np.array_equal(np.concatenate([part.clips[step] for part in parts]), alone.clips[step])
        # Mean over processes of (own mean x share) is the mean over the batch.
        weighted = [part.shares[step] * part.plan.keys[step].mean() for part in parts]
        assert np.mean(weighted) == pytest.approx(whole.mean())


def test_fewer_samples_than_processes_are_refused():
    with pytest.raises(DataError, match="batches have 2 samples for 3 processes"):
        TrainingBatches(*table_and_store([5]), num_frames=3, batch_size=2, seed=0, rank=1, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_frame_is_evaluated_once_in_the_batches_of_one_process(world_size):
    def batches(rank: int, size: int) -> EvaluationBatches:
        return EvaluationBatches(*table_and_store([5, 7, 9]), batch_frames=4, rank=rank, world_size=size)

    alone = [frames[:, 0, 0, 0].tolist() for frames in batches(0, 1)]
    parts = [batches(rank, world_size) for rank in range(world_size)]
    together = []
    for counts, *frames in zip(parts[0].rounds, *parts, strict=True):
        assert [len(part) for part in frames] == counts
        together += [part[:, 0, 0, 0].tolist() for part in frames if len(part)]
    assert together == alone == [[0, 1, 2, 3], *alone[1:-1], [20]]


def test_devices_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [distributed.device_of_process(device, 1) for device in ("auto", "cuda", "cpu")] == [
        "cuda:1",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(UsageError, match="--device cuda:1"):
        distributed.device_of_process("cuda:1", 0)
    with pytest.raises(UsageError, match="more processes than the 2 GPUs"):
        distributed.device_of_process("auto", 2)


# Real processes, forked from this one, over gloo


def in_processes(size: int, work: Callable[[distributed.World], object], tmp_path: Path) -> list:
    """What `work` returns in each of `size` processes."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    (tmp_path / "meeting").unlink(missing_ok=True)

    def process(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
        meet = dist.init_process_group
        # A file instead of a port: nobody else can have taken it.
        distributed.dist.init_process_group = lambda backend, **options: meet(
            backend, init_method=f"file://{tmp_path}/meeting", rank=rank, world_size=size, timeout=options["timeout"]
        )
        with JOIN("cpu") as world:
            results.put((rank, work(world)))

    workers = [context.Process(target=process, args=(rank,)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * size
    return [result for _, result in sorted(results.get() for _ in workers)]


def test_processes_talk(tmp_path):
    def work(world: distributed.World) -> tuple:
        assert (world.size, world.is_main) == (3, world.rank == 0)
        rows = torch.full((world.rank, 2), float(world.rank))
        norm = nn.BatchNorm1d(1)
        norm.running_mean.fill_(world.rank + 5)
        distributed.share_buffers(norm)
        order = []
        with distributed.local_main_first():
            order.append(world.rank)
        return (
            distributed.gather_rows(rows, [0, 1, 2]).tolist(),
            distributed.total(torch.tensor([1.0, world.rank])).tolist(),
            distributed.from_main(lambda: f"from {world.rank}"),
            float(norm.running_mean),
        )

    assert in_processes(3, work, tmp_path) == [([[1, 1], [2, 2], [2, 2]], [3, 3], "from 0", 5)] * 3


def test_all_stop_before_the_batch_that_one_cannot_read(tmp_path):
    def work(world: distributed.World) -> tuple:
        def batches(lost: int | None):
            for number in range(4):
                if number == lost:
                    raise DataError(f"batch {number} is away")
                yield number

        whole = list(distributed.in_step(batches(None)))
        seen = []
        with pytest.raises(distributed.LostFramesError) as caught:
            for batch in distributed.in_step(batches(2 if world.rank == 1 else None)):
                seen.append(batch)
        return whole, seen, str(caught.value), distributed.from_main(lambda: "in step")

    other = "another process cannot read its frames; see its error"
    results = in_processes(3, work, tmp_path)
    assert results == [([0, 1, 2, 3], [0, 1], said, "in step") for said in (other, "batch 2 is away", other)]


def test_gradients_of_uneven_shares_are_those_of_the_whole_batch(tmp_path):
    def gradient(world: distributed.World) -> list[float]:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        inputs = torch.randn(5, 4)
        first, last = world.rank * 5 // world.size, (world.rank + 1) * 5 // world.size
        share = (last - first) * world.size / 5
        wrapped = distributed.wrapped(model)  # averages as long as it lives
        (wrapped(inputs[first:last]).square().mean() * share).backward()
        return model.weight.grad[0].tolist()

    alone = gradient(distributed.World())
    for found in in_processes(2, gradient, tmp_path):
        assert found == pytest.approx(alone)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, sample) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pth"
    labels = sorted(folder.name for folder in (sample / "Val").iterdir())
    payload = checkpoint_payload(
        FAN(1, 7), labels=labels, image_size=32, dataset="folders", protocol={}, precision="fp32", epoch=1, metrics={}
    )
    save_atomically(payload, path)
    return path


def test_metrics_are_equal_for_one_two_and_three_processes(sample, checkpoint, tmp_path, call, monkeypatch):
    monkeypatch.setitem(run_frames.BATCH_FRAMES, "cpu", 10)

    def outcome(world: distributed.World) -> tuple[int, str]:
        flags = ("-e", "--checkpoint", checkpoint, "--dataset", "folders", "--device", "cpu", "--workers", 0)
        output = tmp_path / f"model{world.size}"
        done = call(script, *flags, "--val-root", sample / "Val", "--output", output, cwd=tmp_path)
        return done.status, done.out if world.is_main else done.err

    def written(size: int) -> tuple[str, str]:
        (folder,) = (tmp_path / f"model{size}").iterdir()
        return (folder / "results.json").read_text(), (folder / "attention.csv").read_text()

    assert outcome(distributed.World())[0] == 0
    assert json.loads(written(1)[0])["best"]["num_clips"] == 7
    for size in (2, 3):
        monkeypatch.setattr(distributed, "processes", lambda device: nullcontext(distributed.world()))
        statuses = in_processes(size, outcome, tmp_path)
        assert [status for status, _ in statuses] == [0] * size
        assert written(size) == written(1)


# The command


def test_torchrun_trains_with_two_processes_into_one_folder(sample, tmp_path):
    flags = ["--dataset", "sample", "--train-root", sample / "Train", "--val-root", sample / "Val", "--epochs", 1]
    flags += ["--pretrained", "none", "--image-size", 32, "--batch-size", 9, "--device", "cpu", "--lr", 0.01]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, SCRIPT, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1 and done.stdout.count("see model") == 1
    (folder,) = (tmp_path / "model").iterdir()
    assert json.loads((folder / "args.json").read_text())["processes"] == 2
    (line,) = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    results = json.loads((folder / "results.json").read_text())
    assert results["last"]["num_clips"] == 7 and results["last"]["accuracy"] == line["val_war"]
    assert results["last"]["loss"] == pytest.approx(line["val_loss"])
    assert len((folder / "predictions.csv").read_text().splitlines()) == 8
    assert len(list((tmp_path / "Data" / "Cache").glob("*.frames"))) == 2
