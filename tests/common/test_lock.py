"""One writer to a folder."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from Code.common.errors import UsageError
from Code.common.lock import FolderInUseError, one_writer

HOLD = """
import sys, time
from pathlib import Path
from Code.common.lock import one_writer
with one_writer(Path(sys.argv[1])):
    if len(sys.argv) > 2:  # a process that shares what its parent has open
        import os
        if os.fork() == 0:
            print("held", flush=True); time.sleep(60); os._exit(0)
    else:
        print("held", flush=True)
    time.sleep(60)
"""


def holder(folder, *more):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_says_who_writes(tmp_path):
    folder = tmp_path / "run"
    process = holder(folder)
    try:
        with pytest.raises(FolderInUseError) as caught, one_writer(folder):
            raise AssertionError("two writers")
    finally:
        process.kill()
        process.wait()
    assert f"process {process.pid} on {socket.gethostname()}, since 20" in str(caught.value)
    assert caught.value.status == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [(), ("child",)])
def test_a_killed_process_locks_nobody_out(tmp_path, more):
    process = holder(tmp_path / "run", *more)
    os.kill(process.pid, signal.SIGKILL)  # its child, if it has one, lives on
    process.wait()
    with one_writer(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / ".writer.json").read_text()
    assert list((tmp_path / "run").iterdir()) == []


def test_the_lock_ends_with_an_error_and_with_the_folder(tmp_path):
    with pytest.raises(KeyError), one_writer(tmp_path / "run"):
        raise KeyError
    with one_writer(tmp_path / "run"):
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()


def test_a_damaged_note_of_the_writer(tmp_path):
    process = holder(tmp_path)
    (tmp_path / ".writer.json").write_text("[[[")
    try:
        with pytest.raises(FolderInUseError, match="another process writes there"), one_writer(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    done = []
    with one_writer(tmp_path / "run"):
        done.append(1)
    assert done and capsys.readouterr().err.count("has no locks (No locks available)") == 1


@pytest.mark.parametrize("name", [".lock", ".writer.json"])
def test_a_folder_in_place_of_a_file(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="cannot be written"), one_writer(tmp_path):
        pass
    (tmp_path / name).rmdir()
    with one_writer(tmp_path):  # the lock was given back
        pass


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="cannot be written"), one_writer(tmp_path / "run"):
        pass


def test_what_a_kill_left_of_the_file_that_says_who_writes_is_removed(tmp_path):
    left, other = tmp_path / "..writer.json.999999999.tmp", tmp_path / ".notes.999999999.tmp"
    left.touch()
    other.touch()
    with one_writer(tmp_path):
        assert not left.exists() and other.exists()
