"""`--resume`: takes the flags of a run from its args.json, and names the command that resumes it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.errors import TrainingDivergedError, UsageError
from ..common.json_files import StateError
from .records import read_arguments

# Flags that may differ when a run is resumed: those of the machine, not of the experiment.
MACHINE_FLAGS = {"cache", "checkpoint", "compile", "device", "evaluate", "figures", "output", "print_freq", "resume"}
MACHINE_FLAGS |= {"workers"}


def command_line() -> str:
    """The command of this process."""
    return shlex.join(["python", *sys.argv])


def resume_command(folder: Path) -> str:
    """The command that resumes a run, or the series that it is a part of: this process's, with `--resume`."""
    around = [parent for parent in folder.parents if (parent / "args.json").is_file()]
    words = list(sys.argv)
    if not any(word.split("=")[0] == "--resume" for word in words):
        words += ["--resume", str(around[-1] if around else folder)]
    size, local_size = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if size == 1:
        return shlex.join(["python", *words])
    nodes = [] if size == local_size else ["--nnodes", str(size // local_size), "..."]
    return shlex.join(["torchrun", *nodes, "--nproc_per_node", str(local_size), *words])


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Adds the command that resumes the run to whatever ends the block early, but a wrong flag or a NaN loss."""
    try:
        yield
    except BaseException as error:
        if type(error) in (TrainingDivergedError, UsageError):  # it would end there again
            raise
        error.add_note(f"the epoch under way will be repeated; to resume: {resume_command(folder)}")
        raise


def plain_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as JSON keeps them."""
    return json.loads(json.dumps(flags, default=str))


def parse_resumable(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line. With `--resume RUN`, the flags are those of the run, if there is one already.

    Flags of the machine are not taken from the run.

    Raises:
        UsageError: the command line asks for something else than the run was started with.
    """
    args = parser.parse_args(words)
    if args.resume is None or not (args.resume / "args.json").is_file():
        return args
    try:
        given = read_arguments(args.resume, "name the folder of a run, model/<date-time>_...").given
    except StateError as error:
        raise UsageError(f"--resume {args.resume}: {error}") from None
    flags = {name: value for name, value in given.items() if name in vars(args) and name not in MACHINE_FLAGS}
    _check_same(args.resume, vars(args), flags, parser)
    parser.set_defaults(**flags)
    return parser.parse_args(words)


def _check_same(run: Path, args: Mapping[str, Any], flags: Mapping[str, Any], parser: argparse.ArgumentParser) -> None:
    """Refuses flags that were given now and are not those of the run."""
    for name, value in flags.items():
        now = args[name]
        if now != parser.get_default(name) and json.loads(json.dumps(now, default=str)) != value:
            raise UsageError(
                f"--resume {run}: the run was started with {name} {value}, not {now}; omit that flag, or start a new "
                "run"
            )
