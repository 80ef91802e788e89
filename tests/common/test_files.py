"""Files and folders are whole or not there, and a folder has one writer."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from Code.common.errors import UsageError
from Code.common.files import (
    atomic_file,
    atomic_text,
    one_writer,
    regular,
    save_text,
    writing_folder,
)


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    save_text("first\n", path)
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "first\n" and [entry.name for entry in path.parent.iterdir()] == ["a.csv"]
    with atomic_text(path, newline="", errors="surrogateescape") as text:
        text.write("m\udcfcller\r\n")
    assert path.read_bytes() == b"m\xfcller\r\n"


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "clips" / "a"
    with writing_folder(folder) as draft:
        (draft / "face").mkdir()
        (draft / "face" / "1.jpg").write_text("first")
        assert not folder.exists()
    for replace in (False, True):
        with pytest.raises(KeyError), writing_folder(folder, replace=replace) as draft:
            (draft / "2.jpg").write_text("half")
            raise KeyError
    with pytest.raises(OSError), writing_folder(folder) as draft:
        (draft / "2.jpg").write_text("second")
    assert (folder / "face" / "1.jpg").read_text() == "first" and len(list(folder.parent.iterdir())) == 1
    with writing_folder(folder, replace=True) as draft:
        (draft / "2.jpg").write_text("second")
    assert [path.name for path in folder.iterdir()] == ["2.jpg"] and len(list(folder.parent.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="only there it is known whether a process is alive")
def test_the_next_writer_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    dead = dead_process()
    kept = {f".a.csv.{os.getppid()}.tmp.csv", f".b.csv.{dead}.tmp.csv", f"a.csv.{dead}.tmp.csv", ".a.csv.tmp"}
    for name in (*kept, f".a.csv.{dead}.tmp.csv"):
        (tmp_path / name).touch()
    save_text("", tmp_path / "a.csv")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.csv"}
    (tmp_path / f".clip.{dead}.tmp" / "face").mkdir(parents=True)
    with writing_folder(tmp_path / "clip"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.csv", "clip"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_what_may_block_or_never_end_is_neither_opened_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with open(tmp_path / "file", opener=regular) as file:
        assert file.read() == "content"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            regular(str(path), os.O_RDONLY)
    with pytest.raises(OSError, match="a folder"):
        regular(str(tmp_path), os.O_RDONLY)
    for name in ("/dev/null", "/dev/stdout", "/dev/new", "/proc/self/new", tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            save_text("text", name)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


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
            with pytest.raises(UsageError, match="another process writes there") as caught, one_writer(folder):
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


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch, capsys):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with one_writer(tmp_path / "run"):
        save_text("", tmp_path / "run" / "args.json")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["args.json"]
    assert "has no locks" in capsys.readouterr().out
