"""Several commands in a row: each is printed and timed, and skipped if it was done before on the same inputs.

A command that makes a folder and chooses its name, such as a training, notes that name in a file that the step asks for
(`note_folder`). So later steps and calls find the folder that this step made, whatever others are beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from .errors import ProjectError
from .files import PROJECT, regular, remove_leftovers, save_text
from .json_files import MissingStateError, read_state, shaped

VERSION = 1  # of the file of the steps
NOTE = "EMOTION_FAN_NOTE"  # environment variable: the file in which a step's command notes the folder that it makes


class StepError(ProjectError, RuntimeError):
    """A step failed, and printed why.

    Attributes:
        status: the step's exit status.
    """

    def __init__(self, step: str, status: int) -> None:
        super().__init__(f"stopped in step {step}; the steps before it are kept, and the same command resumes here")
        self.status = status


def fingerprint(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Changes when one of these files does; of large ones (videos, weights), size and time are compared."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            small = status.st_size < 1 << 22
            content = f"{status.st_size} {status.st_mtime_ns}".encode()
            if small:
                with open(path, "rb", opener=regular) as file:
                    content = file.read()
        except OSError:
            content = b"missing"
        digest.update(os.fsencode(f"{path} {len(content)}\n") + content)
    return digest.hexdigest()


@dataclass
class Step:
    """What is recorded about a step.

    Attributes:
        command: what follows `python`.
        inputs: fingerprint of what it reads.
        done: whether it was finished.
        shown: the command as one types it in a shell.
        seconds: how long it took.
        made: the name of the folder that it made, once it was done.
        token: names the file in which its command notes that folder, until it is done.
        results: fingerprint of the files that it wrote, if the step names them. Earlier versions did not write it.
    """

    command: list[str]
    inputs: str
    done: bool
    shown: str = ""
    seconds: float = 0.0
    made: str = ""
    token: str = ""
    results: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([0-9a-f]{16})?", self.token):
            raise ValueError(f"token: {self.token!r} is not made of 16 digits")

    def is_of(self, command: Sequence[str], inputs: str) -> bool:
        """Whether this is the same command on the same inputs."""
        return self.command == list(command) and self.inputs == inputs


@dataclass
class Made:
    """What a command notes: the name of the folder that it made."""

    folder: str


def note_folder(folder: Path) -> None:
    """Notes which folder this command makes, if it was started as a step."""
    if NOTE in os.environ:
        save_text(json.dumps(asdict(Made(folder.name))), os.environ[NOTE])


@dataclass
class Steps:
    """Runs steps and records in a file which are done.

    Attributes:
        file: JSON; name of a step -> `Step`.
        beside: names of files in its folder that steps write; what killed steps left of them is deleted.
        seconds: how long each step of this call took; 0.0 for those that were done before.

    Raises:
        StateError: the file is damaged.
    """

    file: Path
    beside: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known: dict[str, Step] = {}
        remove_leftovers(self.file.parent, lambda name: name in (self.file.name, *self.beside))
        remedy = "delete it to do every step again"
        try:
            content = read_state(self.file, dict[str, Any], remedy=remedy, newest=VERSION)
        except MissingStateError:
            return
        content.pop("version", None)
        self._known = shaped(content, dict[str, Step], place=str(self.file), remedy=remedy)
        notes = {self._note(step.token) for step in self._known.values() if step.token}
        for path in self.file.parent.glob(f".{self.file.stem}-*.json"):  # of steps that were killed or started again
            if path not in notes and re.fullmatch(rf"\.{re.escape(self.file.stem)}-[0-9a-f]{{16}}\.json", path.name):
                path.unlink(missing_ok=True)

    def begun(self, name: str, command: Sequence[str], inputs: str) -> bool:
        """Whether this step was started before, with the same command on the same inputs, finished or not."""
        known = self._known.get(name)
        return known is not None and known.is_of(command, inputs)

    def made(self, name: str) -> str:
        """The name of the folder that this step made, in this call or in an earlier one; empty if it made none.

        Raises:
            StateError: the file in which the command noted it is damaged.
        """
        known = self._known.get(name)
        if known is None or known.made or not known.token:
            return known.made if known else ""
        note = self._note(known.token)
        try:
            return read_state(note, Made, remedy="delete it to do the step again").folder
        except MissingStateError:
            return ""

    def run(
        self,
        name: str,
        command: Sequence[str],
        inputs: str,
        *,
        there: Callable[[], bool] = lambda: True,
        results: Sequence[Path] = (),
        passes: Callable[[int], bool] = lambda status: status == 0,
        instead: Sequence[str] | None = None,
    ) -> None:
        """Runs a command of this project, unless it is done.

        Args:
            name: of the step, for people.
            command: what follows `python`.
            inputs: fingerprint of what it reads.
            there: whether its results still exist.
            results: files that it writes. If they are changed later, the step is done again.
            passes: whether an exit status means success.
            instead: runs in place of `command`, to finish what that had started, or to mend its results.

        Raises:
            StepError: the command failed.
        """
        title = f"{len(self.seconds) + 1}. {name}"
        known = self._known.get(name)
        shown = show(command)
        kept = known and known.done and known.results in ("", fingerprint(results))
        if known and kept and known.is_of(command, inputs) and there():
            print(f"{title}: done before\n   {shown}", flush=True)
            self.seconds[name] = 0.0
            return
        print(f"{title}\n   {show(instead or command)}", flush=True)
        token = (known.token if known and instead else "") or secrets.token_hex(8)
        made = known.made if known and instead else ""
        started = Step(list(command), inputs, False, shown, made=made, token=token)
        self._save(name, started)
        if known and known.token not in ("", token):
            self._note(known.token).unlink(missing_ok=True)
        start = time.monotonic()
        status = run_python(instead or command, {NOTE: os.path.abspath(self._note(token))})
        seconds = time.monotonic() - start
        if not passes(status):
            raise StepError(title, status)
        done = replace(started, done=True, seconds=round(seconds, 1), made=self.made(name), token="")
        self._save(name, replace(done, results=fingerprint(results) if results else ""))
        self._note(token).unlink(missing_ok=True)
        self.seconds[name] = seconds
        print(f"   {name}: {seconds:.1f} s", flush=True)

    def _save(self, name: str, step: Step) -> None:
        self._known[name] = step
        content = {"version": VERSION} | {known: asdict(each) for known, each in self._known.items()}
        save_text(json.dumps(content, indent=1) + "\n", self.file)

    def _note(self, token: str) -> Path:
        return self.file.with_name(f".{self.file.stem}-{token}.json")


def script(name: str) -> str:
    """The path of a script of this project, from the working directory."""
    return name if Path.cwd() == PROJECT else str(PROJECT / name)


def show(command: Sequence[str]) -> str:
    """A command as one types it in a shell, in the working directory."""
    elsewhere = command[0] == "-m" and Path.cwd() != PROJECT
    before = f"PYTHONPATH={shlex.quote(str(PROJECT))} " if elsewhere else ""
    return before + shlex.join(["python", *command])


def run_python(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Runs `python COMMAND` and waits for it, also on Ctrl-C and SIGTERM: it may be saving.

    Args:
        environment: more variables of the environment.

    Returns:
        The exit status; 128 + the signal's number if one ended it.
    """
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *_paths()]), **(environment or {})}
    process = subprocess.Popen([sys.executable, *command], env=variables)

    def terminated(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        status = process.wait()
    except KeyboardInterrupt:  # the terminal sent it to the child, too
        process.wait()
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.kill()
    return 128 - status if status < 0 else status


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
