"""The cache of frames: the same pixels everywhere, and files that are outdated, damaged or built by two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from Code.common.files import in_words
from Code.data.cache import CHUNK_FRAMES, HEADER_BYTES, CacheError, CacheFile
from Code.data.clips import Clip, ClipSet, DataError
from Code.data.stores import FileStore
from Code.readers.folders import read_folders
from Code.training import frames
from Code.training.frames import choose_cache, open_stores

SIZE, CPU = 12, torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


def silent(line: str) -> None:
    pass


def write_clips(root: Path, lengths: tuple[int, ...] = (5, 40, 7), side: int = 16) -> ClipSet:
    """Clips of noise with 52 frames, which are two chunks of work."""
    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        folder = root / "Happy" / f"clip{number}"
        folder.mkdir(parents=True)
        for frame in range(length):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{frame}.jpg")
    return read_folders(root)


@pytest.fixture
def clips(tmp_path: Path) -> ClipSet:
    return write_clips(tmp_path / "frames")


@pytest.fixture
def decoded(clips: ClipSet) -> torch.Tensor:
    return FileStore(clips, SIZE).read(np.arange(52))


def build(clips: ClipSet, folder: Path, workers: int = 0) -> tuple[torch.Tensor, list[str]]:
    """All frames read through the cache, and the lines that it printed."""
    said: list[str] = []
    store = CacheFile(clips, SIZE, folder).open(workers, said.append)
    return store.read(np.arange(52)), said


def spoil(path: str, keep: bool) -> None:
    """Overwrites a frame with as many bytes. With `keep`, its times stay the same and do not show the change."""
    status = os.stat(path)
    Path(path).write_bytes(b"x" * status.st_size)
    if keep:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("mode", ["none", "disk", "device"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_the_same_under_every_cache(clips, decoded, tmp_path, mode, workers):
    choice = choose_cache(mode, 52, SIZE, CPU, tmp_path)
    assert choice.mode == mode
    (store,) = open_stores([clips], SIZE, choice, folder=tmp_path / "cache", device=CPU, workers=workers, say=silent)
    ids = np.array([51, 0, 7, 7, 33, 12])
    assert torch.equal(store.read(ids), decoded[ids])
    assert torch.equal(store.read(np.arange(52)), decoded)
    assert store.read(ids).is_contiguous(memory_format=torch.channels_last)
    assert (tmp_path / "cache").exists() == (mode == "disk")


def test_second_run_decodes_nothing_and_device_takes_the_file_too(clips, decoded, tmp_path):
    assert CHUNK_FRAMES < 52
    pixels, said = build(clips, tmp_path / "cache", workers=2)
    assert torch.equal(pixels, decoded) and len(said) == 1 and "decoding 52 frames" in said[0]
    for clip in clips.clips:
        for path in clip.paths:
            spoil(path, keep=True)
    pixels, said = build(clips, tmp_path / "cache")
    assert torch.equal(pixels, decoded) and said == []
    choice = choose_cache("device", 52, SIZE, CPU, tmp_path)
    (store,) = open_stores([clips], SIZE, choice, folder=tmp_path / "cache", device=CPU, workers=0, say=silent)
    assert torch.equal(store.read(np.arange(52)), decoded)


def test_frame_that_changed_makes_the_cache_stale_and_it_is_replaced(clips, decoded, tmp_path):
    build(clips, tmp_path / "cache")
    path = clips.clips[1].path(3)
    status = os.stat(path)
    Image.new("RGB", (16, 16), (200, 10, 10)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    pixels, said = build(clips, tmp_path / "cache")
    assert "because frames changed" in said[0]
    assert not torch.equal(pixels[8], decoded[8])
    assert torch.equal(pixels, FileStore(clips, SIZE).read(np.arange(52)))
    assert len(list((tmp_path / "cache").glob("*.frames"))) == 1


def test_sizes_and_sets_have_files_of_their_own(clips, tmp_path):
    fewer = ClipSet(clips.clips[:2], clips.labels, 2, [], clips.root)
    paths = {
        CacheFile(clips, 12, tmp_path).path,
        CacheFile(clips, 13, tmp_path).path,
        CacheFile(fewer, 12, tmp_path).path,
    }
    assert len(paths) == 3


@pytest.mark.parametrize("damage", ["header", "other format", "cut", "longer", "empty", "checksums", "folder"])
def test_damaged_file_is_noticed_and_built_anew(clips, decoded, tmp_path, damage):
    build(clips, tmp_path / "cache")
    cache = CacheFile(clips, SIZE, tmp_path / "cache")
    content = bytearray(cache.path.read_bytes())
    assert cache.fault() is None and len(content) == cache.size
    if damage == "header":
        content[:40] = os.urandom(40)
    elif damage == "other format":
        content[:HEADER_BYTES] = b"[1, 2]".ljust(HEADER_BYTES, b"\0")
    elif damage == "cut":
        content = content[:-1]
    elif damage == "longer":
        content += b"\0"
    elif damage == "empty":
        content = bytearray()
    elif damage == "checksums":
        content[HEADER_BYTES + 5] ^= 1
    if damage == "folder":
        cache.path.unlink()
        cache.path.mkdir()
        with pytest.raises(CacheError, match="cannot be written"):
            build(clips, tmp_path / "cache")
        return
    cache.path.write_bytes(content)
    assert cache.fault() is not None
    pixels, said = build(clips, tmp_path / "cache")
    assert torch.equal(pixels, decoded) and "built again" in said[0]
    assert cache.fault() is None and build(clips, tmp_path / "cache")[1] == []


def test_damaged_frame_is_decoded_anew_and_put_right(clips, decoded, tmp_path, caplog):
    build(clips, tmp_path / "cache")
    cache = CacheFile(clips, SIZE, tmp_path / "cache")
    with cache.path.open("r+b") as file:
        file.seek(cache.pixels_at + 7 * cache.frame_bytes + 100)
        file.write(b"\x00\xff\x00\xff")
    pixels, said = build(clips, tmp_path / "cache")
    assert torch.equal(pixels, decoded) and said == []
    assert "frame 7 was damaged; decoded again, repaired" in caplog.text
    caplog.clear()
    assert torch.equal(build(clips, tmp_path / "cache")[0], decoded) and caplog.text == ""


def test_unreadable_frames_are_all_named_and_leave_no_cache(clips, tmp_path):
    bad = [clips.clips[0].path(2), clips.clips[1].path(39)]
    for path in bad:
        Path(path).write_bytes(b"<html>")
    for workers in (0, 2):
        with pytest.raises(DataError) as caught:
            build(clips, tmp_path / "cache", workers)
        assert [line.split(": ")[0] for line in caught.value.problems] == bad
        assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


# Other processes

BUILDER = """
import sys
from pathlib import Path
import numpy as np
from Code.data.cache import CacheFile
from Code.readers.folders import read_folders
from Code.common.commandline import run_script

def main():
    root, folder, limit = sys.argv[1:4]
    if limit != "0":
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    said = []
    store = CacheFile(read_folders(root), 64, Path(folder)).open(int(sys.argv[4]), said.append)
    print(sum("decoding" in line for line in said), int(store.read(np.arange(52)).long().sum()))
    return 0

sys.exit(run_script(main))
"""


def start_builder(clips: ClipSet, folder: Path, limit: int = 0, workers: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILDER, clips.root, str(folder), str(limit), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1)


def test_of_two_runs_that_want_the_same_cache_one_builds_it(clips, tmp_path):
    builders = [start_builder(clips, tmp_path / "cache", workers=number) for number in (0, 1)]
    outcomes = [builder.communicate(timeout=120) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], outcomes
    built, sums = zip(*(map(int, out.split()) for out, _ in outcomes), strict=True)
    assert sum(built) == 1
    assert set(sums) == {int(FileStore(clips, 64).read(np.arange(52)).long().sum())}


def test_killed_builder_leaves_no_cache_and_stands_in_nobodys_way(tmp_path):
    clips = write_clips(tmp_path / "frames", (5, 40, 7), side=1500)  # slow enough to be interrupted
    builder = start_builder(clips, tmp_path / "cache")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*.partial")):
        assert time.monotonic() < deadline and builder.poll() is None
        time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert list((tmp_path / "cache").glob("*.partial")) and not list((tmp_path / "cache").glob("*.frames"))
    store = CacheFile(clips, 64, tmp_path / "cache").open(0, silent)
    assert torch.equal(store.read(np.arange(52)), FileStore(clips, 64).read(np.arange(52)))
    assert not list((tmp_path / "cache").glob("*.partial"))


@pytest.mark.parametrize("limit", [50_000, 400_000])
def test_no_room_is_one_clear_line_and_leaves_nothing_broken(clips, tmp_path, limit):
    builder = start_builder(clips, tmp_path / "cache", limit=limit)
    out, err = builder.communicate(timeout=120)
    assert builder.returncode == 2 and out == ""
    assert err.startswith("error: --cache disk: ") and err.count("\n") == 1
    assert "--cache-dir" in err and "--cache none" in err and "KiB" not in err
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


# What auto chooses


def test_auto_goes_by_size_and_free_room_and_says_so(tmp_path, monkeypatch):
    def chosen(frames: int, device: torch.device = CPU) -> str:
        return choose_cache("auto", frames, 224, device, tmp_path / "not" / "there").mode

    frame = 224 * 224 * 3
    monkeypatch.setattr(frames, "free_disk", lambda folder: 1000 * frame)
    monkeypatch.setattr(frames, "total_memory", lambda: 2000 * frame)
    assert chosen(900) == "disk" and chosen(901) == "none"
    monkeypatch.setattr(frames, "total_memory", lambda: 500 * frame)
    assert chosen(400) == "disk" and chosen(401) == "none"
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * frame, 0))
    assert chosen(50, gpu) == "device" and chosen(51, gpu) == "disk" and chosen(401, gpu) == "none"
    reason = choose_cache("auto", 51, 224, gpu, tmp_path).reason
    assert reason.startswith("auto: 7.32 MiB of frames") and "free on the GPU" in reason and str(tmp_path) in reason


def test_frames_that_do_not_fit_the_memory_are_refused(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "free_memory", lambda: 1000)
    choice = choose_cache("device", 52, SIZE, CPU, tmp_path)
    with pytest.raises(CacheError, match=r"--cache device: .* do not fit"):
        open_stores([clips], SIZE, choice, folder=tmp_path, device=CPU, workers=0, say=silent)


def test_rooms_are_measured_on_this_machine(tmp_path):
    assert 0 < frames.free_memory() <= frames.total_memory()
    assert frames.free_disk(tmp_path / "a" / "b") > 0
    assert in_words(3 * 2**30) == "3.0 GiB" and in_words(2**19) == "0.5 MiB"


def test_names_that_are_no_text_get_a_cache_too(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)
    Image.new("RGB", (16, 16)).save(os.path.join(folder, "a.png"))
    clips = ClipSet([Clip("caf", folder, ("a.png",), 0)], ("a",), 1, [], folder)
    store = CacheFile(clips, SIZE, tmp_path / "cache").open(0, silent)
    assert store.read(np.array([0])).sum() == 0
