"""How this process was started, and which command goes on with its run.

torchrun (`--max-restarts`) and Slurm (`--requeue`) start the same command again after a failure. The run that the
command began is then found by the launch's identity, which args.json keeps, and gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from Code.common.errors import UsageError
from Code.training import distributed

# What may differ between the two halves of a resumed run: the machine, not the experiment.
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


def identity() -> str | None:
    """What the first start and all restarts of one launch have in common; None outside torchrun and Slurm."""
    if "SLURM_JOB_ID" in os.environ:
        return f"slurm {os.environ['SLURM_JOB_ID']}"
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        return None
    if run_id == "none":  # torchrun without --standalone or --rdzv-id: its process is what stays
        run_id = f"{os.getppid()} since {_started(os.getppid())}"
    return f"torchrun {socket.gethostname()} {run_id}" if distributed.one_machine() else f"torchrun {run_id}"


def _started(process: int) -> str:
    """A process's start, in the system's ticks; process numbers are given again."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):  # not Linux
        return "?"


def is_restarted() -> bool:
    """Whether torchrun or Slurm started this command before, in the same launch."""
    return any(int(os.environ.get(name, 0)) > 0 for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def restarted_run(args: argparse.Namespace) -> Path | None:
    """The folder of the run that this very command began before it was restarted; None if it is no restart.

    Args:
        args: of them, where runs' folders go.
    """
    mine = identity()
    if mine is None or not is_restarted():
        return None
    if any(getattr(args, name, None) for name in ("evaluate", "check", "write_folds")):  # no training
        return None
    for path in sorted(args.output.glob("*/args.json"), reverse=True):  # names begin with the time: newest first
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict) and about.get("launch") == mine and about.get("command") == command_line():
            return path.parent
    return None


def command_line() -> str:
    """The command of this process."""
    return shlex.join(["python", *sys.argv])


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """The command line as JSON keeps it."""
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return json.loads(json.dumps(flags))


def remember_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Takes note of the flags of the machine, which `--resume` does not take over from the run."""
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
    """Takes note of what `--resume` has to name.

    Args:
        outermost: of several runs, the folder around them; what is said of each of them later counts no more.
    """
    global _folder
    if _folder is None or outermost:
        _folder = folder


def resume_command() -> str | None:
    """The command that goes on with the run of this process; None as long as it has none."""
    if _folder is None:
        return None
    start = ["python"]
    world = distributed.world()
    if world.size > 1:
        nodes = [] if distributed.one_machine() else ["--nnodes", str(world.size // world.local_size), "..."]
        start = ["torchrun", *nodes, "--nproc_per_node", str(world.local_size)]
    return shlex.join([*start, sys.argv[0], "--resume", str(_folder), *_machine_flags])


def restore_arguments(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """`--resume RUN`: takes over, in place, every flag the run was started with, except those of the machine.

    Raises:
        UsageError: if RUN is not a run's folder, or the command line asks for something else than the run was
            started with.
    """
    path = args.resume / "args.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))["given"]
        items = given.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"--resume {args.resume}: {path.name} is missing there or unreadable; "
            "name a run's folder, model/<date-time>_..."
        ) from None
    for name, value in items:
        if name not in vars(args) or name in MACHINE_FLAGS:
            continue
        asked, default = getattr(args, name), parser.get_default(name)
        started_with = Path(value) if isinstance(default, Path) and value is not None else value
        if asked not in (default, started_with):
            raise UsageError(
                f"--resume {args.resume}: the run was started with {name} {value}, not {asked}; "
                "leave that flag away, or start a new run"
            )
        setattr(args, name, started_with)
