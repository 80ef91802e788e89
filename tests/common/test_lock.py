"""One writer to a folder."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from Code.common.errors import UsageError
from Code.common.files import FolderInUseError, one_writer

HOLD = """
import sys, time
from pathlib import Path
from Code.common.files import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_ends(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            with pytest.raises(FolderInUseError, match="another process writes there") as caught, one_writer(folder):
                raise AssertionError("two writers")
        finally:
            process.kill()
    assert caught.value.status == 2
    with one_writer(folder):
        pass
    assert list(folder.iterdir()) == []


def test_the_lock_ends_with_an_error_and_with_the_folder(tmp_path):
    with pytest.raises(KeyError), one_writer(tmp_path / "run"):
        raise KeyError
    with one_writer(tmp_path / "run"):
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    done = []
    with one_writer(tmp_path / "run"):
        done.append(1)
    assert done and capsys.readouterr().err.count("has no locks (No locks available)") == 1


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="cannot be written"), one_writer(tmp_path / "run"):
        pass
