"""Where a script runs: terminals that cannot print a name, and users without a name of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
