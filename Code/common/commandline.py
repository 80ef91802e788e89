"""What the scripts' command lines share: the parser, the types of numbers, and how errors end a script."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import Interrupted, ProjectError, UsageError
from .names import MAX_IMAGE_SIZE


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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but `--batch_size` means `--batch-size`, and `--at-type` means `--at_type`."""
        spellings = {flag.replace("_", "-"): flag for flag in self._option_string_actions}
        words = list(sys.argv[1:] if args is None else args)
        for index, word in enumerate(words[: words.index("--")] if "--" in words else words):
            flag, equals, value = word.partition("=")
            words[index] = spellings.get(flag.replace("_", "-"), flag) + equals + value
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends with status 2."""
        if message.startswith("unrecognized arguments: --"):
            flag = message.split()[2].partition("=")[0]
            near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
            message = f"{flag}: no such flag; " + (f"the nearest one is {near[0]}" if near else "see --help")
        self.exit(2, f"error: {message}\n")


def script_parser(doc: str | None, note: str = "", **options: Any) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring: its first paragraph, a note, the flags, the examples."""
    usage, _, examples = (doc or "").partition("\n\n")
    return ScriptParser(description=usage + note, epilog=examples, formatter_class=HelpFormatter, **options)


def add_device(group: argparse._ActionsContainer) -> None:
    """Adds `--device`."""
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def _print_everything() -> None:
    """Makes stdout and stderr print escapes (`\\u5f00`) for what they cannot encode: any name, also in cp1252."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: pythonw, a daemon, `2>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not if a test or a notebook has replaced it
            stream.reconfigure(errors="backslashreplace")


def run_script(main: Callable[[], int], resume_command: Callable[[], str] | None = None) -> int:
    """Runs a script's `main`, which returns the exit status; returns it.

    What the user can mend or has caused becomes one message on stderr. A note of the error says how to resume what was
    stopped; `resume_command` gives the command of another script, which is named instead.
    """
    _print_everything()
    rank = int(os.environ.get("RANK", 0))  # set by torchrun
    try:
        return main()
    except BrokenPipeError:  # `... --help | head`
        return 0
    except (Exception, Interrupted, KeyboardInterrupt) as error:
        status, text = _outcome(error)
        if notes := getattr(error, "__notes__", []):
            text += f"; to resume: {resume_command()}" if resume_command else f"; {notes[-1]}"
        if not (rank and isinstance(error, Interrupted)):  # a signal goes to all processes
            with contextlib.suppress(OSError):  # the terminal may be closed
                print(f"process {rank}: {text}" if rank else text, file=sys.stderr, flush=True)
        return status


def _outcome(error: BaseException) -> tuple[int, str]:
    """The exit status and the message of an error. One that is a fault of the program is raised again."""
    if isinstance(error, ProjectError):
        return error.status, f"error: {error}"
    if isinstance(error, Interrupted):
        return error.status, f"stopped by {error.number.name}"
    if isinstance(error, KeyboardInterrupt):
        return 130, "\nstopped; what was saved is kept"
    first = str(error).partition(". ")[0]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # that of CUDA
        return 1, f"error: not enough memory ({first}); try a smaller --batch-size, --samples-per-clip or --frames"
    if isinstance(error, OSError):  # a disk that is gone, a folder without permission, a path that is too long
        name = f"{error.filename}: " if error.filename else ""
        return 1, f"error: {name}cannot be read or written ({error.strerror or error})"
    if isinstance(error, RuntimeError) and first.startswith("DataLoader worker"):  # raised at any place
        killed = f"a process that loads data was killed, perhaps because memory ran out ({first})"
        return 1, f"error: {killed}; use fewer --workers"
    raise error


def number(low: float, high: float = math.inf, kind: type[int] | type[float] = float) -> Callable[[str], Any]:
    """An argparse type: a finite number, or a whole one (`kind` int), from `low` to `high`."""
    name = "a whole number" if kind is int else "a number"
    end = "" if high == math.inf else f" to {high}"

    def parse(text: str) -> int | float:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if low <= value <= high and value != math.inf:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {name} from {low}{end}")

    return parse


positive = number(1, 999_999_999, int)
seed = count = number(0, 2**32 - 1, int)  # numpy takes no larger seed
image_side = number(1, MAX_IMAGE_SIZE, int)
frame_rate = number(0.001, 10_000)
from_zero = number(0)
share = number(0, 0.999)
held_out_share = number(0.001, 0.999)


def check_outputs(
    outputs: Iterable[Path | None], inputs: Iterable[str | Path | None], suffixes: Sequence[str] = (".pth", ".tar")
) -> None:
    """Makes sure, before a command begins, that what it writes does not replace what it reads. None is passed over.

    Args:
        suffixes: of the files that are read where an input is a folder.

    Raises:
        UsageError: a file to write is there and is read, or two outputs are one file.
    """
    written: set[Path] = set()
    for output in filter(None, outputs):
        if output.resolve() in written:
            raise UsageError(f"{output}: would be written twice; rename one of the two")
        written.add(output.resolve())
        for path in (Path(given) for given in inputs if given is not None and output.exists()):
            is_inside = path.resolve() in output.resolve().parents and output.suffix.lower() in suffixes
            if is_inside or (path.exists() and path.samefile(output)):
                raise UsageError(f"{output}: would overwrite the input {path}; name another file")


def fold(text: str) -> int | str:
    """An argparse type: a fold's number, from 1, or "all"."""
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither the number of a fold nor all")
    return text if text == "all" else positive(text)


def pair(text: str) -> str:
    """An argparse type: OLD=NEW."""
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW")
    return text


def prior_of(words: Sequence[str]) -> dict[str, float] | str | None:
    """The values of `--prior`: shares by class, or the name of a prior; None: nothing was given.

    Raises:
        UsageError: a word is not CLASS=SHARE.
    """
    if len(words) == 1 and words[0] in ("uniform", "ferplus"):
        return words[0]
    shares = {}
    for word in words:
        name, _, share = word.rpartition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            text = "is neither CLASS=SHARE nor, alone, uniform or ferplus; name the inputs before --prior"
            raise UsageError(f"--prior {word}: {text}") from None
    return shares or None
