"""The fuzzer finds each kind of fault in a reader that has them all, and nothing in the project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from Code.common.errors import UsageError
from tests.fuzz import engine
from tests.fuzz.engine import Kind, Tally, try_one
from tests.fuzz.inputs import KINDS


def refuse(message: str) -> None:
    raise UsageError(message)


FAULTS: dict[str, Callable[[], object]] = {
    "accepted": lambda: None,
    "refused": lambda: refuse("clips.csv: is empty; write a list"),
    "message": lambda: refuse("a character that moves the cursor: \x1b[2J"),
    "ZeroDivisionError in ?": lambda: 1 / 0,
    "crash, signal 6": lambda: os.kill(os.getpid(), signal.SIGABRT),
    "hang, more than 1 s": lambda: time.sleep(30),
}


def write_list(folder: Path) -> None:
    (folder / "clips.csv").write_text("path,label\nHappy/1,Happy\nSad/1,Sad\n")


@pytest.mark.parametrize("outcome", FAULTS)
def test_every_fault_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, outcome: str) -> None:
    monkeypatch.setattr(engine, "HANG", 1.0)
    kind = Kind("faulty", write_list, "*", lambda path, rng: FAULTS[outcome]())
    tally = Tally(3)
    for index in (5, 6):
        try_one(kind, tmp_path, tally, index)
    write_list(tmp_path)
    assert (tmp_path / "faulty/clips.csv").read_bytes() == (tmp_path / "clips.csv").read_bytes()
    assert tally == {("faulty", outcome): 2}
    fine = outcome in ("accepted", "refused")
    assert tally.findings == [] if fine else list(tally)
    assert ("python -m tests.fuzz --seed 3 --only faulty --index 5" in capsys.readouterr().out) != fine


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.name)
def test_thirty_damaged_files_give_a_result_or_a_refusal(tmp_path: Path, kind: Kind) -> None:
    tally = Tally(0)
    for index in range(30):
        try_one(kind, tmp_path, tally, index)
    assert not tally.findings
    assert tally[kind.name, "refused"] > 5 and tally[kind.name, "accepted"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_minutes_of_inputs_and_kills_find_nothing() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--minutes", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
