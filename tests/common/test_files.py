"""Temporary files that killed processes have left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from Code.common.files import is_alive, regular, remove_leftovers, save_text


@pytest.mark.skipif(os.name != "posix", reason="only there it is known whether a process is alive")
def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead = ended.pid
    gone = [f".a.csv.{dead}.tmp", f".a.b.csv.{dead}.tmp", f".a.csv.{10**30}.tmp", f".talk.mp4.{dead}.tmp.mp4"]
    kept = [
        *(f".a.csv.{os.getpid()}.tmp", ".a.csv.1.tmp", f".a.txt.{dead}.tmp", f"a.csv.{dead}.tmp", ".a.csv.tmp"),
        *(f".a.csv.{dead}.tmp.old.zip", "a.csv", f".a.csv.x{dead}.tmp"),
    ]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
    (tmp_path / f".folder.csv.{dead}.tmp").mkdir()
    remove_leftovers(tmp_path, lambda name: name.endswith((".csv", ".mp4")))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, f".folder.csv.{dead}.tmp"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_what_may_block_or_never_end_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with open(tmp_path / "file", opener=regular) as file:
        assert file.read() == "content"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            regular(str(path), os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        regular(str(tmp_path), os.O_RDONLY)
    with pytest.raises(OSError, match=str(tmp_path)):
        regular(str(tmp_path / "pipe"), os.O_WRONLY)
    with open(tmp_path / "new", "a", opener=regular) as file:
        file.write("a line")
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o666 & ~_umask()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", "/dev/stdout", "/dev/new", "/proc/self/new", tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            save_text("text", path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    (tmp_path / "link").symlink_to("nowhere")
    save_text("text", tmp_path / "link")
    assert (tmp_path / "link").read_text() == "text"


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says that a process is a zombie")
def test_a_process_that_ended_unnoticed_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert not is_alive(process.pid) and is_alive(os.getpid())
    process.wait()
    assert not is_alive(process.pid)
