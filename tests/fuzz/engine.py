"""Tries one damaged file at a time in a process of its own, and tells results from findings."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from tests.fuzz.damage import damaged

HANG = 60.0  # seconds for one input
LONGEST = 6000  # characters of output that are kept
Outcome = tuple[str, str]  # "accepted", "refused" or what is wrong; all that is known


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them.

    Attributes:
        build: makes whole files in a folder.
        files: (glob below the folder, form) of what is damaged.
        read: reads a damaged file in the folder of its kind, which is the working directory. Raises a `ProjectError` to
            refuse it, and `AssertionError` if a result is wrong.
    """

    name: str
    build: Callable[[Path], None]
    files: Sequence[tuple[str, str]]
    read: Callable[[Path, random.Random], None]


@dataclass
class Tally:
    """What came of the inputs, and the first input of each finding."""

    seed: int
    keep: Path
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: set[tuple[str, str]] = field(default_factory=set)

    def add(self, name: str, index: int, outcome: Outcome, file: Path | None = None) -> None:
        """Counts an outcome; a new finding is printed, and kept with its input and the command that repeats it."""
        what, detail = outcome
        wrong = what not in ("accepted", "refused")
        self.counts[name, "findings" if wrong else what] += 1
        if not wrong or (name, what) in self.findings:
            return
        self.findings.add((name, what))
        print(f"{name} {index}: {what}", flush=True)
        folder = self.keep / f"{len(self.findings):03d}-{name}"
        folder.mkdir(parents=True)
        again = f"python -m tests.fuzz --seed {self.seed} --only {name} --index {index}"
        (folder / "about.txt").write_text(f"{what}\n{again}\n\n{detail}\n", encoding="utf-8", errors="replace")
        if file is not None:
            (folder / file.name).write_bytes(file.read_bytes())

    def table(self) -> str:
        """A line for each kind."""
        names = dict.fromkeys(name for name, _ in self.counts)
        columns = ("accepted", "refused", "findings")
        return "\n".join(
            f"{name:16}" + ", ".join(f"{self.counts[name, column]} {column}" for column in columns) for name in names
        )


def call(main: Callable[[], int], words: Sequence[object]) -> int:
    """Calls a script's `main` as its last lines do; the exit status."""
    sys.argv = ["script.py", *map(str, words)]
    try:
        return run_script(main)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def started(work: Callable[[], Any], folder: Path, log: Path) -> tuple[int, int]:
    """Starts `work` in a process group of its own: its id, and a pipe that receives what came of it as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(folder)
    faulthandler.disable()
    try:
        outcome: tuple[str, Any] = ("returned", work())
    except ProjectError as error:
        fine = str(error).strip() and all(line.isprintable() for line in str(error).split("\n"))
        outcome = ("refused" if fine else "message", repr(str(error)))
    except BaseException as error:
        where = [frame.name for frame in traceback.extract_tb(error.__traceback__) if "/Code/" in frame.filename]
        outcome = (f"{type(error).__name__} in {(where or ['?'])[-1]}", traceback.format_exc())
    os.write(writing, json.dumps(outcome).encode()[:60_000])
    os._exit(0)


def finished(child: int, pipe: int, seconds: float) -> tuple[str, Any] | None:
    """What came of a process; None if it still runs after some seconds."""
    if not select.select([pipe], [], [], seconds)[0]:
        return None
    with os.fdopen(pipe, "rb") as file:
        content = file.read()
    status = os.waitpid(child, 0)[1]
    return tuple(json.loads(content)) if content else (f"crash, signal {os.WTERMSIG(status)}", "")


def killed(child: int, pipe: int) -> None:
    """Kills a process with all that it started."""
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pipe)


def try_one(kind: Kind, scratch: Path, tally: Tally, index: int) -> None:
    """Damages a file, reads it and notes what came of it."""
    whole, log = scratch / kind.name, scratch / "log.txt"
    if not whole.exists():
        whole.mkdir(parents=True)
        made = finished(*started(lambda: kind.build(whole), whole, log), 300)
        assert made == ("returned", None), f"{kind.name}: {made}"
    rng = random.Random(f"{tally.seed}/{kind.name}/{index}")
    pattern, form = rng.choice(list(kind.files))
    path = rng.choice(sorted(whole.glob(pattern)))
    content = path.read_bytes()
    path.write_bytes(damaged(content, form, rng))
    try:
        child, pipe = started(lambda: kind.read(path, rng), whole, log)
        outcome = finished(child, pipe, HANG)
        if outcome is None:
            killed(child, pipe)
            outcome = (f"hang, more than {HANG:g} s", "")
        what, detail = outcome
        said = log.read_text(errors="replace")[-LONGEST:]
        if "Traceback" in said:
            what = "a traceback was printed"
        tally.add(kind.name, index, ("accepted" if what == "returned" else what, f"{detail}\n{said}"), path)
    finally:
        path.write_bytes(content)


def fuzz(tries: dict[str, Callable[[int], None]], minutes: float, first: int = 0) -> None:
    """Tries each in turn with the indices from `first` on, as often as its time allows: all get the same time."""
    spent = dict.fromkeys(tries, 0.0)
    index = dict.fromkeys(tries, first)
    end = time.monotonic() + 60 * minutes
    while (begun := time.monotonic()) < end:
        name = min(spent, key=lambda name: spent[name])
        tries[name](index[name])
        spent[name] += time.monotonic() - begun
        index[name] += 1
