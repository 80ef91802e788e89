"""Two processes under torchrun: stopped together, one killed, restarted by torchrun itself."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import Demo_AFEW_Attention as script
from Code.network.checkpoints import read_checkpoint
from tests.runs import ended_alike, flags_of, log_of, only_run

SCRIPT = Path(script.__file__).resolve()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def launched(cwd: Path, flags: tuple[object, ...], *torchrun: object, script: Path = SCRIPT) -> subprocess.Popen[str]:
    """The script in two processes, in a working directory of its own."""
    cwd.mkdir(exist_ok=True)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, *torchrun, script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*map(str, start), *map(str, flags)],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


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


def wait_for(cwd: Path, *, epoch: int, process: subprocess.Popen[str]) -> None:
    """Waits for a checkpoint inside an epoch: a second one after the line of the epoch before."""
    seen: set[int] = set()
    end = time.monotonic() + 400
    while time.monotonic() < end and process.poll() is None:
        for folder in cwd.glob("model/*"):
            log, last = folder / "log.jsonl", folder / "last.pth"
            if last.exists() and len(log.read_text().splitlines()) == epoch - 1:
                seen.add(last.stat().st_mtime_ns)
            if len(seen) == 3:  # one of the epoch before may be among them, and one of its end
                return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no checkpoint inside epoch {epoch}: {process.communicate()}")


@pytest.fixture(scope="module")
def flags(sample) -> tuple[object, ...]:
    every_step = ("--checkpoint-every", 1e-9)
    return (*flags_of(sample, "--epochs", 3, "--pretrained", "none"), "--workers", 0, "--cache", "none", *every_step)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flags) -> Path:
    """An uninterrupted run of two processes."""
    cwd = tmp_path_factory.mktemp("whole")
    out, err = (process := launched(cwd, flags)).communicate(timeout=280)
    assert process.returncode == 0, (out, err)
    return only_run(cwd)


@pytest.mark.parametrize("killed", [0, 1])
def test_killed_process_ends_the_job_in_seconds_with_the_cause_named(flags, whole, tmp_path, killed):
    process = launched(tmp_path, flags)
    wait_for(tmp_path, epoch=2, process=process)
    os.kill(dict(processes_of(process.pid))[killed], signal.SIGKILL)
    begun = time.monotonic()
    _, err = process.communicate(timeout=100)
    seconds = time.monotonic() - begun
    assert process.returncode == 1 and seconds < 20, seconds
    assert "Signal 9 (SIGKILL)" in err and f"rank      : {killed} " in err  # torchrun's report
    own = [line for line in err.splitlines() if "error: a process that this one worked with is gone" in line]
    assert len(own) <= 1  # none if torchrun ended the other one before it noticed
    print(f"ended after {seconds:.1f} s; {own}")
    folder = only_run(tmp_path)
    again = launched(tmp_path, ("--resume", folder, "--device", "cpu", "--workers", 0, "--cache", "none"))
    out, err = again.communicate(timeout=280)
    assert again.returncode == 0, (out, err)
    assert ended_alike(folder, whole)


def test_torchrun_restarts_a_killed_job_and_it_goes_on_by_itself(flags, whole, tmp_path):
    process = launched(tmp_path, flags, "--max-restarts", 1)
    wait_for(tmp_path, epoch=2, process=process)
    os.kill(dict(processes_of(process.pid))[1], signal.SIGKILL)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    folder = only_run(tmp_path)  # the one it had begun
    assert f"resuming model/{folder.name}" in out
    assert ended_alike(folder, whole)


@pytest.mark.parametrize(("number", "to"), [(signal.SIGTERM, "torchrun"), (signal.SIGUSR1, 1)])
def test_all_processes_stop_at_the_same_step(flags, whole, tmp_path, number, to):
    process = launched(tmp_path, flags)
    wait_for(tmp_path, epoch=2, process=process)
    os.kill(process.pid if to == "torchrun" else dict(processes_of(process.pid))[to], number)
    _, err = process.communicate(timeout=100)
    folder = only_run(tmp_path)
    if to != "torchrun":
        assert process.returncode == 0, err
    told = next(line for line in err.splitlines() if line.startswith(f"stopped by {number.name}; to resume: torchrun"))
    command = shlex.split(told.partition("to resume: torchrun ")[2])
    assert command[:2] == ["--nproc_per_node", "2"] and command[3:5] == ["--resume", f"model/{folder.name}"]
    states = read_checkpoint(folder / "last.pth")["training"]["position"]["processes"]
    assert len(states) == 2 and states[0]["step"] == states[1]["step"]
    out, err = (again := launched(tmp_path, tuple(command[3:]))).communicate(timeout=280)
    assert again.returncode == 0, (out, err)
    assert ended_alike(folder, whole)


# Starts the script. Process 1 loses its frames after the first step of the second epoch, while a file is there.
LOSING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {project!r})
import Demo_AFEW_Attention as script
from Code.common.commandline import run_script
from Code.data.clips import DataError
from Code.data.stores import FileStore
from Code.training import trainer
read, run_epoch, lost = FileStore.read, trainer.run_epoch, []

def losing(training, run, epoch, after_step, after_batch):
    def after():
        after_step()
        if epoch == 2 and os.environ["RANK"] == "1" and Path("away").exists():
            lost.append(True)
    run_epoch(training, run, epoch, after, after_batch)

def lose(self, ids):
    if lost:
        raise DataError("the frames are away")
    return read(self, ids)

FileStore.read, trainer.run_epoch = lose, losing
sys.exit(run_script(script.main, script.resume_command))
"""


def test_frames_that_one_process_loses_are_named_and_all_save(sample, flags, whole, tmp_path):
    (tmp_path / "script.py").write_text(LOSING.format(project=str(SCRIPT.parent)))
    (tmp_path / "away").touch()
    rarely = (*flags[: flags.index("--checkpoint-every")], "--checkpoint-every", 0)
    process = launched(tmp_path, rarely, script=tmp_path / "script.py")
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1 and "process 1: error: the frames are away" in err, err
    folder = only_run(tmp_path)
    states = read_checkpoint(folder / "last.pth")["training"]["position"]["processes"]
    assert [state["step"] for state in states] == [1, 1]
    again = launched(tmp_path, ("--resume", folder, "--device", "cpu", "--workers", 0, "--cache", "none"))
    out, err = again.communicate(timeout=280)
    assert again.returncode == 0, (out, err)
    assert ended_alike(folder, whole)


def test_left_by_two_processes_and_gone_on_with_by_one(call, flags, tmp_path):
    process = launched(tmp_path, flags)
    wait_for(tmp_path, epoch=2, process=process)
    for _, number in processes_of(process.pid):
        os.kill(number, signal.SIGUSR1)
    process.communicate(timeout=100)
    folder = only_run(tmp_path)
    outcome = call(script, "--resume", folder, "--device", "cpu", "--workers", 0, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert [line["epoch"] for line in log_of(folder)] == [1, 2, 3]
    assert json.loads((folder / "results.json").read_text())["last"]["epoch"] == 3
