"""Reads damaged files in forked workers, each in a folder of its own, and tells results from findings."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from tests.fuzz.findings import BrokenKindError, Finding, Tally, Wrong
from tests.fuzz.mutations import AROUND, mutated

PROJECT = Path(__file__).resolve().parents[2]
HANG = 60.0  # seconds for one input
BATCH = 25  # inputs of one worker
MEMORY = 8 << 30  # bytes of addresses that a worker may take beyond what it starts with
# What is where the file was; "": the damaged file; "link": a link to somebody's file.
PLACES = ("", "missing", "folder", "loop", "empty", "fifo", "link")


# "accepted", "refused" or the kind of finding; what is the same for all findings of one cause; all that is known.
Outcome = tuple[str, str, str]


@dataclass(frozen=True)
class Input:
    """One damaged file. Few numbers say which, so that a fault can be dropped when it does not matter.

    Attributes:
        target: the file, relative to the folder of the kind.
        form: see `mutated`.
        seeds: of the faults.
        place: one of `PLACES`.
        way: seed of how it is read.
    """

    target: str
    form: str
    seeds: tuple[int, ...]
    place: str
    way: int

    def content(self, whole: bytes) -> bytes:
        return mutated(whole, self.form, self.seeds)


@dataclass
class Case:
    """What a reader of a kind gets: a folder of its own with one damaged file.

    Attributes:
        folder: the working directory, too.
        whole: the folder as it was before the damage.
        target: the damaged file, relative to `folder`.
        rng: chooses how it is read.
    """

    folder: Path
    whole: Path
    target: str
    rng: random.Random

    @property
    def path(self) -> Path:
        return self.folder / self.target

    def call(self, script: ModuleType, *arguments: object) -> tuple[int, str, str]:
        """Calls a script's `main` as its last lines do: (exit status, stdout, stderr).

        Raises:
            Wrong: a status that the script does not document, or a failure that does not say why.
        """
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv
        sys.argv = [f"{script.__name__}.py", *map(str, arguments)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status: Any = run_script(script.main, getattr(script, "resume_command", lambda: None))
                except SystemExit as stop:
                    status = stop.code
        finally:
            sys.argv = before
        if isinstance(status, str):  # sys.exit("why")
            status, err = 1, io.StringIO(status)
        if status not in (0, 1, 2):
            raise Wrong(f"exit status: {status!r}")
        if "Traceback" in err.getvalue():
            raise Wrong(f"a traceback was printed: {err.getvalue()[-3000:]}")
        if status and not err.getvalue().strip():
            raise Wrong(f"status {status} and no message: {out.getvalue()[-500:]!r}")
        return status, out.getvalue(), err.getvalue()


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them.

    Attributes:
        build: makes whole files in a folder, in a process of its own.
        files: (file relative to the folder, form) that are damaged; globs are allowed.
        read: reads a case; returns whether it was accepted. Raises `Wrong` if a result is wrong.
        writes: globs of what the reader may write, relative to the folder.
        share: of all inputs, relative to the other kinds.
    """

    name: str
    build: Callable[[Path], None]
    files: Sequence[tuple[str, str]]
    read: Callable[[Case], bool]
    writes: Sequence[str] = ()
    share: float = 1.0

    def draw(self, folder: Path, seed: int, index: int) -> Input:
        """The input of this kind with a number."""
        rng = random.Random(f"{seed}/{self.name}/{index}")
        pattern, form = rng.choice(list(self.files))  # each pattern as often, however many files it has
        target = rng.choice(matches(folder, pattern))
        seeds = tuple(rng.getrandbits(32) for _ in range(rng.choice([1, 1, 1, 2, 3, 4])))
        place = rng.choice(PLACES[1:]) if rng.random() < 0.04 else ""
        return Input(target, form, seeds, place, rng.getrandbits(32))


def matches(folder: Path, pattern: str) -> list[str]:
    """The files below a folder that a glob names."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder}: no {pattern} was built")
    return found


class Workplace:
    """The folders in which the inputs of one kind are read.

    `whole` is as it was built. `work/inside` is a copy with a damaged file, and the folders called `around` must never
    change.
    """

    def __init__(self, kind: Kind, scratch: Path) -> None:
        self.kind, self.whole, self.work = kind, scratch / kind.name / "whole", scratch / kind.name / "work"
        self.inside = self.work / "inside"

    def build(self) -> None:
        """Makes the whole files, in a process of its own: threads and locks of a training end with it."""
        if self.whole.exists():
            return
        # Where the copies will be: some files contain whole paths.
        self.inside.mkdir(parents=True)
        log = self.whole.parent / "build.txt"
        child = os.fork()
        if not child:
            silence(log)
            os.chdir(self.inside)
            leave(lambda: self.kind.build(self.inside))
        failed = os.waitpid(child, 0)[1]
        self.inside.rename(self.whole)
        if failed:
            shutil.rmtree(self.whole)
            said = log.read_text(errors="replace")[-3000:]
            raise BrokenKindError(f"{self.kind.name}: its files cannot be made:\n{said}")
        self._try_whole_files()

    def _try_whole_files(self) -> None:
        """Makes sure that files without a fault are accepted: else the damaged ones would say nothing."""
        for pattern, form in self.kind.files:
            given = Input(matches(self.whole, pattern)[0], form, (), "", 0)
            inputs = [(number, replace(given, way=number)) for number in range(4)]
            outcomes = [outcome for _, outcome, _ in run_inputs(self, inputs)]
            if {outcome[0] for outcome in outcomes} not in ({"accepted"}, {"accepted", "refused"}):
                texts = "\n".join(": ".join(outcome) for outcome in outcomes)
                raise BrokenKindError(f"{self.kind.name}: {given.target} without a fault: {texts}")

    def restore(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.whole, self.inside, symlinks=True, copy_function=shutil.copy2)
        for around in (self.work / "around", self.inside / "around"):
            (around / "folder").mkdir(parents=True)
            (around / "canary.txt").write_text("not yours")
            (around / "folder" / "0000001.jpg").write_text("not yours either")

    def snapshot(self) -> dict[str, tuple[int, ...]]:
        """Kind, size, time and number of every file and folder that the reader must not write."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, folders, files in os.walk(self.work):
            for name in (*files, *folders):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, self.inside)
                if any(fnmatch(relative, pattern) for pattern in self.kind.writes):
                    continue
                status = os.lstat(path)
                inside = not os.path.isdir(path)  # times of folders change with what may be written into them
                found[relative] = (status.st_mode, status.st_size * inside, status.st_mtime_ns * inside, status.st_ino)
        return found

    def place(self, given: Input) -> None:
        """Puts the damaged file into the copy."""
        path = self.inside / given.target
        content = given.content((self.whole / given.target).read_bytes())
        content = content.replace(AROUND.encode(), os.fsencode(self.work / "around"))
        path.unlink()
        if given.place == "folder":
            path.mkdir()
        elif given.place == "loop":
            path.symlink_to(path.name)
        elif given.place == "fifo":
            os.mkfifo(path)
        elif given.place == "link":
            path.symlink_to(self.work / "around" / "canary.txt")
        elif given.place != "missing":
            path.write_bytes(b"" if given.place == "empty" else content)

    def run(self, given: Input) -> Outcome:
        """Reads an input in this process."""
        if not self.inside.exists():
            self.restore()
        self.place(given)
        before = self.snapshot()
        os.chdir(self.inside)
        case = Case(self.inside, self.whole, given.target, random.Random(given.way))
        try:
            outcome, signature, detail = ("accepted" if self.kind.read(case) else "refused"), "", ""
        except ProjectError as error:
            outcome, signature, detail = _judged(error)
        except Wrong as error:
            outcome, signature, detail = "wrong", f"wrong, {str(error).partition(':')[0]}", traceback.format_exc()
        except (Exception, SystemExit) as error:
            outcome, signature, detail = "traceback", _where(error), traceback.format_exc()
        os.chdir(self.work)
        after = self.snapshot()
        if after != before:
            lost = sorted(before.keys() - after.keys())
            new = sorted(after.keys() - before.keys())
            changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
            outcome, signature = "touched", f"touched: {(lost or new or changed)[0]}"
            detail = f"gone: {lost}\nnew: {new}\nchanged: {changed}\n{detail}"
        self._repair(given, after != before)
        return outcome, signature, detail

    def _repair(self, given: Input, touched: bool) -> None:
        path = self.inside / given.target
        if touched or self.kind.writes:
            shutil.rmtree(self.work)
            return
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        shutil.copy2(self.whole / given.target, path)


def _judged(error: ProjectError) -> Outcome:
    """A refusal is a line for each problem, each of which a terminal can show."""
    lines = str(error).splitlines()
    if not str(error).strip() or not all(line.isprintable() for line in lines) or "Traceback" in str(error):
        return "message", f"message of {_where(error)}", repr(str(error)[:3000])
    if len(str(error)) > 20_000:
        return "message", f"long message of {_where(error)}", f"{len(str(error))} characters"
    return "refused", "", ""


def _where(error: BaseException) -> str:
    """Type and place of an exception: the innermost function of the project."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(str(PROJECT)) and not {"fuzz", ".venv"} & {*Path(frame.filename).parts}:
            place = f"{Path(frame.filename).relative_to(PROJECT)} {frame.name}"
    return f"{type(error).__name__} in {place or 'no file of the project'}"


def silence(log: Path) -> None:
    """Sends all output of this process to a file, that of C libraries and of a crash included."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(file=2)


def leave(work: Callable[[], object]) -> None:
    """Ends a forked process after its work, without what its parent has registered for the end.

    The exit status is what the work returns, if that is a number.
    """
    status = 1
    try:
        returned = work()
        status = returned if isinstance(returned, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _limit_memory() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))


def run_inputs(place: Workplace, inputs: Sequence[tuple[int, Input]]) -> Iterator[tuple[int, Outcome, float]]:
    """Runs inputs in a worker, and in another one after a crash or a hang: (number, outcome, seconds) of each."""
    left = list(inputs)
    log = place.whole.parent / "worker.txt"
    while left:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os.setsid()
            silence(log)
            leave(partial(_work, place, left, writing))
        os.close(writing)
        answered, silent = 0, False
        for answer in _answers(reading):
            if silent := answer is None:
                os.killpg(child, signal.SIGKILL)
                break
            number, outcome, seconds = answer
            answered += 1
            yield number, tuple(outcome), seconds
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        if answered < len(left):
            text = log.read_text(errors="replace")[-6000:]
            ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status >> 8}"
            what, why = ("hang", f"more than {HANG:.0f} s") if silent else ("crash", ended)
            yield left[answered][0], (what, f"{what}, {why}, {_innermost(text)}", text), HANG if silent else 0.0
            shutil.rmtree(place.work, ignore_errors=True)
        left = left[answered + 1 :]


def _work(place: Workplace, inputs: Sequence[tuple[int, Input]], writing: int) -> None:
    """What a worker does: sends a line for each input."""
    _limit_memory()
    for number, given in inputs:
        faulthandler.dump_traceback_later(0.9 * HANG, file=2)
        start = time.monotonic()
        outcome = place.run(given)
        faulthandler.cancel_dump_traceback_later()
        os.write(writing, (json.dumps([number, outcome, time.monotonic() - start]) + "\n").encode())


def _answers(reading: int) -> Iterator[list[Any] | None]:
    """Lines from a worker, until it is gone; None if it is silent for too long."""
    buffer = b""
    while select.select([reading], [], [], HANG)[0]:
        got = os.read(reading, 1 << 16)
        if not got:
            return
        buffer += got
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            yield json.loads(line)
    yield None


def _innermost(text: str) -> str:
    """The innermost function of the project in a stack that faulthandler printed."""
    for line in text.splitlines():
        if f'File "{PROJECT}/Code' in line:
            return line.strip().replace(f"{PROJECT}/", "").partition(", line")[0] + line.rpartition(" in ")[2]
    return "no file of the project"


def run_kind(kind: Kind, scratch: Path, tally: Tally, numbers: Sequence[int]) -> None:
    """Runs the inputs of a kind with these numbers; new findings are made smaller, kept and printed."""
    place = Workplace(kind, scratch)
    place.build()
    inputs = {number: kind.draw(place.whole, tally.seed, number) for number in numbers}
    # All of them first: making an input smaller takes the same folders.
    for number, (outcome, signature, detail), seconds in list(run_inputs(place, list(inputs.items()))):
        tally.note(kind.name, outcome, number, seconds)
        if outcome in ("accepted", "refused"):
            continue
        given = inputs[number]
        if f"{kind.name} {signature}" not in tally.findings and outcome != "hang":
            given, detail = _smaller(place, given, signature, detail)
        content = given.content((place.whole / given.target).read_bytes())
        size = (len(given.seeds), len(content))
        found = Finding(kind.name, outcome, signature, f"{given}\n{detail}", number, size)
        if tally.keeps(found, {given.target: content}):
            print(f"{kind.name} {number}: {signature}", flush=True)


def _smaller(place: Workplace, given: Input, signature: str, detail: str) -> tuple[Input, str]:
    """Drops faults while the finding stays the same."""
    for seed in given.seeds:
        rest = tuple(other for other in given.seeds if other != seed)
        shorter = replace(given, seeds=rest)
        ((_, (_, found, its_detail), _),) = run_inputs(place, [(0, shorter)])
        if found == signature:
            given, detail = shorter, its_detail
    return given, detail
