"""Reading videos and folders of frames: order, times, which stream is the clip, and files that are broken."""

from __future__ import annotations

import math
import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from Code.data.clips import DataError
from Code.faces import video
from Code.faces.decoder import Clock, decoded
from Code.faces.inputs import frame_numbers
from Code.faces.live import camera_frames
from Code.faces.render import VideoWriter
from Code.faces.video import FileSource
from tests.faces.conftest import Write, plain

av: Any = pytest.importorskip("av", reason="videos need PyAV")


COVER, DEFAULT, NONE = av.stream.Disposition.attached_pic, av.stream.Disposition.default, av.stream.Disposition(0)


def encode(path: Path, *streams: tuple[str, list[Image.Image], Any], rate: int = 10) -> Path:
    """A file of several streams: codec, pictures and disposition of each."""
    with av.open(str(path), "w") as container:
        made = []
        for codec, pictures, disposition in streams:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height = pictures[0].size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        for stream, (_, pictures, _) in zip(made, streams, strict=True):
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
    return path


def test_folder_is_read_in_natural_order_and_pictures_upright(tmp_path: Path) -> None:
    upright = np.zeros((6, 4, 3), dtype=np.uint8)
    upright[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(np.rot90(upright)).save(tmp_path / "f10.png", exif=exif)
    Image.fromarray(upright[..., 0]).save(tmp_path / "f9.png")
    Image.fromarray(np.dstack([upright, upright[..., 0]])).save(tmp_path / "f2.png")
    (tmp_path / ".f1.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("no picture")
    source = FileSource(tmp_path)
    read = list(source.frames())
    assert (source.total, source.is_video) == (3, False)
    assert [(frame.name, frame.number) for frame in read] == [("f2.png", 2), ("f9.png", 9), ("f10.png", 10)]
    for frame in read:
        assert math.isnan(frame.time)
        np.testing.assert_array_equal(frame.image, upright)


def test_frames_are_numbered_by_their_names_where_these_tell_them_apart() -> None:
    assert frame_numbers([Path(f"S005_001_{number:08d}.png") for number in (1, 2, 11)]) == [1, 2, 11]
    for names in (("a.png", "b7.png"), ("a_1.png", "b_1.png"), ("a_2.png", "b_1.png")):
        assert frame_numbers([Path(name) for name in names]) is None


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.avi", "mjpeg"), ("clip.mkv", "ffv1"), ("clip.webm", "libvpx")]
)
def test_video_frames_come_in_order_with_their_times(write_video: Write, tmp_path: Path, name: str, codec: str) -> None:
    levels = [0, 40, 80, 120, 160, 200]
    source = FileSource(write_video(tmp_path / name, [plain(level) for level in levels], codec=codec))
    read = list(source.frames())
    assert (source.is_video, source.problems) == (True, [])
    assert source.total in (None, len(levels))
    assert [frame.name for frame in read] == [f"{number:07d}" for number in range(6)]
    np.testing.assert_allclose([frame.time for frame in read], np.arange(6) / 10, atol=2e-3)
    assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in read)
    np.testing.assert_allclose([frame.image.mean() for frame in read], levels, atol=6)


def test_uneven_times_are_kept_and_thinned_by_time(write_video: Write, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.21, 1.22]
    source = FileSource(write_video(tmp_path / "uneven.mkv", [plain(0)] * 8, codec="ffv1", times=times))
    np.testing.assert_allclose([frame.time for frame in source.frames()], times, atol=2e-3)
    assert [frame.number for frame in source.frames(fps=2)] == [0, 3, 5]  # keeps the numbers of the source
    assert [frame.number for frame in source.frames(wanted=[1, 6])] == [1, 6]


@pytest.mark.parametrize("kept", [True, False])
def test_a_short_video_is_decoded_once_a_long_one_twice(
    write_video: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    path = write_video(tmp_path / "clip.mkv", [plain(40 * n) for n in range(6)], codec="ffv1")
    monkeypatch.setattr(video, "KEPT_BYTES", 3 * 48 * 64 * 6 - (not kept))
    source = FileSource(path)
    first = list(source.frames())
    (again,) = source.frames(wanted=[4])
    assert (again.image is first[4].image) == kept
    source.quarter_turns = 1
    assert [frame.image.shape for frame in source.frames(wanted=[1, 4])] == [(64, 48, 3)] * 2


def test_files_that_are_no_videos_are_named(tmp_path: Path, write_video: Write) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "notes.txt").write_text("Happy/01.mp4 0\nSad/02.mp4 1\n" * 20)  # ffmpeg would draw it as a terminal
    strange = write_video(tmp_path / "strange.mov", [plain(0)] * 3, codec="mjpeg")
    strange.write_bytes(strange.read_bytes().replace(b"jpeg", b"zz9v"))
    for name, reason in (
        ("sound.wav", "only audio"),
        ("empty.mp4", "empty"),
        ("noise.mp4", "damaged"),
        ("notes.txt", "a text file, not a video"),
        ("strange.mov", "ffmpeg does not know its codec"),
        ("m\udcfcller.mp4", "the name is not valid UTF-8"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            list(FileSource(tmp_path / name).frames())
        (problem,) = caught.value.problems
        assert name.encode("ascii", "backslashreplace").decode() in problem


def test_what_can_be_read_of_a_damaged_video_is_read_and_the_damage_is_told(write_video: Write, tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.avi", [plain(10 * (n % 20)) for n in range(60)], codec="mjpeg")
    content = path.read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    source = FileSource(tmp_path / "half.avi")
    assert 15 < len(list(source.frames())) < 45
    assert source.problems and all("half.avi" in problem for problem in source.problems)


def test_one_broken_image_of_a_folder_is_told_and_all_broken_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: not an image"):
        list(FileSource(tmp_path).frames())
    Image.new("RGB", (8, 8)).save(tmp_path / "2.png")
    source = FileSource(tmp_path)
    assert [frame.number for frame in source.frames()] == [2]
    assert "1.png" in source.problems[0]


def test_a_cover_picture_is_not_the_clip(tmp_path: Path) -> None:
    cover = ("mjpeg", [plain(250, (32, 32))], COVER)
    path = encode(tmp_path / "tagged.mp4", cover, ("mpeg4", [plain(20)] * 5, DEFAULT))
    read = list(FileSource(path).frames())
    assert [frame.image.shape for frame in read] == [(48, 64, 3)] * 5
    assert all(frame.image.mean() < 40 for frame in read)
    assert len(list(camera_frames(str(path)))) == 5


def test_audio_with_a_cover_has_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        picture = container.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt, picture.disposition = 32, 32, "yuvj420p", COVER
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples) + sound.encode())
        container.mux(picture.encode(av.VideoFrame.from_image(plain(200, (32, 32)))) + picture.encode())
    with pytest.raises(DataError, match=r"song\.m4a: no video in it, only a cover picture"):
        FileSource(tmp_path / "song.m4a")


SMALL, LARGE = [plain(0)] * 4, [plain(0, (128, 96))] * 4


@pytest.mark.parametrize(
    ("name", "streams", "width"),
    [
        ("larger.mkv", [("mpeg4", SMALL, NONE), ("mpeg4", LARGE, NONE)], 128),
        ("default.mkv", [("mpeg4", SMALL, DEFAULT), ("mpeg4", LARGE, NONE)], 64),
        # A poster that is not marked as one.
        ("poster.mp4", [("mjpeg", LARGE[:1], DEFAULT), ("mpeg4", SMALL, DEFAULT)], 64),
    ],
)
def test_the_best_of_several_videos_is_read(tmp_path: Path, name: str, streams: list[Any], width: int) -> None:
    read = list(FileSource(encode(tmp_path / name, *streams, rate=25)).frames())
    assert [frame.image.shape[1] for frame in read] == [width] * 4


@pytest.mark.parametrize("name", ["interview:01.mp4", "-i.mp4", "50%d.mp4"])
def test_names_are_files_and_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path(name), (64, 48)) as writer:
        for index in range(3):
            writer.add(plain(10 * index), index / 5)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list(FileSource(name).frames())) == len(list(camera_frames(name))) == 3


def test_tags_in_another_encoding_do_not_matter(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "tagged.avi", [plain(0)], codec="mjpeg", title="Mueller")
    path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfc\xffller"))
    assert len(list(FileSource(path).frames())) == 1


def test_times_go_on_where_a_recording_starts_again(tmp_path: Path, write_video: Write) -> None:
    parts = [write_video(tmp_path / f"{n}.ts", [plain(40 * n)] * 30, codec="mpeg2video", fps=25) for n in range(3)]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    source = FileSource(tmp_path / "joined.ts")
    read = list(source.frames())
    np.testing.assert_allclose([frame.time for frame in read], np.arange(90) / 25, atol=2e-3)
    assert [round(frame.image.mean() / 40) for frame in read] == [0] * 30 + [1] * 30 + [2] * 30
    (problem,) = source.problems
    assert "joined.ts: timestamps start again after 1.16 s and 1 more time" in problem
    assert [frame.number for frame in source.frames(fps=5)] == list(range(0, 90, 5))


def test_bare_h264_has_the_rate_that_its_stream_states(tmp_path: Path, write_video: Write) -> None:
    if "libx264" not in av.codecs_available:
        pytest.skip("PyAV without H.264")
    source = FileSource(write_video(tmp_path / "bare.h264", [plain(20 * level) for level in range(8)], codec="libx264"))
    np.testing.assert_allclose([frame.time for frame in source.frames()], np.arange(8) / 10, atol=1e-6)


def test_times_go_on_after_a_leap(tmp_path: Path, write_video: Write) -> None:
    times = [0.0, 0.2, 0.4, 0.6, 350_000.0, 350_000.2]
    source = FileSource(write_video(tmp_path / "leap.mkv", [plain(0)] * 6, codec="ffv1", fps=5, times=times))
    np.testing.assert_allclose([frame.time for frame in source.frames()], np.arange(6) / 5, atol=2e-3)
    (problem,) = source.problems  # it does not say that frames are missing
    assert "timestamps leap after 0.60 s" in problem


@pytest.mark.parametrize(
    ("stamps", "chosen"),
    [
        ([(2, 4), (6, 6), (8, 8), (4, 10), (12, 12), (14, 14), (10, 16)], [2, 6, 8, 10, 12, 14, 16]),  # AVI, B-frames
        ([(0, 0), (1, 1), (2, 2), (0, 0), (1, 1)], [0, 1, 2, 0, 1]),  # joined: both step back
        ([(3, None), (1, None), (2, None)], [3, 1, 2]),
        ([(None, 5), (None, 6), (None, None)], [5, 6, None]),
    ],
)
def test_the_better_of_two_timestamps_is_taken(
    stamps: list[tuple[int | None, int | None]], chosen: list[int | None]
) -> None:
    frames = [SimpleNamespace(pts=pts, dts=dts, is_corrupt=False) for pts, dts in stamps]
    container = SimpleNamespace(demux=lambda stream: iter([SimpleNamespace(decode=lambda: frames)]))
    assert [frame.pts for frame in decoded(container, None, print)] == chosen


@pytest.mark.parametrize(
    ("stated", "repaired"),
    [
        ([0.0, 0.1, 0.3, 0.2, 0.4], [0.0, 0.1, 0.3, 0.31875, 0.4]),  # out of order: nothing after it moves
        ([0.0, 0.1, 0.1, 0.2], [0.0, 0.1, 0.1125, 0.2]),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ([0.0, 0.1, 5000.0, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),  # a single wrong time
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 300.0, 300.1], [0.0, 0.1, 300.0, 300.1]),  # a pause stays a pause
        ([None, 7.0, 7.1], [0.0, 0.1, 0.2]),
        ([3.0, None, 3.2, 3.3], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 3600.0, 7200.0, 10_800.0], [0.0, 3600.0, 7200.0, 10_800.0]),  # a time lapse
    ],
)
def test_the_clock_repairs_what_is_wrong_and_nothing_else(stated: list[float | None], repaired: list[float]) -> None:
    clock = Clock(1 / 3600 if repaired[-1] == 10_800 else 10.0)
    np.testing.assert_allclose([clock(time) for time in stated], repaired, atol=1e-9)


@given(st.lists(st.none() | st.floats(-1e7, 1e7), min_size=2, max_size=60), st.floats(1, 240))
def test_times_always_rise_and_never_leap(stated: list[float | None], fps: float) -> None:
    clock = Clock(fps)
    times = [clock(time) for time in stated]
    assert times[0] == 0
    assert all(later > earlier for earlier, later in pairwise(times))
    steps = np.diff(times)
    for index, step in enumerate(steps):
        assert step <= max(600.0, 20 * max([1 / fps, *steps[:index]])) + 1e-6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_that_are_not_square(write_video: Write, tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"wide{suffix}", [plain(100)] * 2, aspect=Fraction(3, 2))
    assert [frame.image.shape for frame in FileSource(path).frames()] == [(48, 96, 3)] * 2
    assert [frame.image.shape for frame in camera_frames(str(path))] == [(48, 96, 3)] * 2


def test_each_frame_has_the_pixels_of_its_part_of_a_recording(write_video: Write, tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{n}.ts", [plain(40 * n)] * 10, codec="mpeg2video", fps=25, aspect=aspect)
        for n, aspect in enumerate((Fraction(1), Fraction(4, 3)))  # 4:3, then 16:9
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    widths = [frame.image.shape[1] for frame in FileSource(tmp_path / "joined.ts").frames()]
    assert widths[:9] == [64] * 9  # ffmpeg shows the last one when it has read the next header
    assert widths[10:] == [85] * 10


def test_an_absurd_pixel_aspect_is_named_and_ignored(write_video: Write, tmp_path: Path) -> None:
    source = FileSource(write_video(tmp_path / "absurd.mp4", [plain(0)] * 2, aspect=Fraction(20)))
    assert [frame.image.shape for frame in source.frames()] == [(48, 64, 3)] * 2
    assert source.problems == [f"{source.path}: pixels 20 times as wide as high; taken as square"]


@pytest.mark.parametrize(
    ("edge", "shape"),  # Matroska's PixelCropRight, Left, Top, Bottom
    [("54dd8114", (48, 44, 3)), ("54cc810a", (48, 54, 3)), ("54bb8106", (42, 64, 3)), ("54aa8108", (40, 64, 3))],
)
def test_edges_that_matroska_hides_are_not_seen(write_video: Write, tmp_path: Path, edge: str, shape: Any) -> None:
    path = write_video(tmp_path / "cropped.mkv", [plain(100)] * 2)
    content, unit = path.read_bytes(), bytes.fromhex("54b28104")  # an element of the same length, of the display's size
    assert content.count(unit) == 1
    path.write_bytes(content.replace(unit, bytes.fromhex(edge)))
    assert [frame.image.shape for frame in FileSource(path).frames()] == [shape] * 2
    assert [frame.image.shape for frame in camera_frames(str(path))] == [shape] * 2
