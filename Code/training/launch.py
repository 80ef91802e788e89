"""How this process was started, what the run was started with, and the command that resumes it.

torchrun (`--max-restarts`) and Slurm (`--requeue`) start the same command again after a failure. The run that the
command began is then found by the identity of the launch, which args.json has, and resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from Code.common.errors import UsageError

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


def identity() -> str | None:
    """The same for the first start and all restarts of one launch; None outside torchrun and Slurm."""
    if "SLURM_JOB_ID" in os.environ:
        return f"slurm {os.environ['SLURM_JOB_ID']}"
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        return None
    if run_id == "none":  # torchrun without --standalone or --rdzv-id: its process stays the same
        run_id = f"{os.getppid()} since {_started(os.getppid())}"
    return f"torchrun {socket.gethostname()} {run_id}" if one_machine() else f"torchrun {run_id}"


def _started(process: int) -> str:
    """When a process was started, in ticks of the system, since process numbers are reused."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):  # not Linux
        return "?"


def is_restarted() -> bool:
    """Whether torchrun or Slurm started this command before, in the same launch."""
    return any(int(os.environ.get(name, 0)) > 0 for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def restarted_run(args: argparse.Namespace) -> Path | None:
    """The folder of the run that this command began before it was restarted; None if this is not a restart.

    Args:
        args: the flags; `output` is the folder of the runs.
    """
    mine = identity()
    if mine is None or not is_restarted():
        return None
    if any(getattr(args, name, None) for name in ("evaluate", "check", "write_folds")):  # no training
        return None
    for path in sorted(args.output.glob("*/args.json"), reverse=True):  # names begin with the time: the newest first
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
    """The flags as JSON keeps them."""
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return json.loads(json.dumps(flags))


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line. With `--resume RUN`, or after a restart, the flags are those of the run.

    Flags of the machine are not taken from the run.

    Raises:
        UsageError: RUN is not the folder of a run, or the command line asks for something else than the run was
            started with.
    """
    args = parser.parse_args(words)
    run = args.resume or restarted_run(args)
    if run:
        parser.set_defaults(**_flags_of(run, args, parser), resume=run)
        args = parser.parse_args(words)
    _remember_flags(args, parser)
    return args


def _flags_of(run: Path, args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The flags that a run was started with and that the command line does not repeat."""
    path = run / "args.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))["given"]
        items = given.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"--resume {run}: {path.name} is missing there or unreadable; name the folder of a run, "
            "model/<date-time>_..."
        ) from None
    flags = {}
    for name, value in items:
        if name not in vars(args) or name in MACHINE_FLAGS:
            continue
        asked, default = getattr(args, name), parser.get_default(name)
        started_with = Path(value) if isinstance(default, Path) and value is not None else value
        if asked == default:
            flags[name] = started_with
        elif asked != started_with:
            raise UsageError(
                f"--resume {run}: the run was started with {name} {value}, not {asked}; omit that flag, or start a "
                "new run"
            )
    return flags


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
