"""What a run was started with, and the command that resumes it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.json_files import StateError
from .records import read_arguments

# Flags that may differ when a run is resumed: those of the machine, not of the experiment.
MACHINE_FLAGS = {
    "cache",
    "cache_dir",
    "checkpoint",
    "checkpoint_every",
    "compile",
    "device",
    "evaluate",
    "figures",
    "output",
    "print_freq",
    "resume",
    "workers",
}

_machine_flags: list[str] = []
_folder: Path | None = None


def command_line() -> str:
    """The command of this process."""
    return shlex.join(["python", *sys.argv])


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """The flags as JSON keeps them."""
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return json.loads(json.dumps(flags))


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line. With `--resume RUN`, the flags are those of the run, if it has begun.

    Flags of the machine are not taken from the run.

    Raises:
        UsageError: the command line asks for something else than the run was started with.
    """
    args = parser.parse_args(words)
    run = args.resume
    if run and (run / "args.json").exists():
        parser.set_defaults(**_flags_of(run, args, parser), resume=run)
        args = parser.parse_args(words)
    _remember_flags(args, parser)
    return args


def _flags_of(run: Path, args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The flags that a run was started with and that the command line does not repeat."""
    path = run / "args.json"
    try:
        given = read_arguments(run, "name the folder of a run, model/<date-time>_...").given
    except StateError as error:
        raise UsageError(f"--resume {run}: {error}") from None
    actions = {action.dest: action for action in parser._actions}
    flags = {}
    for name, value in given.items():
        if name not in vars(args) or name in MACHINE_FLAGS:
            continue
        asked, default = getattr(args, name), parser.get_default(name)
        try:
            started_with = _parsed(actions[name], value)
        except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
            raise UsageError(
                f"--resume {run}: {path}: given.{name}: {error}; restore the file, or start a new run"
            ) from None
        if asked == default:
            flags[name] = started_with
        elif asked != started_with:
            raise UsageError(
                f"--resume {run}: the run was started with {name} {value}, not {asked}; omit that flag, or start a "
                "new run"
            )
    return flags


def _parsed(action: argparse.Action, value: Any) -> Any:
    """A flag's value as args.json keeps it, through the type and the choices that the command line has for it.

    Raises:
        argparse.ArgumentTypeError, ValueError, TypeError: the command line would not take it.
    """
    if value is None:
        if action.default is not None:
            raise ValueError(f"is null, but --{action.dest} has a value")
        return None
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not true or false")
        return value
    if action.nargs == "+" or isinstance(action, argparse._AppendAction):
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        return [_one_value(action, part) for part in value]
    return _one_value(action, value)


def _one_value(action: argparse.Action, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a value of this flag")
    if action.type is None and not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    text = str(value)
    if "\0" in text:
        raise ValueError("has a NUL character")
    parsed = action.type(text) if callable(action.type) else text
    if action.choices is not None and parsed not in action.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(map(str, action.choices))}")
    return parsed


def _remember_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Keeps the flags of the machine, which `--resume` does not take from the run, for `resume_command`."""
    global _folder
    _folder = None
    _machine_flags.clear()
    for action in parser._actions:
        name, value = action.dest, getattr(args, action.dest, None)
        if name not in MACHINE_FLAGS - {"output", "resume"} or value == action.default:
            continue
        flag = next(option for option in action.option_strings if option.startswith("--"))
        _machine_flags.extend([flag] if action.nargs == 0 else [flag, str(value)])


def remember_folder(folder: Path, *, outermost: bool = False) -> None:
    """Keeps the folder that `--resume` has to name, for `resume_command`.

    Args:
        outermost: this is the folder around several runs. It stays, whatever folders of single runs follow.
    """
    global _folder
    if _folder is None or outermost:
        _folder = folder


def forget_folder(folder: Path) -> None:
    """The folder is gone: there is nothing to resume in it."""
    global _folder
    if _folder is not None and (_folder == folder or folder in _folder.parents):
        _folder = None


def resume_command() -> str | None:
    """The command that resumes the run of this process; None if it has not begun one."""
    if _folder is None:
        return None
    start = ["python"]
    size, local_size = _processes()
    if size > 1:
        nodes = [] if one_machine() else ["--nnodes", str(size // local_size), "..."]
        start = ["torchrun", *nodes, "--nproc_per_node", str(local_size)]
    return shlex.join([*start, sys.argv[0], "--resume", str(_folder), *_machine_flags])


def one_machine() -> bool:
    """Whether all processes of the launch are on this machine."""
    size, local_size = _processes()
    return size == local_size


def _processes() -> tuple[int, int]:
    """How many processes torchrun started, in all and on this machine."""
    return int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
