"""Command lines: wrong flags, terminals that cannot print a name, and users without a name of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from Code.common.commandline import script_parser

PROJECT = Path(__file__).resolve().parents[2]


def python(code: str, **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if name not in environment}
    given = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env={**kept, **given}, capture_output=True, check=False
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_name_that_the_terminal_cannot_print_is_escaped(encoding: str) -> None:
    code = """
from Code.common.commandline import run_script
from Code.common.errors import UsageError
def main():
    print("\\u5f00\\u5fc3 m\\udcfcller")
    raise UsageError("\\u5f00\\u5fc3: no such file")
raise SystemExit(run_script(main))
"""
    done = python(code, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2, done.stderr
    happy = "开心" if encoding == "utf-8" else "\\u5f00\\u5fc3"
    assert done.stdout.decode().split("\n")[0].rstrip() == f"{happy} m\\udcfcller"
    assert done.stderr.decode().rstrip() == f"error: {happy}: no such file"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="user ids are POSIX")
def test_a_user_id_without_a_name_is_enough() -> None:
    names = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"))
    code = "import os; os.getuid = lambda: 54321; import Code; import getpass; print(getpass.getuser()); import torch"
    done = python(code, **names)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"uid54321\n"
    done = python(code, **{**names, "USER": "anna"})
    assert done.stdout == b"anna\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lerning-rate", "1"], "error: --lerning-rate: no such flag; the nearest one is --learning-rate"),
        (["--zzz=1"], "error: --zzz: no such flag; see --help"),
        (["--learning_rate", "x"], "error: argument --learning-rate: invalid float value: 'x'"),
        (["-z"], "error: unrecognized arguments: -z"),
    ],
)
def test_a_wrong_flag_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = script_parser("Does something.\n\nExample.")
    parser.add_argument("--learning-rate", type=float)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(words)
    assert caught.value.code == 2 and capsys.readouterr().err == f"{line}\n"


def test_hyphens_and_underscores_of_a_flag_are_one() -> None:
    parser = script_parser("Does something.\n\nExample.")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--at_type", type=int)
    for words in (["--batch_size=2", "--at-type", "1"], ["--batch-s", "2", "--at-type=1"], ["--batch-s=2", "--at_t=1"]):
        assert vars(parser.parse_args(words)) == {"batch_size": 2, "at_type": 1}, words
