"""What Prepare_Faces.py has written is input: hostile and damaged records, links, lost faces, two calls at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from Code.faces import prepare as prepare_module
from Code.faces.inputs import find_jobs
from Code.faces.records import Record
from Code.faces.settings import FACES_VERSION
from Code.faces.summary import is_whole
from Prepare_Faces import main
from tests.faces.conftest import run_main

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")

Call = Callable[..., int]
RECORD = Path(".prepared/records/Happy/one.json")


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path], scene_of: Callable[..., Image.Image]
) -> tuple[Path, Path]:
    """Two videos of three frames, and the faces in them."""
    root = tmp_path_factory.mktemp("whole")
    for index, name in enumerate(("Happy/one.mp4", "Sad/two.mp4")):
        write_video(root / "videos" / name, [scene_of((index, 20 + n, 10, 120)) for n in range(3)])
    with pytest.MonkeyPatch.context() as patch:
        flags = ("--device", "cpu", "--workers", 1)
        assert run_main(main, patch, "Prepare_Faces.py", root / "videos", root / "faces", *flags) == 0
    return root / "videos", root / "faces"


@pytest.fixture
def output(whole: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the faces, to be spoiled."""
    return Path(shutil.copytree(whole[1], tmp_path / "out"))


@pytest.fixture
def again(whole: tuple[Path, Path], prepare: Call, output: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls Prepare_Faces.py once more: its exit status, and what it said on stderr."""

    def call(*flags: object) -> tuple[int, str]:
        capsys.readouterr()
        status = prepare(whole[0], output, *flags)
        return status, capsys.readouterr().err.strip()

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def victim(tmp_path: Path) -> Path:
    """A folder of somebody, with a file that is called like a face."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "diary.txt").write_text("precious")
    (folder / "0000000.jpg").write_text("precious, too")
    return folder


HOSTILE = ("", ".", "..", "../victim", "Happy", "Sad/two", ".prepared", ".prepared/settings.json", "faces.csv")
HOSTILE += ("Happy/one/../../../victim", "Happy//one", "./Happy/one", "Happy/one/", "Happy/one_01", "Happy/one\0")


@pytest.mark.parametrize("name", ["{victim}", "/", *HOSTILE])
def test_a_record_cannot_name_what_is_deleted(
    again: Any, output: Path, whole: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    spared = victim(tmp_path)
    for folders in ({name: 3}, {"Happy/one": 3, name: 3}):
        named = {each.format(victim=spared): count for each, count in folders.items()}
        change(output / RECORD, folders=named, source=[0, 0], sizes={})
        before = content(spared)
        status, err = again()
        assert status == 0 and "\n" not in err
        assert err.startswith(f"note: {output / RECORD}: folders: ")
        assert err.endswith("is not a folder of this clip; the clip is prepared again")
        assert content(spared) == before and content(output) == content(whole[1])


@pytest.mark.parametrize("face", ["diary.txt", "../../../victim/0000000.jpg", "{victim}/0000000.jpg", "", "x.jpg"])
def test_a_record_cannot_name_other_files(
    again: Any, output: Path, whole: tuple[Path, Path], tmp_path: Path, face: str
) -> None:
    spared = victim(tmp_path)
    shutil.copy(spared / "diary.txt", output / "Happy" / "one")
    change(
        output / RECORD,
        source=[0, 0],
        folders={"Happy/one": 1},
        sizes={"Happy/one": {face.format(victim=spared): 3}},
    )
    before = content(spared)
    status, err = again()
    assert status == 0 and "sizes: " in err and "is not the name of a face" in err and "\n" not in err
    (output / "Happy" / "one" / "diary.txt").unlink()
    assert content(spared) == before and content(output) == content(whole[1])


@pytest.mark.parametrize("link", ["Happy", "Happy/one", ".prepared", ".prepared/partial", ".prepared/records/Happy"])
@pytest.mark.parametrize("target", ["victim", "out/Sad"])
def test_nothing_is_written_or_deleted_through_a_link(
    again: Any, output: Path, tmp_path: Path, link: str, target: str
) -> None:
    spared = victim(tmp_path)
    (spared / "one").mkdir()
    shutil.copy(spared / "0000000.jpg", spared / "one")
    (spared / "4711").mkdir()
    (spared / "4711" / "diary.txt").write_text("called like a process")
    (spared / "partial" / "4711").mkdir(parents=True)
    change(output / RECORD, source=[0, 0])
    place = output / link
    if place.exists():
        place.rename(tmp_path / "aside")
    place.symlink_to(tmp_path / target)
    before, spared_folders = content(tmp_path), sorted(spared.rglob("*"))
    status, err = again()
    assert status == 2 and "\n" not in err, err
    assert "is a link, and nothing is written through links" in err or "which is not inside" in err
    assert content(tmp_path) == before and sorted(spared.rglob("*")) == spared_folders


def test_files_beside_the_faces_stay(again: Any, output: Path, whole: tuple[Path, Path]) -> None:
    folder = output / "Happy" / "one"
    mine = {"notes.txt": b"mine", "0000099.jpg": b"also mine", "inner/x.jpg": b"mine"}
    (folder / "inner").mkdir()
    for name, data in mine.items():
        (folder / name).write_bytes(data)
    for spoil in (lambda: (folder / "0000001.jpg").unlink(), lambda: change(output / RECORD, source=[0, 0])):
        spoil()
        assert again() == (0, "")
        assert content(folder) == content(whole[1] / "Happy" / "one") | mine
    assert (output / "faces.csv").read_bytes() == (whole[1] / "faces.csv").read_bytes()


def test_files_that_are_called_like_faces_are_not_replaced(again: Any, output: Path) -> None:
    (output / "Sad" / "two" / "0000001.jpg").rename(output / "Sad" / "two" / "0000009.jpg")  # three faces, as before
    record = output / ".prepared" / "records" / "Sad" / "two.json"
    sizes = json.loads(record.read_text())["sizes"]["Sad/two"]
    del sizes["0000001.jpg"]
    change(record, source=[0, 0], folders={"Sad/two": 2}, sizes={"Sad/two": sizes})
    (output / "Sad" / "two" / "0000001.jpg").write_text("mine")
    status, err = again()
    assert status == 2 and "0000001.jpg: exists, and was not made by Prepare_Faces.py; move it away" in err
    assert (output / "Sad" / "two" / "0000001.jpg").read_text() == "mine"


@pytest.mark.parametrize("spoil", ["empty", "missing", "cut", "longer", "folder"])
def test_a_clip_with_a_spoiled_face_is_prepared_again(
    again: Any, output: Path, whole: tuple[Path, Path], spoil: str
) -> None:
    face = output / "Happy" / "one" / "0000001.jpg"
    data = face.read_bytes()
    face.unlink()
    if spoil == "folder":
        shutil.rmtree(face.parent)
    elif spoil != "missing":
        face.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0"}[spoil])
    untouched = (output / "Sad" / "two" / "0000001.jpg").stat().st_mtime_ns
    assert again() == (0, "")
    assert content(output) == content(whole[1])
    assert (output / "Sad" / "two" / "0000001.jpg").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("spoil", ["empty", "missing"])
def test_records_of_earlier_versions_count(again: Any, output: Path, whole: tuple[Path, Path], spoil: str) -> None:
    for path in (output / ".prepared").rglob("*.json"):
        old = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("sizes", "table")}
        old.pop("version")
        path.write_text(json.dumps(old))
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")}
    assert again() == (0, "")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")} == times
    face = output / "Happy" / "one" / "0000001.jpg"
    face.unlink()
    if spoil == "empty":
        face.touch()
    assert again() == (0, "")
    assert content(output / "Happy") == content(whole[1] / "Happy")


@pytest.mark.parametrize("spoil", [None, b"", b"\xff\n", b"Happy/one,0,,,\n"])
def test_rows_of_the_table_that_are_lost_are_made_again(
    again: Any, output: Path, whole: tuple[Path, Path], spoil: bytes | None
) -> None:
    rows = output / f"{RECORD}.csv"
    if spoil is None:
        rows.unlink()
    else:
        rows.write_bytes(spoil)
    assert again() == (0, "")
    assert content(output) == content(whole[1])


BROKEN = {
    b"": "is not JSON",
    b'{"clip": "Happy/one"': "is not JSON",
    b"\xff\xfe": "is not UTF-8",
    b"[" * 100_000: "has brackets within brackets, too many",
    b"null": "expected object, got null",
    b"[]": "expected object, got array",
    b"{}": "has no field",
    b'{"clip": 7, "faces": 7, "source": []}': ": expected str, got int",
    b'{"clip": "Happy/one", "source": "", "fps": "", "faces": 4}': ": expected ",
    b'{"version": 99}': "was written by a newer version of this program (format 99, this one reads up to 1)",
}
RECORDS = {
    b'{"clip": "Sad/two", "source": []}': "clip: is 'Sad/two', not 'Happy/one'",
    b'{"clip": "Happy/one", "source": [], "folders": {"Happy/one": "3"}}': "folders.*: expected int, got str",
    b'{"clip": "Happy/one", "source": [], "folders": ["Happy/one"]}': "folders: expected object, got array",
    b'{"clip": "Happy/one", "source": [], "sizes": {"Happy/one": {}}}': "sizes and folders do not agree",
    b'{"clip": "Happy/one", "source": [], "frames": 3, "faces": 4}': "frames, faces, filled, people and cuts: ",
    b'{"clip": "Happy/one", "source": [], "frames": -1}': "frames, faces, filled, people and cuts: these counts",
    b'{"clip": "Happy/one", "source": [], "folders": {"Happy/one": 3}}': "folders: do not fit the other fields",
}


@pytest.mark.parametrize("data", [*BROKEN, *RECORDS])
def test_the_clip_of_a_damaged_record_is_prepared_again(
    again: Any, output: Path, whole: tuple[Path, Path], data: bytes
) -> None:
    (output / RECORD).write_bytes(data)
    before = content(output)
    status, err = again()
    assert "\n" not in err and f"{output / RECORD}: " in err and {**BROKEN, **RECORDS}[data] in err
    if b"99" in data:
        assert status == 2 and content(output) == before
        return
    assert status == 0 and err.endswith("; the clip is prepared again")
    assert content(output) == content(whole[1])
    assert again() == (0, "")


@pytest.mark.parametrize("name", ["0000001.jpg", "0000042.jpg", ""])
def test_faces_without_a_sound_record_are_not_replaced(
    again: Any, output: Path, whole: tuple[Path, Path], name: str
) -> None:
    """Perhaps they are somebody's. The other clip is prepared, and the message says what helps."""
    folder = output / "Happy" / "one"
    (output / RECORD).write_bytes(b"{}")
    (output / "Sad" / "two" / "0000001.jpg").unlink()
    if not name:
        shutil.rmtree(folder)
    (folder / name).write_bytes(b"not yours")
    before = content(output / "Happy")
    status, err = again()
    assert status == 1 and err.count("\n") == 1
    assert f"skipped: {folder / name}: " in err and err.endswith("is damaged; move it away")
    assert content(output / "Happy") == before and (output / RECORD).read_bytes() == b"{}"
    assert content(output / "Sad") == content(whole[1] / "Sad")
    (folder / name).unlink()
    status, err = again()
    assert status == 0 and "the clip is prepared again" in err
    assert content(output) == content(whole[1])


@pytest.mark.parametrize("data", BROKEN)
def test_damaged_settings_are_named(again: Any, output: Path, data: bytes) -> None:
    (output / ".prepared" / "settings.json").write_bytes(data)
    before = content(output)
    status, err = again()
    assert status == 2 and "\n" not in err
    assert "settings.json: " in err and BROKEN[data] in err and ("name another output" in err or "update" in err)
    assert content(output) == before


def test_clips_of_two_versions_are_not_mixed(again: Any, output: Path, whole: tuple[Path, Path]) -> None:
    settings = output / ".prepared" / "settings.json"
    assert json.loads(settings.read_text())["made_by"] == FACES_VERSION
    plain = json.loads(settings.read_text())
    del plain["made_by"]  # as version 1 left it
    settings.write_text(json.dumps(plain))
    assert again() == (0, "")  # all clips are finished

    shutil.rmtree(output / "Happy" / "one")
    before = content(output)
    status, err = again()
    assert status == 2
    assert err == (
        f"error: {output}: 1 of 2 clips prepared by another version of this program, which cuts out faces a little "
        "differently; name another output folder, or delete this one to prepare all clips again"
    )
    assert content(output) == before

    shutil.rmtree(output / "Sad" / "two")  # nothing is left to be mixed with
    assert again() == (0, "")
    assert content(output) == content(whole[1])


def test_a_second_call_says_who_prepares_there(again: Any, output: Path, whole: tuple[Path, Path]) -> None:
    code = (
        "import sys, time; from pathlib import Path; from Code.faces.records import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    (output / "Happy" / "one" / "0000001.jpg").unlink()
    part = output / ".prepared" / "partial" / "4711" / "Happy" / "one" / "0000000.jpg"
    part.parent.mkdir(parents=True)
    part.write_text("half a clip of the first call")
    with subprocess.Popen([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        before = content(output)
        status, err = again()
        assert status == 2 and f"process {first.pid} on " in err and ", since 2" in err and "\n" not in err
        assert content(output) == before
        first.kill()
    assert again() == (0, "")
    assert content(output) == content(whole[1])


def test_files_of_the_reports_names_are_not_overwritten(
    whole: tuple[Path, Path], prepare: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("list.txt", "list_eval.txt", "summary.json", "faces.csv"):
        mine = tmp_path / name.replace(".", "_")
        mine.mkdir()
        (mine / name).write_text("mine")
        assert prepare(whole[0], mine) == 2
        err = capsys.readouterr().err
        assert f"{mine / name}: exists, and was not made by Prepare_Faces.py; move it away" in err
        assert (mine / name).read_text() == "mine"


def test_faces_stay_when_the_input_cannot_be_read_any_more(
    whole: tuple[Path, Path], prepare: Call, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = Path(shutil.copytree(whole[0], tmp_path / "videos"))
    (videos / "Happy" / "one.mp4").write_bytes(b"")
    assert prepare(videos, output) == 1
    assert "one.mp4: an empty file" in capsys.readouterr().err
    assert content(output / "Happy") == content(whole[1] / "Happy")
    assert (output / "list.txt").read_text() == "Sad/two\tSad\n"
    shutil.copy2(whole[0] / "Happy" / "one.mp4", videos / "Happy")
    assert prepare(videos, output) == 0
    assert (output / "list.txt").read_text() == "Happy/one\tHappy\nSad/two\tSad\n"


def test_the_mark_comes_last_and_goes_first(
    again: Any, output: Path, whole: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_whole(output)
    (output / "Happy" / "one" / "0000001.jpg").unlink()
    with monkeypatch.context() as patch:

        def stop(*args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(prepare_module, "save_record", stop)
        assert again()[0] == 130
    assert not (output / "summary.json").exists() and not is_whole(output)
    assert again() == (0, "")
    assert is_whole(output)
    lines = (output / "faces.csv").read_text().splitlines(keepends=True)
    mark = json.loads((output / "summary.json").read_text())["files"]["faces.csv"]
    assert mark["lines"] == len(lines) == 7
    (output / "faces.csv").write_text("".join(lines[:-1]))
    assert not is_whole(output)
    assert again() == (0, "")
    assert content(output) == content(whole[1])


def test_faces_are_on_the_disk_before_their_record(again: Any, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (output / "Happy" / "one" / "0000001.jpg").unlink()
    flushed: list[str] = []
    fsync, save = os.fsync, prepare_module.save_record

    def note(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def check(place: Path, record: Record, rows: str) -> None:
        assert flushed[-1] == "one" and sorted(flushed[-4:-1]) == ["0000000.jpg", "0000001.jpg", "0000002.jpg"]
        save(place, record, rows)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(prepare_module, "save_record", check)
    assert again() == (0, "")


def test_leftovers_of_killed_calls_go(again: Any, output: Path, whole: tuple[Path, Path]) -> None:
    for name in ("faces.csv", "summary.json", ".prepared/records/Happy/one.json", ".prepared/records/Sad/two.json.csv"):
        path = output / name
        path.with_name(f".{path.name}.{10**12}.tmp").write_text("half")
    (output / ".prepared" / "partial" / "4711").mkdir(parents=True)
    (output / ".prepared" / "partial" / "4711" / "0000000.jpg").write_text("half")
    (output / ".prepared" / "partial" / "mine").mkdir()
    assert again() == (0, "")
    assert content(output) == content(whole[1])
    assert [path.name for path in (output / ".prepared" / "partial").iterdir()] == ["mine"]


def test_names_of_dots_are_names(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    picture = [Image.new("RGB", (64, 48))]
    names = {"...mp4": "clip", "....mp4": "clip", ".prepared.mp4": "prepared"}
    for name, clip in names.items():
        (job,), _ = find_jobs(write_video(tmp_path / "videos.mp4", picture).rename(tmp_path / name))
        assert job.name == clip
    (tmp_path / "..frames").mkdir()
    picture[0].save(tmp_path / "..frames" / "1.png")
    assert [job.name for job in find_jobs(tmp_path / "..frames")[0]] == ["frames"]
