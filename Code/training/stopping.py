"""Stopping a training by Ctrl+C, SIGTERM or SIGHUP, and resuming it with `--resume`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ..common.errors import STOP_SIGNALS, Interrupted, ProjectError, TrainingDivergedError, UsageError
from .records import read_arguments

# Flags that may differ when a run is resumed: those of the machine, not of the experiment.
MACHINE_FLAGS = {"cache", "checkpoint", "compile", "device", "evaluate", "figures", "output", "print_freq", "resume"}
MACHINE_FLAGS |= {"workers"}

_received: int | None = None  # the number of a signal


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """A training in the block can be stopped and resumed.

    A first signal is only noted, for `stop_if_asked`; a second one ends the process at once. Whatever ends the block
    early, but a wrong flag or a NaN loss, gets a note with the command that resumes.

    Raises:
        ProjectError: a file cannot be written.
    """
    global _received
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        global _received
        _received = number
        restore()
        if int(os.environ.get("RANK", 0)) == 0:
            with suppress(OSError):  # the terminal may be closed; and print is not safe in a handler
                os.write(2, f"\n{signal.Signals(number).name}: finishing the step; again: stop at once\n".encode())

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, note)
    try:
        yield
    except (BrokenPipeError, TrainingDivergedError, UsageError):  # it would end there again
        raise
    except BaseException as error:
        if isinstance(error, OSError):
            path = error.filename or folder
            error = ProjectError(f"{path}: cannot be written ({error.strerror or error}); free some space")
        error.add_note(f"the epoch under way will be repeated; to resume: {resume_command(folder)}")
        raise error
    finally:
        restore()
        _received = None


def stop_if_asked() -> None:
    """Raises Interrupted if a signal has arrived; called after every step."""
    if _received is not None:
        raise Interrupted(_received)


def command_line() -> str:
    """The command of this process."""
    return shlex.join(["python", *sys.argv])


def resume_command(folder: Path) -> str:
    """The command that resumes a run, or the series that it is a part of: this process's, with `--resume`."""
    series = [parent for parent in folder.parents if (parent / "args.json").is_file()]
    words = list(sys.argv)
    if not any(word.split("=")[0] == "--resume" for word in words):
        words += ["--resume", str(series[-1] if series else folder)]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return shlex.join(["torchrun", "--nproc_per_node", os.environ["LOCAL_WORLD_SIZE"], *words])
    return shlex.join(["python", *words])


def plain_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as JSON keeps them."""
    return json.loads(json.dumps(flags, default=str))


def parse_resumable(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line. With `--resume RUN`, the flags are those of the run, if there is one already.

    Flags of the machine are not taken from the run.

    Raises:
        UsageError: a flag is not what the run was started with.
        StateError: args.json is damaged.
    """
    args = parser.parse_args(words)
    if args.resume is None or not (args.resume / "args.json").is_file():
        return args
    given = read_arguments(args.resume).given
    flags = {name: value for name, value in given.items() if name in vars(args) and name not in MACHINE_FLAGS}
    now, defaults = plain_flags(vars(args)), plain_flags({name: parser.get_default(name) for name in flags})
    for name, value in flags.items():
        if now[name] not in (value, defaults[name]):
            raise UsageError(
                f"--resume {args.resume}: the run was started with {name} {value}, not {now[name]}; omit that flag, "
                "or start a new run"
            )
    parser.set_defaults(**flags)
    return parser.parse_args(words)
