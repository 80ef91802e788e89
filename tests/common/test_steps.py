"""Commands in a row: what is done is skipped, what failed or changed is done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import pytest

from Code.common.json_files import StateError
from Code.common.steps import PROJECT, StepError, Steps, fingerprint, script, show

COUNT = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"


def count(path: Path, word: str = "x", status: int = 0) -> list[str]:
    """A command that leaves a trace and ends with a status."""
    return ["-c", COUNT, str(path), word, str(status)]


def test_done_steps_are_skipped_until_something_changes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trace, source = tmp_path / "trace", tmp_path / "source"
    source.write_text("one")

    def call(word: str = "x", there: bool = True) -> str:
        Steps(tmp_path / "steps.json").run("trace", count(trace, word), fingerprint([source]), there=lambda: there)
        return trace.read_text()

    assert call() == "x" and "1. trace\n   " in capfd.readouterr().out
    assert call() == "x" and "1. trace: done before\n" in capfd.readouterr().out
    assert call("y") == "xy", "another command"
    source.write_text("two")
    assert call("y") == "xyy", "other inputs"
    assert call("y", there=False) == "xyyy", "results that are gone"
    source.unlink()
    assert call("y") == "xyyyy", "an input that is gone"
    entry = json.loads((tmp_path / "steps.json").read_text())["trace"]
    assert entry["done"] and entry["seconds"] >= 0 and "python -c" in entry["shown"]


def test_a_step_whose_results_were_changed_is_done_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for content, then in (("", "x"), ("x", "x"), ("edited", "editedx"), ("editedx", "editedx")):
        if content:
            trace.write_text(content)
        Steps(tmp_path / "steps.json").run("trace", count(trace), "", results=[trace])
        assert trace.read_text() == then
    steps = json.loads((tmp_path / "steps.json").read_text())
    del steps["trace"]["results"]  # as of an earlier version
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    trace.write_text("who knows")
    Steps(tmp_path / "steps.json").run("trace", count(trace), "", results=[trace])
    assert trace.read_text() == "who knows"


def test_a_failure_stops_and_is_done_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    steps = Steps(tmp_path / "steps.json")
    with pytest.raises(StepError, match=r"stopped in step 1. bad; .* same command resumes here") as caught:
        steps.run("bad", count(trace, status=3), "")
    assert caught.value.status == 3
    again = Steps(tmp_path / "steps.json")
    assert again.begun("bad", count(trace, status=3), "") and not again.begun("bad", count(trace), "")
    again.run("bad", count(trace, status=3), "", instead=count(trace, "z"))
    assert trace.read_text() == "xz"
    again.run("bad", count(trace, status=3), "")
    assert trace.read_text() == "xz", "done by the command that finished it"
    again.run("warned", count(trace, status=1), "", passes=lambda status: status < 2)
    assert trace.read_text() == "xzx"


MAKE = "import sys; from pathlib import Path; from Code.common.steps import note_folder as n; n(Path(sys.argv[1]))"


def test_a_step_knows_the_folder_that_it_made(tmp_path: Path) -> None:
    def steps() -> Steps:
        return Steps(tmp_path / "steps.json")

    def files() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    first = steps()
    assert first.made("make") == ""
    first.run("make", ["-c", MAKE, "a/one"], "")
    assert first.made("make") == steps().made("make") == "one" and files() == ["steps.json"]
    steps().run("make", ["-c", MAKE, "a/two"], "")
    assert steps().made("make") == "two"

    killed = ["-c", f"{MAKE}; sys.exit(3)", "a/three"]
    with pytest.raises(StepError):
        steps().run("make", killed, "")
    again = steps()
    assert again.begun("make", killed, "") and again.made("make") == "three" and len(files()) == 2
    with pytest.raises(StepError):  # resumed, and stopped before it noted anything
        again.run("make", killed, "", instead=["-c", "raise SystemExit(1)"])
    assert steps().made("make") == "three"
    with pytest.raises(StepError):  # begun anew: what an earlier start made does not count
        steps().run("make", ["-c", "raise SystemExit(1)"], "")
    assert steps().made("make") == "" and files() == ["steps.json"]


def test_what_killed_calls_have_left_beside_the_file_goes(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    (tmp_path / "steps.json").write_text(
        json.dumps({"make": {"command": [], "inputs": "", "done": False, "token": token}})
    )
    names = [f".steps-{token}.json", ".steps-fedcba9876543210.json", ".steps-mine.json", "notes.txt"]
    names += [f".{name}.{10**12}.tmp" for name in ("steps.json", "clips.csv", "other.csv")]
    for name in names:
        (tmp_path / name).touch()
    Steps(tmp_path / "steps.json", ("clips.csv",))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*(names[at] for at in (0, 2, 3, 6)), "steps.json"])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"half a fi", "is not JSON"),
        (b"\xff", "is not UTF-8 (byte 0)"),
        (b"[" * 100_000, "has brackets within brackets"),
        (b"[]", "expected object, got array"),
        (b'{"faces": 3}', "*: expected object, got int"),
        (b'{"faces": {"command": "x", "inputs": "", "done": true}}', "*.command: expected array, got str"),
        (b'{"faces": {"command": [], "inputs": "", "done": "yes"}}', "*.done: expected bool, got str"),
        (b'{"faces": {"command": [], "inputs": "", "done": false, "token": "../../x"}}', "is not made of 16 digits"),
        (b'{"version": 9, "faces": 3}', "was written by a newer version of this program (format 9"),
    ],
)
def test_a_damaged_file_of_steps_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "steps.json").write_bytes(data)
    with pytest.raises(StateError) as caught:
        Steps(tmp_path / "steps.json")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'steps.json'}: ") and says in text and "\n" not in text
    assert text.endswith(("; delete it to do every step again", "; update the program"))


def test_commands_are_shown_as_they_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(PROJECT)
    assert show([script("Prepare_Faces.py"), "my videos"]) == "python Prepare_Faces.py 'my videos'"
    monkeypatch.chdir(tmp_path)
    assert show([script("Prepare_Faces.py"), "videos"]) == f"python {quote(f'{PROJECT}/Prepare_Faces.py')} videos"
    shown = show(["-m", "Code.readers.heldout", "faces"])
    assert shown == f"PYTHONPATH={quote(str(PROJECT))} python -m Code.readers.heldout faces"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_terminated_row_takes_its_step_with_it(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    program = f"from Code.common.steps import run_python; run_python(['-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
    pid, limit = tmp_path / "pid", time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < limit:
        time.sleep(0.02)
    number = int(pid.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_fingerprint_of_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    names = [tmp_path / "m\udcfcller.mp4", tmp_path / "m\udce4ller.mp4"]
    assert len({fingerprint([name]) for name in names}) == 2
