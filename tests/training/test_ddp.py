"""Several processes: one evaluation whatever their number, one training with the metrics of one process, one writer."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import Demo_AFEW_Attention as script
from Code.common.errors import UsageError
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.training import ddp, loops
from Code.training.run import checkpoint_payload
from tests.runs import ended_alike, flags_of, log_of, only_run, read_json

SCRIPT = Path(script.__file__).resolve()
JOIN = ddp.processes  # a test replaces the name


def test_devices_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [ddp.device_of_process(device, 1) for device in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(UsageError, match="--device cuda:1"):
        ddp.device_of_process("cuda:1", 0)
    with pytest.raises(UsageError, match="more processes than the 2 GPUs"):
        ddp.device_of_process("auto", 2)


# Real processes, forked from this one, over gloo


def in_processes(size: int, work: Callable[[ddp.World], object], tmp_path: Path) -> list:
    """What `work` returns in each of `size` processes."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    (tmp_path / "meeting").unlink(missing_ok=True)

    def process(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
        meet = dist.init_process_group
        # A file instead of a port: nobody else can have taken it.
        ddp.dist.init_process_group = lambda backend, **options: meet(
            backend, init_method=f"file://{tmp_path}/meeting", rank=rank, world_size=size
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
    def work(world: ddp.World) -> tuple:
        assert (world.size, world.is_main) == (3, world.rank == 0)
        rows = torch.full((world.rank, 2), float(world.rank))
        norm = nn.BatchNorm1d(1)
        norm.running_mean.fill_(world.rank + 5)
        ddp.share_buffers(norm)
        ddp.barrier()
        return (
            ddp.gather_rows(rows, [0, 1, 2]).tolist(),
            ddp.total(torch.tensor([1.0, world.rank])).tolist(),
            ddp.from_main(f"from {world.rank}"),
            float(norm.running_mean),
        )

    assert in_processes(3, work, tmp_path) == [([[1, 1], [2, 2], [2, 2]], [3, 3], "from 0", 5)] * 3


def test_gradients_are_those_of_the_whole_batch(tmp_path):
    def gradient(world: ddp.World) -> list[float]:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        inputs = torch.randn(6, 4).chunk(world.size)[world.rank]
        wrapped = ddp.wrapped(model)  # averages as long as it lives
        wrapped(inputs).square().mean().backward()
        return model.weight.grad[0].tolist()

    alone = gradient(ddp.World())
    for found in in_processes(2, gradient, tmp_path):
        assert found == pytest.approx(alone)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, sample) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pth"
    labels = sorted(folder.name for folder in (sample / "Val").iterdir())
    about = {"image_size": 32, "dataset": "folders", "protocol": {}, "precision": "fp32", "epoch": 1, "metrics": {}}
    save_atomically(checkpoint_payload(FAN(1, 7), labels=labels, **about), path)
    return path


def test_metrics_are_equal_for_one_two_and_three_processes(sample, checkpoint, tmp_path, call, monkeypatch):
    monkeypatch.setitem(loops.BATCH_FRAMES, "cpu", 10)

    def outcome(world: ddp.World) -> tuple[int, str]:
        flags = ("-e", "--checkpoint", checkpoint, "--dataset", "folders", "--device", "cpu", "--workers", 0)
        output = tmp_path / f"model{world.size}"
        done = call(script, *flags, "--val-root", sample / "Val", "--output", output, cwd=tmp_path)
        return done.status, done.out if world.is_main else done.err

    def written(size: int) -> tuple[str, str]:
        (folder,) = (tmp_path / f"model{size}").iterdir()
        return (folder / "results.json").read_text(), (folder / "attention.csv").read_text()

    assert outcome(ddp.World())[0] == 0
    assert json.loads(written(1)[0])["best"]["num_clips"] == 7
    for size in (2, 3):
        monkeypatch.setattr(ddp, "processes", lambda device: nullcontext(ddp.world()))
        statuses = in_processes(size, outcome, tmp_path)
        assert [status for status, _ in statuses] == [0] * size, statuses
        assert written(size) == written(1)


# The command


def launched(cwd: Path, *flags: object) -> subprocess.Popen[str]:
    """The script in two processes, in a working directory of its own."""
    cwd.mkdir(exist_ok=True)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, SCRIPT, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, start)), cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def processes_of(parent: int) -> Iterator[tuple[int, int]]:
    """(rank, id) of torchrun's processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            variables = dict(text.partition("=")[::2] for text in (folder / "environ").read_text().split("\0"))
        except OSError:
            continue
        if "RANK" in variables:
            yield int(variables["RANK"]), int(folder.name)


def wait_for_checkpoint(cwd: Path, process: subprocess.Popen[str]) -> None:
    while not list(cwd.rglob("last.pth")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def flags(sample) -> tuple[object, ...]:
    return (*flags_of(sample, "--epochs", 3, "--pretrained", "none"), "--workers", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flags) -> Path:
    """An uninterrupted run of two processes."""
    cwd = tmp_path_factory.mktemp("whole")
    out, err = (process := launched(cwd, *flags)).communicate(timeout=280)
    assert process.returncode == 0, (out, err)
    assert out.count("epoch 1/3") == 1 and out.count("see model") == 1
    return only_run(cwd)


def test_torchrun_trains_with_two_processes_into_one_folder(whole):
    assert read_json(whole / "args.json")["processes"] == 2
    line, results = log_of(whole)[-1], read_json(whole / "results.json")
    assert results["last"]["num_clips"] == 7 and results["last"]["accuracy"] == line["val_war"]
    assert results["last"]["loss"] == pytest.approx(line["val_loss"])
    assert len((whole / "predictions.csv").read_text().splitlines()) == 8


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_job_in_seconds_and_the_same_command_resumes(flags, whole, tmp_path, killed):
    command = (*flags, "--resume", "model/run")  # serves the first start and the second
    process = launched(tmp_path, *command)
    wait_for_checkpoint(tmp_path, process)
    os.kill(dict(processes_of(process.pid))[killed], signal.SIGKILL)
    begun = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1 and time.monotonic() - begun < 20
    assert "Signal 9 (SIGKILL)" in err  # torchrun's report
    own = [line for line in err.splitlines() if "error: another process of this training has ended" in line]
    assert len(own) <= 1  # none if torchrun ended the other one before it noticed
    out, err = (again := launched(tmp_path, *command)).communicate(timeout=280)
    assert again.returncode == 0, (out, err)
    assert ended_alike(only_run(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_signal_to_torchrun_stops_the_training_and_names_the_command(flags, whole, tmp_path):
    process = launched(tmp_path, *flags)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    told = next(line for line in err.splitlines() if line.startswith("stopped by SIGTERM; the epoch under way"))
    command = shlex.split(told.partition("to resume: torchrun ")[2])
    assert command[:2] == ["--nproc_per_node", "2"] and "--resume" in command
    out, err = (again := launched(tmp_path, *command[3:])).communicate(timeout=280)
    assert again.returncode == 0, (out, err)
    assert ended_alike(only_run(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_error_in_one_process_ends_all_with_its_message(sample, tmp_path):
    process = launched(tmp_path, *flags_of(sample, "--epochs", 1, "--pretrained", "none"), "--batch-size", 9)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1 and "--batch-size 9: choose a multiple of the 2 processes" in err
