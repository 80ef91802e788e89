"""Stopping a training by a signal or by kill -9, and going on as if nothing had happened."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.errors import Interrupted
from Code.data import cache
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, to_published
from Code.training import stopping
from Code.training.epoch_state import EpochState, capture_random, restore_random
from Code.training.records import read_log
from Code.training.run_folder import Run
from Code.training.stopping import deferred, listening
from tests.runs import ended_alike, flags_of, forked, log_of, only_run, told_command, without_pictures

# Two epochs of three steps; the evaluation is one batch.
STEPS = ("step 1", "step 2", "step 3", "evaluation 1", "step 4", "step 5", "step 6", "evaluation 2")
STATUS = {signal.SIGUSR1: 0, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "backbone.pth.tar"
    save_atomically({"state_dict": to_published(FAN(2, 8)), "image_size": 32}, path)
    return path


@pytest.fixture(scope="module")
def kinds(sample, backbone) -> dict[str, tuple[object, ...]]:
    """Flags of a plain training and of one on a fixed backbone."""
    plain = flags_of(sample, "--epochs", 2, "--pretrained", "none")
    fixed = flags_of(sample, "--epochs", 2, "--pretrained", backbone, "--freeze-backbone")
    return {"plain": plain, "fixed": fixed}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, call, kinds) -> Callable[[str], Path]:
    """The uninterrupted run of a kind."""

    @functools.cache
    def run(kind: str) -> Path:
        cwd = tmp_path_factory.mktemp(kind)
        outcome = call(script, *kinds[kind], "--workers", 0, cwd=cwd)
        assert outcome.status == 0, outcome.err
        return only_run(cwd)

    return run


def at_check(monkeypatch, number: int, do) -> None:
    """Does something the n-th time (from 1) that the training asks whether it has to stop."""
    check, count = stopping.Saver.check, [0]

    def counted(self) -> None:
        count[0] += 1
        if count[0] == number:
            do()
        check(self)

    monkeypatch.setattr(stopping.Saver, "check", counted)


@pytest.mark.parametrize(
    ("kind", "number", "at", "workers"),
    [
        ("plain", signal.SIGTERM, "step 2", 0),
        pytest.param("plain", signal.SIGUSR1, "evaluation 1", 0, marks=pytest.mark.slow),
        pytest.param("plain", signal.SIGINT, "step 5", 2, marks=pytest.mark.slow),
        pytest.param("fixed", signal.SIGTERM, "step 4", 0, marks=pytest.mark.slow),
    ],
)
def test_stopped_run_goes_on_as_if_nothing_had_happened(
    call, kinds, whole, tmp_path, monkeypatch, kind, number, at, workers
):
    position = STEPS.index(at) + 1
    at_check(monkeypatch, position, lambda: os.kill(os.getpid(), number))
    outcome = call(script, *kinds[kind], "--workers", workers, "--checkpoint-every", 0, cwd=tmp_path)
    monkeypatch.undo()
    assert outcome.status == STATUS[number], outcome.err
    assert "Traceback" not in outcome.err and f"stopped by {number.name}; to resume: python" in outcome.err
    folder = only_run(tmp_path)
    assert log_of(folder) == log_of(whole(kind))[: (position - 1) // 4]
    assert load_fan(folder / "last.pth")[0].at_type == 1  # a checkpoint like any other

    command = told_command(outcome.err)
    assert command[:2] == ["--resume", str(folder.relative_to(tmp_path))]
    assert ("--workers" in command) and command[command.index("--device") + 1] == "cpu"
    outcome = call(script, *command, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert only_run(tmp_path) == folder and ended_alike(folder, whole(kind))


def test_second_signal_ends_the_process_at_once(call, kinds, tmp_path, monkeypatch):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    at_check(monkeypatch, 2, twice)
    child = forked(lambda: call(script, *kinds["plain"], "--workers", 0, cwd=tmp_path).status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert not (only_run(tmp_path) / "last.pth").exists()  # it had saved nothing yet, and tried nothing


@pytest.mark.parametrize(
    ("minutes", "at"),
    [
        (1e-9, "step 5"),
        pytest.param(0, "evaluation 2", marks=pytest.mark.slow),
        pytest.param(0, "step 2", marks=pytest.mark.slow),
    ],
)
def test_killed_run_goes_on_from_the_last_checkpoint(call, kinds, whole, tmp_path, monkeypatch, minutes, at):
    at_check(monkeypatch, STEPS.index(at) + 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
    flags = (*kinds["plain"], "--workers", 0, "--checkpoint-every", minutes)
    _, status = os.waitpid(forked(lambda: call(script, *flags, cwd=tmp_path).status), 0)
    monkeypatch.undo()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    folder = only_run(tmp_path)
    if minutes:
        position = read_checkpoint(folder / "last.pth")["training"]["position"]
        assert position["epoch"] == 2 and position["processes"][0]["step"] == 1
    elif at == "step 2":
        assert not (folder / "last.pth").exists()
    (folder / ".last.pth.1.tmp").write_bytes(b"half")  # as a kill inside a save leaves it
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lr": 0.01}\n{"epoch": 3, "l')  # a line more than the checkpoint knows, and half a one
    outcome = call(script, "--resume", folder, "--device", "cpu", "--workers", 0, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, whole("plain")) and not list(folder.glob(".*"))


@pytest.mark.slow
def test_folds_go_on_inside_an_epoch(call, sample, tmp_path, monkeypatch):
    flags = (*flags_of(sample, "--epochs", 1, "--pretrained", "none"), "--workers", 0, "--fold", "all", "--folds", 2)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert call(script, *flags, cwd=tmp_path / "whole").status == 0
    at_check(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGUSR1))  # in the second fold: two steps a fold
    outcome = call(script, *flags, cwd=tmp_path / "parts")
    monkeypatch.undo()
    folder = only_run(tmp_path / "parts")
    assert outcome.status == 0 and (folder / "fold-01" / "finished.json").is_file()
    assert read_checkpoint(folder / "fold-02" / "last.pth")["epoch"] == 0
    command = told_command(outcome.err)
    assert command[:2] == ["--resume", f"model/{folder.name}"]  # of all folds
    outcome = call(script, *command, cwd=tmp_path / "parts")
    assert outcome.status == 0, outcome.err
    other = only_run(tmp_path / "whole")
    assert ended_alike(folder / "fold-02", other / "fold-02") and ended_alike(folder / "fold-01", other / "fold-01")
    assert (folder / "summary.json").read_bytes() == (other / "summary.json").read_bytes()


def test_stop_before_the_training_leaves_nothing_half(call, kinds, tmp_path, monkeypatch):
    decode = cache._DecodedRows.__getitem__

    def stopped(self, ids):
        if ids[0] == 0:  # once: the second signal would end this very process
            os.kill(owner, signal.SIGTERM)
        return decode(self, ids)

    owner = os.getpid()
    monkeypatch.setattr(cache._DecodedRows, "__getitem__", stopped)
    outcome = call(script, *kinds["plain"], "--workers", 0, "--cache", "disk", cwd=tmp_path)
    assert outcome.status == 143 and "stopped by SIGTERM; nothing was saved yet" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "model").exists() or not list((tmp_path / "model").iterdir())
    assert not [path for path in (tmp_path / "Data" / "Cache").iterdir() if path.suffix != ".lock"]


def test_signal_interrupts_at_once_outside_a_training_and_is_kept_for_it_inside():
    before = signal.getsignal(signal.SIGINT)  # which a shell may have made this process ignore
    with listening():
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.status == 143
    with listening(), deferred():
        assert stopping.requested() is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stopping.requested() == signal.SIGUSR1
    assert stopping.requested() is None
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_finished_run_resumed_writes_its_results_again(call, whole, tmp_path):
    folder = tmp_path / "model" / whole("plain").name
    shutil.copytree(whole("plain"), folder)
    (folder / "results.json").unlink()  # killed between the last checkpoint and the results
    outcome = call(script, "--resume", folder, "--device", "cpu", "--workers", 0, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, whole("plain"))


def test_log_begins_with_the_lines_of_the_checkpoint_that_is_gone_on_from(tmp_path):
    run = Run(tmp_path / "run")
    lines = [{"epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]
    for line in lines:
        run.log(line)
    run.begin_log(lines[:2])
    path = run.folder / "log.jsonl"
    assert read_log(path) == lines[:2]
    with path.open("a") as file:
        file.write('{"epoch": 3, "trai')  # killed while it wrote
    assert read_log(path) == lines[:2]
    run.begin_log(lines[:1])
    run.log(lines[1])
    assert read_log(path) == lines[:2]
    run.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_goes_on_to_the_same_bits_with_deterministic_algorithms(sample, tmp_path, precision):
    """In processes of their own: the setting is a process's."""
    flags = flags_of(sample, "--epochs", 2, "--pretrained", "none", "--deterministic")
    flags = (*flags, "--device", "cuda", "--precision", precision, "--checkpoint-every", 1e-9)

    def ran(cwd: Path, *more: object) -> subprocess.Popen[str]:
        cwd.mkdir(exist_ok=True)
        command = [sys.executable, str(Path(script.__file__).resolve()), *map(str, more)]
        return subprocess.Popen(command, cwd=cwd, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    whole = ran(tmp_path / "whole", *flags)
    assert whole.wait() == 0, whole.communicate()
    process = ran(tmp_path / "parts", *flags)
    while not list(tmp_path.glob("parts/model/*/last.pth")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    folder = only_run(tmp_path / "parts")
    again = ran(tmp_path / "parts", "--resume", folder, "--device", "cuda")
    assert again.wait() == 0, again.communicate()
    assert ended_alike(folder, only_run(tmp_path / "whole"))


def test_random_states_survive_a_checkpoint(tmp_path):
    def drawn(generator: torch.Generator) -> list:
        numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]
        return [*numbers, float(torch.rand(())), float(torch.rand((), generator=generator))]

    generator, cpu = torch.Generator().manual_seed(3), torch.device("cpu")
    drawn(generator)
    save_atomically({"random": capture_random(generator, cpu)}, tmp_path / "state.pth")
    expected = drawn(generator)
    assert drawn(generator) != expected
    restore_random(read_checkpoint(tmp_path / "state.pth")["random"], generator, cpu)
    assert drawn(generator) == expected


def test_epoch_left_by_other_processes_keeps_its_sums():
    state = {"step": 4, "sums": torch.tensor([3.0, 2.0]), "samples": 8, "frames": 24, "lr": 0.1, "seconds": 2.0}
    position = {"epoch": 2, "steps": 9, "processes": [{**state, "random": None}] * 3}
    progress = EpochState.resumed(position)
    assert (progress.step, progress.steps, progress.samples, progress.frames) == (4, 9, 24, 72)
    assert progress.sums.tolist() == [9, 6] and progress.seconds == 2
    numbers = []
    for _ in range(2):
        progress.begin(0, torch.device("cpu"), 9)
        numbers.append((float(torch.rand(())), float(torch.rand((), generator=progress.generator))))
    assert numbers[0] == numbers[1] and numbers[0][0] != float(torch.rand(()))
    fresh = EpochState(2)
    fresh.begin(0, torch.device("cpu"), 9)
    assert float(torch.rand((), generator=fresh.generator)) != numbers[0][1]


def test_a_step_that_never_ends_is_ended_after_a_while() -> None:
    code = """
import os, signal, time
from Code.training import stopping
stopping.LAST_STEP_SECONDS = 0.3
with stopping.listening(), stopping.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(script.__file__).parent, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 143
    assert b"SIGTERM: finishing the step" in done.stderr
    assert b"the step did not finish within" in done.stderr
