"""How much of Code/ a reader opens to follow one training step.

    python benchmarks/reading_cost.py                        # --files: also each file
    python benchmarks/reading_cost.py --without check        # leave out the check of the data before a training
    python benchmarks/reading_cost.py -- --cache memory      # more flags for the training

Runs `Demo_AFEW_Attention.py --at_type 1` on a tiny tree in AFEW's layout, from the command line to the first
`backward`, with random weights and without a cache of frames, and notes which functions are called, in all threads.
A file of Code/ is entered when a function that it defines is called. Code at the level of modules and classes does
not count, nor what importing calls, nor generated methods (of dataclasses), lambdas and comprehensions alone.
The lines of a function are those from its first decorator to its end, with docstring and blank lines; nested functions
count once. Lines of code are those without docstrings, comments and blank lines. The script is counted separately.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import io
import os
import runpy
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT, CODE = PROJECT / "Demo_AFEW_Attention.py", PROJECT / "Code"
FLAGS = ["--at_type", "1", "--device", "cpu", "--workers", "0", "--batch-size", "4"]
FLAGS += ["--pretrained", "none", "--cache", "none"]
CLASSES = ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise")

Functions = dict[str, set[int]]  # file -> first lines of functions


class FirstBackward(BaseException):
    """The training has come to its first `backward`."""


class Calls:
    """A profiler that notes the functions of the project which are called.

    Attributes:
        everywhere, in_main: by all threads, by the main thread.
    """

    def __init__(self) -> None:
        self.everywhere: Functions = defaultdict(set)
        self.in_main: Functions = defaultdict(set)
        self.on = True

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event != "call" or not self.on or not code.co_filename.startswith((f"{CODE}{os.sep}", str(SCRIPT))):
            return
        if code.co_name.startswith("<") or importing(frame):
            return
        self.everywhere[code.co_filename].add(code.co_firstlineno)
        if threading.current_thread() is threading.main_thread():
            self.in_main[code.co_filename].add(code.co_firstlineno)

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """In place of `Tensor.backward`."""
        self.on = False
        raise FirstBackward


def importing(frame: FrameType | None) -> bool:
    """Whether an import is under way."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def draw_tree(root: Path) -> None:
    """One clip of three frames for each class and split."""
    for split in ("Train", "Val"):
        for number, label in enumerate(CLASSES):
            clip = root / "Data" / split / label / f"{split}{number}"
            clip.mkdir(parents=True)
            for frame in range(3):
                Image.new("RGB", (48, 48), (30 * number, 60 * frame, 90)).save(clip / f"{frame}.jpg")


def follow(flags: list[str]) -> Calls:
    """Trains until the first `backward`."""
    calls, said = Calls(), io.StringIO()
    sys.argv, sys.path[0] = [SCRIPT.name, *FLAGS, *flags], str(PROJECT)
    torch.Tensor.backward = calls.backward  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        draw_tree(Path(folder))
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                threading.setprofile(calls)
                sys.setprofile(calls)
                runpy.run_path(str(SCRIPT), run_name="__main__")
        except FirstBackward:
            return calls
        except SystemExit:
            pass
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    sys.exit(f"{said.getvalue()}\nthe training ended before a first backward")


def lines_of(path: str, firsts: set[int]) -> int:
    """How many lines the functions that begin at the given lines have."""
    return len(numbers_of(path, firsts))


def code_of(path: str, firsts: set[int]) -> int:
    """The same, without docstrings, comments and blank lines."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    numbers = numbers_of(path, firsts)
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            numbers -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(bool(lines[number - 1].split("#")[0].strip()) for number in numbers)


def numbers_of(path: str, firsts: set[int]) -> set[int]:
    """The line numbers of the functions that begin at the given lines."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first in firsts:
                lines.update(range(first, (node.end_lineno or first) + 1))
    return lines


def length(path: str | Path) -> int:
    """Lines of a file."""
    return len(Path(path).read_text(encoding="utf-8").splitlines())


def last_name(node: ast.expr) -> str:
    """`c` of `c`, `a.c` and `c(...)`."""
    if isinstance(node, ast.Call | ast.Subscript):
        return last_name(node.func if isinstance(node, ast.Call) else node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def count_classes(files: list[Path]) -> tuple[int, int]:
    """Dataclasses, and exception classes: those that derive, by the names of their bases, from one of Python's."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    dataclasses = [node for node in classes if "dataclass" in map(last_name, node.decorator_list)]
    known = {
        name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    exceptions: set[int] = set()
    while True:
        found = {i for i, node in enumerate(classes) if known & set(map(last_name, node.bases))}
        if found == exceptions:
            return len(dataclasses), len(exceptions)
        exceptions = found
        known |= {classes[i].name for i in found}


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="also each file that is entered: lines, lines that run")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="WORD", help="leave out files with a word in their path"
    )
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="of the training")
    args = parser.parse_args()
    calls = follow(args.flags)
    entered = sorted(
        path
        for path in calls.everywhere
        if path != str(SCRIPT) and not any(word in str(Path(path).relative_to(CODE)) for word in args.without)
    )
    run = {path: lines_of(path, firsts) for path, firsts in calls.everywhere.items()}
    in_main = sum(lines_of(path, firsts) for path, firsts in calls.in_main.items() if path in entered)
    functions = sum(len(calls.everywhere[path]) for path in entered)
    lines = sum(run[path] for path in entered)
    print(f"entered: {len(entered)} files of Code/ with {sum(map(length, entered)):,} lines")
    code = sum(code_of(path, firsts) for path, firsts in calls.in_main.items() if path in entered)
    print(
        f"run:     {functions} functions with {lines:,} lines ({in_main:,} in the main thread, {code:,} of them code)"
    )
    print(f"beside:  {SCRIPT.name} with {length(SCRIPT):,} lines, {run[str(SCRIPT)]:,} of them in functions that run")
    modules = sorted(CODE.rglob("*.py"))
    dataclasses, exceptions = count_classes(modules)
    print(f"Code/:   {len(modules)} modules with {sum(map(length, modules)):,} lines")
    print(f"         {dataclasses} dataclasses, {exceptions} exception classes")
    for path in entered if args.files else ():
        print(f"  {length(path):4} {run[path]:4}  {Path(path).relative_to(CODE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
