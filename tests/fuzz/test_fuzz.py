"""The fuzzer finds each kind of fault in a reader that has them all, and nothing in the project."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from Code.common.errors import UsageError
from tests.fuzz import engine
from tests.fuzz.__main__ import tries
from tests.fuzz.damage import damaged
from tests.fuzz.engine import Kind, Tally, fuzz, try_one

WHOLE = b"path,label\nHappy/1,Happy\nSad/1,Sad\n"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("none", "accepted"), ("refusal", "refused"), ("message", "message"), ("raise", "ZeroDivisionError in ?"),
     ("wrong", "AssertionError in ?"), ("crash", "crash, signal 6"), ("hang", "hang, more than 1 s")],
)  # fmt: skip
def test_every_fault_is_told_apart_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, outcome: str
) -> None:
    def read(path: Path, rng: random.Random) -> None:
        match fault:
            case "refusal":
                raise UsageError("clips.csv: is empty; write a list")
            case "message":
                raise UsageError("a character that moves the cursor: \x1b[2J")
            case "raise":
                1 / 0  # noqa: B018
            case "wrong":
                raise AssertionError("share: 7")
            case "crash":
                os.kill(os.getpid(), signal.SIGABRT)
            case "hang":
                time.sleep(30)

    monkeypatch.setattr(engine, "HANG", 1.0)
    kind = Kind("faulty", lambda folder: None, [("clips.csv", "table")], read)
    (tmp_path / "scratch" / "faulty").mkdir(parents=True)
    (tmp_path / "scratch" / "faulty" / "clips.csv").write_bytes(WHOLE)
    tally = Tally(3, tmp_path / "keep")
    try_one(kind, tmp_path / "scratch", tally, 5)
    try_one(kind, tmp_path / "scratch", tally, 6)
    assert (tmp_path / "scratch" / "faulty" / "clips.csv").read_bytes() == WHOLE
    if outcome in ("accepted", "refused"):
        assert tally.counts == {("faulty", outcome): 2} and not tally.findings
        return
    assert tally.findings == {("faulty", outcome)} and "2 findings" in tally.table()
    (folder,) = (tmp_path / "keep").iterdir()
    assert "python -m tests.fuzz --seed 3 --only faulty --index 5" in (folder / "about.txt").read_text()
    assert (folder / "clips.csv").read_bytes() != WHOLE


@pytest.mark.parametrize("form", ["table", "text", "bytes"])
def test_a_seed_damages_the_same_way_each_time(form: str) -> None:
    outcomes = [[damaged(WHOLE, form, random.Random(seed)) for seed in range(300)] for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) > 100 and sum(one != WHOLE for one in outcomes[0]) > 250


@pytest.mark.parametrize("name", ["picture", "list", "checkpoint"])
def test_a_hundred_damaged_files_give_a_result_or_a_refusal(tmp_path: Path, name: str) -> None:
    tally = Tally(0, tmp_path / "keep")
    for index in range(100):
        tries(tmp_path / "scratch", tally)[name](index)
    assert not tally.findings, tally.table()
    assert tally.counts[name, "refused"] > 20 and tally.counts[name, "accepted"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_minutes_of_inputs_and_kills_find_nothing(tmp_path: Path) -> None:
    tally = Tally(0, tmp_path / "keep")
    fuzz(tries(tmp_path / "scratch", tally), minutes=2)
    assert not tally.findings, tally.table()
    assert tally.counts.total() > 60
