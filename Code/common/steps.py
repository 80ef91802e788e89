"""Several commands in a row: each is printed and timed, and skipped if it was done before on the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from Code.common.errors import ProjectError
from Code.common.files import save_text

PROJECT = Path(__file__).resolve().parents[2]


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
            content = Path(path).read_bytes() if small else f"{status.st_size} {status.st_mtime_ns}".encode()
        except OSError:
            content = b"missing"
        digest.update(os.fsencode(f"{path} {len(content)}\n") + content)
    return digest.hexdigest()


@dataclass
class Steps:
    """Runs steps and records in a file which are done.

    Attributes:
        file: JSON; name of a step -> command, inputs, done, seconds.
        seconds: how long each step of this call took; 0.0 for those that were done before.
    """

    file: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._known: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def begun(self, name: str, command: Sequence[str], inputs: str) -> bool:
        """Whether this step was started before, with the same command on the same inputs, and not finished."""
        known = self._known.get(name, {})
        return bool(known) and not known["done"] and _same(known, command, inputs)

    def run(
        self,
        name: str,
        command: Sequence[str],
        inputs: str,
        *,
        there: Callable[[], bool] = lambda: True,
        passes: Callable[[int], bool] = lambda status: status == 0,
        instead: Sequence[str] | None = None,
    ) -> None:
        """Runs a command of this project, unless it is done.

        Args:
            name: of the step, for people.
            command: what follows `python`.
            inputs: fingerprint of what it reads.
            there: whether its results still exist.
            passes: whether an exit status means success.
            instead: runs in place of `command`, to finish what that had started.

        Raises:
            StepError: the command failed.
        """
        title = f"{len(self.seconds) + 1}. {name}"
        known = self._known.get(name, {})
        shown = show(command)
        if known.get("done") and _same(known, command, inputs) and there():
            print(f"{title}: done before\n   {shown}", flush=True)
            self.seconds[name] = 0.0
            return
        print(f"{title}\n   {show(instead or command)}", flush=True)
        self._note(name, {"command": list(command), "inputs": inputs, "done": False, "shown": shown})
        start = time.monotonic()
        status = run_python(instead or command)
        seconds = time.monotonic() - start
        if not passes(status):
            raise StepError(title, status)
        self._note(name, {**self._known[name], "done": True, "seconds": round(seconds, 1)})
        self.seconds[name] = seconds
        print(f"   {name}: {seconds:.1f} s", flush=True)

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        self._known[name] = entry
        save_text(json.dumps(self._known, indent=1) + "\n", self.file)


def _same(known: dict[str, Any], command: Sequence[str], inputs: str) -> bool:
    return bool(known["command"] == list(command) and known["inputs"] == inputs)


def script(name: str) -> str:
    """The path of a script of this project, from the working directory."""
    return name if Path.cwd() == PROJECT else str(PROJECT / name)


def show(command: Sequence[str]) -> str:
    """A command as it is typed in a shell, in the working directory."""
    elsewhere = command[0] == "-m" and Path.cwd() != PROJECT
    before = f"PYTHONPATH={shlex.quote(str(PROJECT))} " if elsewhere else ""
    return before + shlex.join(["python", *command])


def run_python(command: Sequence[str]) -> int:
    """Runs `python COMMAND` and waits for it, also on Ctrl-C and SIGTERM: it may be saving.

    Returns:
        The exit status; 128 + the signal's number if one ended it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *_paths()])}
    process = subprocess.Popen([sys.executable, *command], env=environment)

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
