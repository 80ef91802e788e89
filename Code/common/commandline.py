"""What the scripts' command lines share: the parser, the types of numbers, and how errors end a script."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import Interrupted, ProjectError
from .names import MAX_IMAGE_SIZE

SEED_LIMIT = 2**32 - 1  # numpy takes no larger seed


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of each flag that has one, and leaves the examples as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        if not text or "default" in text or default is None or default is False or default in ([], argparse.SUPPRESS):
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else "%(default)s"
        return f"{text} (default: {shown})"


class ScriptParser(argparse.ArgumentParser):
    """A parser that answers a wrong flag with one line, which names the flag that is most like it."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends with status 2."""
        unknown = re.search(r"unrecognized arguments: (-[^\s=]+)", message)
        if unknown:
            near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
            message = f"{unknown[1]}: no such flag; " + (f"the nearest one is {near[0]}" if near else "see --help")
        self.exit(2, f"error: {message}\n")


def script_parser(doc: str | None, note: str = "", **options: Any) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring: its first paragraph, a note, the flags, the examples.

    Args:
        options: of `argparse.ArgumentParser`.
    """
    usage, _, examples = (doc or "").partition("\n\n")
    return ScriptParser(description=usage + note, epilog=examples, formatter_class=HelpFormatter, **options)


def add_device(place: argparse._ActionsContainer) -> None:
    """Adds `--device`."""
    place.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def print_everything() -> None:
    """Makes stdout and stderr print escapes (`\\u5f00`) for characters that they cannot encode, instead of an error.

    On Windows, output into a file is encoded in cp1252; and on Linux, the name of a file may be any bytes.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: pythonw, a daemon, `2>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not if a test or a notebook has replaced it
            stream.reconfigure(errors="backslashreplace")


def run_script(main: Callable[[], int], resume_command: Callable[[], str] | None = None) -> int:
    """Runs a script's `main`. A `ProjectError` becomes one message on stderr and the exit status.

    Args:
        main: returns the exit status. A note that it adds to an error says how to resume what was stopped.
        resume_command: in place of such a note: the command that resumes.
    """
    print_everything()
    rank = int(os.environ.get("RANK", 0))  # set by torchrun
    process = f"process {rank}: " if rank else ""

    def how_to_resume(error: BaseException) -> str:
        notes = getattr(error, "__notes__", [])
        if not notes:
            return ""
        return f"; {notes[-1]}" if resume_command is None else f"; to resume: {resume_command()}"

    try:
        return main()
    except ProjectError as error:
        print(f"{process}error: {error}{how_to_resume(error)}", file=sys.stderr, flush=True)
        return error.status
    except MemoryError as error:
        print(
            f"{process}error: not enough memory ({error}); try a smaller --batch-size, --samples-per-clip or --frames",
            file=sys.stderr,
        )
        return 1
    except RuntimeError as error:
        # torch raises this in the main process, at any place, when a worker of a DataLoader has died.
        if not str(error).startswith("DataLoader worker"):
            raise
        print(
            f"{process}error: a process that loads data was killed, perhaps because memory ran out "
            f"({str(error).partition('. ')[0]}); use fewer --workers{how_to_resume(error)}",
            file=sys.stderr,
        )
        return 1
    except Interrupted as stop:
        if not rank:
            with contextlib.suppress(OSError):  # the terminal may be closed
                print(f"stopped by {stop.number.name}{how_to_resume(stop)}", file=sys.stderr, flush=True)
        return stop.status
    except KeyboardInterrupt as stop:
        print(f"\nstopped; what was saved is kept{how_to_resume(stop)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... --help | head`
        return 0
    except OSError as error:  # a disk that is gone, a folder without permission, a path that is too long
        place = f"{error.filename}: " if error.filename else ""
        hint = how_to_resume(error)
        print(f"{process}error: {place}cannot be read or written ({error.strerror or error}){hint}", file=sys.stderr)
        return 1


def whole_number(low: int, high: int, unit: str = "") -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`."""
    what = f"{unit} " if unit else ""

    def parse(text: str) -> int:
        # At most ten digits: int() of a very long text is slow, and refused by Python.
        if not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {what}from {low} to {high}")
        return int(text)

    return parse


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number from `low` to `high`.

    Args:
        above: `low` itself is not allowed.
        below: `high` itself is not allowed.
    """
    start = f"above {low:g}" if above else f"from {low:g}"
    end = "" if high == math.inf else f"{' and' if above else ' to'} below {high:g}" if below else f" to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = low < value if above else low <= value
        inside = inside and math.isfinite(value) and (value < high if below else value <= high)
        if not inside:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {start}{end}")
        return value

    return parse


positive = whole_number(1, 999_999_999)
seed = whole_number(0, SEED_LIMIT)
count = whole_number(0, SEED_LIMIT)  # zero allowed
image_side = whole_number(1, MAX_IMAGE_SIZE, "of pixels")
above_zero = number(0, above=True)
from_zero = number(0)
share = number(0, 1, below=True)


def fold(text: str) -> int | str:
    """An argparse type: a fold's number, from 1, or "all"."""
    if text == "all":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither the number of a fold nor all") from None


def pair(text: str) -> str:
    """An argparse type: OLD=NEW."""
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW")
    return text
