"""The fuzzer finds each kind of fault in a reader that has them all, and nothing in the project."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from Code.common.errors import UsageError
from tests.fuzz import engine
from tests.fuzz.__main__ import DISTURBANCES, KINDS, fuzz
from tests.fuzz.engine import Case, Input, Kind, Workplace, run_inputs, run_kind
from tests.fuzz.findings import Tally, Wrong
from tests.fuzz.mutations import mutated

WHOLE = b'{"name": "clip", "shares": [0.25, 0.75]}'
FAULTS = {
    "refuse": ("refused", ""),
    "accept": ("accepted", ""),
    "raise": ("traceback", "ZeroDivisionError in no file of the project"),
    "message": ("message", "message of UsageError in no file of the project"),
    "wrong": ("wrong", "wrong, share"),
    "delete": ("touched", "touched: ../around/canary.txt"),
    "write": ("touched", "touched: new"),
    "crash": ("crash", "crash, signal 6, no file of the project"),
    "hang": ("hang", "hang, more than 1 s, no file of the project"),
}


def build(folder: Path) -> None:
    for name in FAULTS:
        (folder / f"{name}.json").write_bytes(WHOLE)


def read(case: Case) -> bool:
    """Does what the name of the damaged file says."""
    if case.path.is_file() and case.path.read_bytes() == WHOLE:
        return True
    match Path(case.target).stem:
        case "refuse":
            raise UsageError("state.json: is not JSON; remove it")
        case "raise":
            1 / 0  # noqa: B018
        case "message":
            raise UsageError("a character that moves the cursor: \x1b[2J")
        case "wrong":
            raise Wrong("share: 7")
        case "delete":
            (case.folder.parent / "around" / "canary.txt").unlink()
        case "write":
            (case.folder / "new").touch()
        case "crash":
            os.kill(os.getpid(), signal.SIGABRT)
        case "hang":
            time.sleep(30)
    return True


FAULTY = Kind("faulty", build, [("*.json", "json")], read)


def test_every_fault_is_told_apart_and_the_inputs_after_it_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "HANG", 1.0)
    place = Workplace(FAULTY, tmp_path)
    place.build()
    inputs = [(number, Input(f"{name}.json", "json", (number,), "", 0)) for number, name in enumerate(FAULTS)]
    found = {number: outcome[:2] for number, outcome, _ in run_inputs(place, inputs)}
    assert [found[number] for number in range(len(FAULTS))] == list(FAULTS.values())


def test_the_smallest_input_of_a_finding_is_kept_and_its_numbers_make_it_again(tmp_path: Path) -> None:
    kind = Kind("faulty", build, [("wrong.json", "json")], read)
    tally = Tally(3, tmp_path / "keep")
    run_kind(kind, tmp_path, tally, range(40))
    assert tally.counts["faulty"]["wrong"] > 35
    (finding,) = tally.findings.values()
    assert finding.times == tally.counts["faulty"]["wrong"] and "faulty" in tally.table()
    (folder,) = (tmp_path / "keep").iterdir()
    # The reader fails whatever the fault is, so all but one could be dropped.
    assert finding.size == (1, len((folder / "wrong.json").read_bytes()))
    again = f"python -m tests.fuzz --seed 3 --only faulty --index {finding.index}"
    assert again in (folder / "about.txt").read_text()


@pytest.mark.parametrize("form", ["json", "lines", "table", "text", "bytes"])
def test_a_seed_damages_the_same_way_each_time(form: str) -> None:
    damaged = [mutated(WHOLE, form, [seed]) for seed in range(300)]
    assert damaged == [mutated(WHOLE, form, [seed]) for seed in range(300)]
    assert len(set(damaged)) > 100 and sum(one != WHOLE for one in damaged) > 250


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_inputs_and_kills_finds_nothing(tmp_path: Path) -> None:
    tally = Tally(0, tmp_path / "keep")
    fuzz(list(KINDS.values()), DISTURBANCES, tally, tmp_path / "scratch", minutes=1, first=0)
    os.chdir(engine.PROJECT)
    assert not tally.findings, tally.table()
    assert sum(counts.total() for counts in tally.counts.values()) > 100
