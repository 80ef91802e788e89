"""A disk that refuses: told before the first epoch where it can be known, and nothing lost where it cannot."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

import Demo_AFEW_Attention as script
from Code.common.errors import WriteError
from Code.network.checkpoints import read_checkpoint
from Code.training import run_folder, trainer
from Code.training.run_folder import check_space, checkpoint_bytes
from tests.runs import ended_alike, flags_of, forked, log_of, only_run, told_command, without_pictures

MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses what would make a file larger than this, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def tiny(sample: Path) -> tuple[object, ...]:
    return (*flags_of(sample, "--epochs", 2, "--pretrained", "none"), "--workers", 0, "--cache", "none")


def test_room_is_asked_for_and_given_back(tmp_path):
    check_space(tmp_path / "model", 5 * MIB)
    assert list((tmp_path / "model").iterdir()) == []
    with files_limited_to(2 * MIB), pytest.raises(WriteError, match="no space for 4 checkpoints of 5 MiB"):
        check_space(tmp_path / "model", 5 * MIB)
    assert list((tmp_path / "model").iterdir()) == []
    for name in run_folder.CHECKPOINTS:  # a run that is resumed has these already
        (tmp_path / "model" / name).touch()
    with files_limited_to(2 * MIB), pytest.raises(WriteError, match="no space for 1 checkpoint"):
        check_space(tmp_path / "model", 5 * MIB)
    assert checkpoint_bytes(nn.Linear(1000, 1000)) == pytest.approx(2 * 4 * 1001000 + MIB)


def test_more_than_the_disk_has_is_refused_in_one_line(tmp_path):
    with pytest.raises(WriteError) as caught:
        check_space(tmp_path / "model", 2**60)
    assert "are free, but a run needs about" in str(caught.value) and "\n" not in str(caught.value)


def test_folder_that_cannot_be_written_to_is_told_before_the_first_epoch(call, sample, tmp_path):
    output = tmp_path / "locked"
    output.mkdir()
    output.chmod(0o555)
    heard = tmp_path / "heard"
    heard.touch()
    heard.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents):
        if folder == tmp_path or folder.name.startswith(("pytest-", "popen-")):  # of the runner, and of its process
            folder.chmod(0o755)

    def as_somebody() -> None:
        if os.getuid() == 0:  # to whom nothing is read-only
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(WriteError) as caught:
            check_space(output, MIB)
        heard.write_text(str(caught.value))

    assert os.waitpid(forked(as_somebody), 0)[1] == 0
    assert "cannot be written to (Permission denied)" in heard.read_text()

    (tmp_path / "file").touch()
    outcome = call(script, *tiny(sample), "--output", tmp_path / "file" / "model", cwd=tmp_path)
    assert outcome.status == 2 and "cannot be made (Not a directory)" in outcome.err and "epoch 1" not in outcome.out


def test_disk_that_fills_up_in_a_save_costs_nothing_that_was_saved(call, sample, tmp_path, monkeypatch):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert call(script, *tiny(sample), cwd=tmp_path / "whole").status == 0

    save, calls = trainer.Run.save, []

    def refused(self, name, payload) -> None:
        calls.append(name)
        if calls.count("last.pth") == 2 and name == "last.pth":
            with files_limited_to(30 * MIB):  # in the middle of 90 MiB
                return save(self, name, payload)
        return save(self, name, payload)

    monkeypatch.setattr(trainer.Run, "save", refused)
    outcome = call(script, *tiny(sample), "--checkpoint-every", 0, cwd=tmp_path / "parts")
    monkeypatch.undo()
    assert outcome.status == 2 and "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert (
        "last.pth: cannot be written (File too large); the one before it is whole; free some space" in line
        and "; to resume: python" in line
    )
    folder = only_run(tmp_path / "parts")
    assert read_checkpoint(folder / "last.pth")["epoch"] == 1 and not list(folder.glob(".*"))
    assert len(log_of(folder)) == 2  # a line more than the checkpoint knows
    outcome = call(script, *told_command(outcome.err), cwd=tmp_path / "parts")
    assert outcome.status == 0, outcome.err
    assert ended_alike(folder, only_run(tmp_path / "whole"))
