"""Damages one file at a time, reads it in a process of its own, and tells results from findings."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from Code.common.errors import ProjectError
from tests.conftest import call_script

HANG = 60.0  # seconds for one input
LONGEST = 6000  # characters of output that are kept
FORK: Any = multiprocessing.get_context("fork")
ODD = ("", " ", "nan", "-1", "1e999", "0", '"', "a,b", "\t", "é", "\x00", "..", "/", "x" * 5000, "\ufeff", "\udcff")
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037")


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them.

    Attributes:
        build: makes whole files in a folder, of which those of `pattern` are damaged.
        read: reads one of them; the folder is the working directory. It returns an exit status, raises a `ProjectError`
            to refuse the file, and `AssertionError` if a result is wrong.
    """

    name: str
    build: Callable[[Path], None]
    pattern: str
    read: Callable[[Path, random.Random], int | None]


class Tally(Counter[tuple[str, str]]):
    """How often each (name, outcome) came of the inputs of a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    @property
    def findings(self) -> list[tuple[str, str]]:
        """Those that are neither a result nor a refusal."""
        return [key for key in self if key[1] not in ("accepted", "refused")]

    def add(self, name: str, index: int, what: str, output: str) -> None:
        """Counts an outcome. A new finding is printed, with the command that repeats it."""
        self[name, what] += 1
        if self[name, what] == 1 and what not in ("accepted", "refused"):
            again = f"python -m tests.fuzz --seed {self.seed} --only {name} --index {index}"
            print(f"{what}\n{again}\n{output[-LONGEST:]}", flush=True)


def call(script: ModuleType, words: Sequence[object]) -> int:
    """Calls a script; prints what it printed, and returns its exit status."""
    outcome = call_script(script, *words, cwd=Path())
    print(outcome.out, outcome.err)
    return outcome.status


def attempt(work: Callable[[], Any], folder: Path, log: Path, seconds: float) -> str:
    """Runs `work` in a process group of its own: "accepted", "refused", "killed" after some seconds, or a finding."""
    outcome = log.with_suffix(".outcome")
    outcome.unlink(missing_ok=True)
    process = FORK.Process(target=_child, args=(work, folder, log, outcome))
    process.start()
    with suppress(OSError):  # the child does it, too
        os.setpgid(process.pid, process.pid)
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "killed"
    return outcome.read_text() if outcome.is_file() else f"crash, signal {-process.exitcode}"


def _child(work: Callable[[], Any], folder: Path, log: Path, outcome: Path) -> None:
    os.setpgid(0, 0)
    sys.stdout = sys.stderr = open(log, "w", buffering=1, errors="replace")  # noqa: SIM115
    for stream in (1, 2):
        os.dup2(sys.stdout.fileno(), stream)
    faulthandler.disable()
    os.chdir(folder)
    what = "accepted"
    try:
        if status := work():
            what = f"exit status {status}"
    except ProjectError as error:
        print(error)
        fine = str(error).strip() and all(line.isprintable() for line in str(error).split("\n"))
        what = "refused" if fine else "message"
    except BaseException as error:
        where = [frame.name for frame in traceback.extract_tb(error.__traceback__) if "/Code/" in frame.filename]
        what = f"{type(error).__name__} in {(where or ['?'])[-1]}"
        print("".join(traceback.format_exception(error)).replace("Traceback", "Raised"))
    outcome.write_text(what)


def try_one(kind: Kind, scratch: Path, tally: Tally, index: int) -> None:
    """Damages a file, reads it and notes what came of it."""
    whole, log = scratch / kind.name, scratch / "log.txt"
    if not whole.exists():
        whole.mkdir(parents=True)
        assert attempt(lambda: kind.build(whole), whole, log, 300) == "accepted", log.read_text()
    rng = random.Random(f"{tally.seed}/{kind.name}/{index}")
    path = rng.choice(sorted(whole.glob(kind.pattern)))
    content = path.read_bytes()
    path.write_bytes(damaged(content, rng, text=path.suffix in (".txt", ".csv")))
    what = attempt(lambda: kind.read(path, rng), whole, log, HANG)
    path.write_bytes(content)
    output = log.read_text(errors="replace")
    if what in ("accepted", "refused") and "Traceback" in output:
        what = "a traceback was printed"
    tally.add(kind.name, index, f"hang, more than {HANG:g} s" if what == "killed" else what, output)


# Faults


def damaged(whole: bytes, rng: random.Random, *, text: bool) -> bytes:
    """One to four faults: those of disks and networks, and in text also those of people."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        whole = (_lines if text and rng.random() < 0.65 else _bytes)(whole, rng)
    return whole


def _bytes(whole: bytes, rng: random.Random) -> bytes:
    """A piece that is lost, overwritten or doubled, a wrong bit, or the end that is lost."""
    at = rng.randrange(len(whole) + 1)
    if rng.random() < 0.4:  # headers are short, and worth much of the attention
        at = min(at, rng.randrange(300))
    end = at + rng.choice([1, 2, 4, 16, 300, 5000])
    piece = whole[at:end]
    bit = bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:] if piece else b""
    other = rng.choice([b"", rng.randbytes(len(piece)), bytes(len(piece)), b"\xff" * len(piece), 2 * piece, bit])
    return whole[:at] + other + (whole[end:] if rng.random() < 0.85 else b"")


def _lines(whole: bytes, rng: random.Random) -> bytes:
    """A line that is lost, doubled, huge or wrong in one cell; other separators, line ends and encodings."""
    lines = whole.decode("utf-8", "surrogateescape").splitlines() or [""]
    at = rng.randrange(len(lines))
    line, cells = lines[at], lines[at].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(ODD)
    other = line.replace(rng.choice(" ,\t/."), rng.choice([" ", ",", ";", "\t", "\\", ""]))
    choices = ([], [line, line], [rng.choice(ODD), line], [line * 3000], [",".join(cells)], [other])
    lines[at : at + 1] = rng.choice(choices)
    text = rng.choice([*["\n"] * 8, "\r\n", "\r", "\x0b", "\x85"]).join([*lines, ""])
    if rng.random() < 0.15:
        return text.encode(rng.choice(ENCODINGS), "replace")
    return text.encode("utf-8", "surrogateescape")
