"""Stopping a training by a signal, kill -9 or a full disk, and going on as if nothing had happened."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
import Pretrain_FERPlus as pretraining
from Code.network.checkpoints import read_checkpoint, save_atomically
from Code.training import run, stopping, train
from Code.training.stopping import resumable, stop_if_asked
from tests.runs import (
    at_call,
    at_step,
    ended_alike,
    flags_of,
    forked,
    interrupt,
    log_of,
    only_run,
    told_command,
    without_pictures,
)

SCRIPT = Path(script.__file__).resolve()
STATUS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


@pytest.fixture(scope="module")
def flags(sample) -> tuple[object, ...]:
    """Two epochs of three steps."""
    return (*flags_of(sample, "--epochs", 2, "--pretrained", "none"), "--workers", 0)


@pytest.fixture
def whole(trained) -> Path:
    """The uninterrupted run."""
    return trained.folder


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, 5),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 3, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_after_the_step_and_names_the_command_that_resumes(call, flags, whole, tmp_path, number, step):
    with at_step(step, send(number)), at_step(step + 1, interrupt):  # there is no further step
        outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == STATUS[number], outcome.err
    folder = only_run(tmp_path)
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("stopped by")]
    start = f"stopped by {number.name}; the epoch under way will be repeated; to resume: python "
    assert line.startswith(start) and line.endswith(f"--resume {folder.relative_to(tmp_path)}")
    assert "Traceback" not in outcome.err
    assert log_of(folder) == log_of(whole)[: (step - 1) // 3]
    outcome = call(script, *told_command(outcome.err), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, whole)


def test_a_second_signal_ends_the_process_at_once(call, flags, tmp_path):
    def twice() -> None:
        send(signal.SIGTERM)()
        send(signal.SIGTERM)()

    def work() -> int:
        with at_step(2, twice):
            return call(script, *flags, cwd=tmp_path).status

    _, status = os.waitpid(forked(work), 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert not (only_run(tmp_path) / "last.pth").exists()


def test_signals_are_as_before_after_a_training_and_nohup_is_respected():
    before = {number: signal.getsignal(number) for number in STATUS}
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with resumable(Path()):
            send(signal.SIGHUP)()
            stop_if_asked()
    finally:
        signal.signal(signal.SIGHUP, ignored)
    with pytest.raises(stopping.Interrupted), resumable(Path()):
        send(signal.SIGTERM)()
        stop_if_asked()
    assert {number: signal.getsignal(number) for number in STATUS} == before


def test_one_command_begins_a_run_and_resumes_it(call, flags, whole, tmp_path):
    command = (*flags, "--resume", "model/mine")  # of a folder that is not there yet
    with at_step(2, interrupt):
        assert call(script, *command, cwd=tmp_path).status == 130
    folder = only_run(tmp_path)
    assert folder.name == "mine" and not (folder / "last.pth").exists()
    (folder / ".args.json.1.tmp").write_text("left by a kill")
    with at_step(5, interrupt):  # begins again: there is no checkpoint
        outcome = call(script, *command, cwd=tmp_path)
    assert outcome.status == 130 and "stopped; what was saved is kept; the epoch under way" in outcome.err
    assert log_of(folder) == log_of(whole)[:1]
    outcome = call(script, *command, cwd=tmp_path)
    assert outcome.status == 0 and "resuming model/mine" in outcome.out
    assert ended_alike(folder, whole)
    outcome = call(script, "--resume", "model/mine", "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 0 and "all 2 epochs are finished; its results are written again" in outcome.out
    assert ended_alike(folder, whole)


MOMENTS = [
    (run, "save_atomically", 1),  # best.pth of epoch 1
    (run, "save_atomically", 2),  # last.pth of epoch 1
    (run, "save_text", 3),  # log.jsonl after last.pth of epoch 1: args.json and the empty log are before
    (train, "evaluate_split", 2),
    (train, "conclude", 1),
    (run.Run, "write_rows", 1),
]


@pytest.mark.parametrize(
    ("place", "name", "number"),
    [moment if n == 2 else pytest.param(*moment, marks=pytest.mark.slow) for n, moment in enumerate(MOMENTS)],
)
def test_a_kill_loses_at_most_the_epoch_under_way(call, flags, whole, tmp_path, place, name, number):
    def work() -> int:
        with at_call(number, place, name, send(signal.SIGKILL)):
            return call(script, *flags, "--resume", "model/run", cwd=tmp_path).status

    _, status = os.waitpid(forked(work), 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    folder = only_run(tmp_path)
    for line in ('{"epoch": 2, "lr": 0.01}\n', '{"epoch": 3, "l'):  # more than the checkpoint knows, and half a line
        with (folder / "log.jsonl").open("a") as file:
            file.write(line)
    outcome = call(script, *flags, "--resume", "model/run", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, whole)


def test_a_folder_that_is_written_to_is_refused(call, flags, whole, tmp_path):
    command = [sys.executable, str(SCRIPT), *map(str, flags), "--resume", "model/run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("model/*/log.jsonl")):
        time.sleep(0.05)
    second = call(script, *flags, "--resume", "model/run", cwd=tmp_path)
    assert second.status == 2 and "another process writes there" in second.err and second.err.count("\n") == 1
    process.kill()
    process.wait()
    assert call(script, *flags, "--resume", "model/run", cwd=tmp_path).status == 0
    assert ended_alike(only_run(tmp_path), whole)


def test_a_disk_that_fills_up_costs_nothing_that_was_saved(call, flags, whole, tmp_path):
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.pth")

    with at_call(3, run, "save_atomically", full):  # after best.pth and last.pth of the first epoch
        outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 2 and "Traceback" not in outcome.err
    assert "error: last.pth: cannot be written (No space left on device); free some space; " in outcome.err
    folder = only_run(tmp_path)
    assert read_checkpoint(folder / "last.pth")["epoch"] == 1
    outcome = call(script, *told_command(outcome.err), cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, whole)


def test_output_that_cannot_be_made_is_one_line(call, flags, tmp_path):
    (tmp_path / "file").touch()
    outcome = call(script, *flags, "--output", tmp_path / "file" / "model", cwd=tmp_path)
    assert outcome.status == 2 and "cannot be made (Not a directory)" in outcome.err and "epoch 1" not in outcome.out


def test_a_training_that_fails_before_it_begins_leaves_no_folder(call, flags, tmp_path):
    outcome = call(script, *flags, "--map-labels", "x=y", cwd=tmp_path)
    assert outcome.status == 2 and "resume" not in outcome.err and not list(tmp_path.glob("model/*"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content.pop("training"), "does not fit this training"),
        (lambda content: content["training"].pop("optimizer"), "does not fit this training"),
        (lambda content: content["training"].update(optimizer=5), "does not fit this training"),
        (lambda content: content["training"]["scheduler"].update(last_epoch=7), "the training set has changed"),
        (lambda content: content["labels"].reverse(), "its classes are ['Surprise', "),
        (lambda content: content.update(state_dict={}), "no pred_fc2.weight"),
        (lambda content: content.update(precision="int8"), "precision"),
    ],
)
def test_a_checkpoint_of_another_shape_is_one_line(call, whole, tmp_path, change, says):
    folder = tmp_path / "model" / "run"
    folder.mkdir(parents=True)
    (folder / "args.json").write_bytes((whole / "args.json").read_bytes())
    content = read_checkpoint(whole / "last.pth")
    change(content)
    save_atomically(content, folder / "last.pth")
    outcome = call(script, "--resume", folder, "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 2 and says in outcome.err and f"error: {folder}/last.pth: " in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("content", ["", '{"given": 1, "args": {}}', "{}"])
@pytest.mark.parametrize("of", [script, pretraining])
def test_arguments_of_another_shape_are_one_line(call, tmp_path, of, content):
    folder = tmp_path / "model" / "run"
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(content)
    outcome = call(of, "--resume", folder, cwd=tmp_path)
    assert outcome.status == 2 and f"error: {folder}/args.json: " in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_resumed_run_cannot_be_made_another_one(call, whole, tmp_path):
    outcome = call(script, "--resume", whole, "--epochs", 9, cwd=tmp_path)
    assert outcome.status == 2 and f"--resume {whole}: the run was started with epochs 2, not 9" in outcome.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_goes_on_to_the_same_bits_with_deterministic_algorithms(sample, tmp_path, precision):
    """In processes of their own: the setting is a process's."""
    flags = flags_of(sample, "--epochs", 2, "--pretrained", "none", "--deterministic", "--resume", "model/run")
    command = [sys.executable, str(SCRIPT), *map(str, flags), "--device", "cuda", "--precision", precision]
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert subprocess.run(command, cwd=tmp_path / "whole").returncode == 0
    process = subprocess.Popen(command, cwd=tmp_path / "parts")
    while not list(tmp_path.glob("parts/model/*/last.pth")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert subprocess.run(command, cwd=tmp_path / "parts").returncode == 0
    assert ended_alike(only_run(tmp_path / "parts"), only_run(tmp_path / "whole"))
