"""Faults that people's videos have: covers, mirrored pictures, times that start again, names, photos, animations.

Each test draws and encodes its own input.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from Code.data.clips import DataError
from Code.faces.decoder import HLG, PQ, Clock, Upright, turned
from Code.faces.detect import Detector
from Code.faces.extract import analyse
from Code.faces.inputs import Kind, find_jobs, kind_of
from Code.faces.live import camera_frames
from Code.faces.prediction import windows
from Code.faces.render import VideoWriter
from Code.faces.video import Source

av: Any = pytest.importorskip("av", reason="videos need PyAV")

Write = Callable[..., Path]
ONE = 1 << 16  # in a display matrix


def plain(level: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def test_card(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """No two of its eight views are alike: white top left, grey top right, black below."""
    card = Image.new("RGB", size)
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, size[0] // 2 - 1, size[1] // 2 - 1), fill=(255, 255, 255))
    draw.rectangle((size[0] // 2, 0, size[0] - 1, size[1] // 2 - 1), fill=(128, 128, 128))
    return card


test_card.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test


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


def cover_before_tracks(path: Path) -> Path:
    """Moves the tags of an MP4, and the cover with them, before its tracks, as taggers write them."""
    content = path.read_bytes()
    start = content.index(b"moov") - 4
    size = int.from_bytes(content[start : start + 4])
    boxes, at = [], start + 8
    while at < start + size:
        length = int.from_bytes(content[at : at + 4])
        boxes.append(content[at : at + length])
        at += length
    assert boxes[-1][4:8] == b"udta"
    path.write_bytes(content[: start + 8] + b"".join([boxes[0], boxes[-1], *boxes[1:-1]]) + content[start + size :])
    return path


COVER, DEFAULT, NONE = (
    av.stream.Disposition.attached_pic,
    av.stream.Disposition.default,
    av.stream.Disposition(0),
)


@pytest.mark.parametrize("first", [False, True])
def test_a_cover_picture_is_not_the_clip(tmp_path: Path, first: bool) -> None:
    cover = ("mjpeg", [plain(250, (32, 32))], COVER)
    path = encode(tmp_path / "tagged.mp4", ("mpeg4", [plain(20)] * 5, DEFAULT), cover)
    if first:
        cover_before_tracks(path)
        with av.open(str(path)) as container:
            assert container.streams.video[0].disposition & COVER
    read = list(Source(path).frames())
    assert len(read) == 5
    assert all(frame.image.shape == (48, 64, 3) and frame.image.mean() < 40 for frame in read)
    assert len(list(camera_frames(str(path)))) == 5


def test_audio_with_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        picture = container.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt, picture.disposition = 32, 32, "yuvj420p", COVER
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
        container.mux(picture.encode(av.VideoFrame.from_image(plain(200, (32, 32)))))
        container.mux(picture.encode())
    with pytest.raises(DataError, match=r"song\.m4a: no video in it, only a cover picture"):
        Source(path)


@pytest.mark.parametrize(
    ("streams", "size"),
    [
        ([("mpeg4", [plain(0)] * 4, NONE), ("mpeg4", [plain(0, (128, 96))] * 4, NONE)], (128, 96)),
        ([("mpeg4", [plain(0)] * 4, DEFAULT), ("mpeg4", [plain(0, (128, 96))] * 4, NONE)], (64, 48)),
        ([("mjpeg", [plain(0, (128, 96))], DEFAULT), ("mpeg4", [plain(0)] * 4, DEFAULT)], (64, 48)),
    ],
    ids=["larger", "default", "no single picture"],
)
def test_the_best_of_several_videos_is_read(tmp_path: Path, streams: list[Any], size: tuple[int, int]) -> None:
    # MP4 tells the number of frames, Matroska marks the default.
    path = encode(tmp_path / ("several.mp4" if streams[0][0] == "mjpeg" else "several.mkv"), *streams)
    assert Source(path).size == size
    assert len(list(Source(path).frames())) == 4


EIGHT = [
    *((a, 0, 0, d) for a, d in product((ONE, -ONE), repeat=2)),
    *((0, b, c, 0) for b, c in product((ONE, -ONE), repeat=2)),
]


def seen(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """By the definition, a pixel at a time: (x, y) is shown at (a x + c y, b x + d y), moved to begin at 0."""
    a, b, c, d = (value // ONE for value in matrix)
    y, x = np.indices(image.shape[:2])
    right, down = a * x + c * y, b * x + d * y
    right, down = right - right.min(), down - down.min()
    out = np.empty((down.max() + 1, right.max() + 1, *image.shape[2:]), dtype=image.dtype)
    out[down, right] = image
    return out


@pytest.mark.parametrize("matrix", EIGHT)
def test_all_eight_views_of_a_display_matrix(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = matrix
    numbers = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned(numbers, matrix), seen(numbers, matrix))
    path = tmp_path / "held.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_image(test_card())))
        container.mux(stream.encode())
    image = next(Source(path).frames()).image
    expected = seen(np.asarray(test_card()), matrix)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_matrices_that_turn_by_other_angles_take_the_nearest_view() -> None:
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned(image, (ONE, ONE // 20, -ONE // 20, ONE)), image)
    np.testing.assert_array_equal(turned(image, (0, 0, 0, 0)), image)
    np.testing.assert_array_equal(turned(image, None), image)


def joined(tmp_path: Path, write_video: Write, lengths: tuple[int, ...]) -> Path:
    """MPEG-TS recordings one after the other, each with times from its own start; 5 frames a second."""
    path = tmp_path / "joined.ts"
    parts = [
        write_video(tmp_path / f"part{index}.ts", [plain(40 * index)] * length, codec="mpeg2video", fps=25)
        for index, length in enumerate(lengths)
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_times_go_on_where_a_recording_starts_again(tmp_path: Path, write_video: Write) -> None:
    source = Source(joined(tmp_path, write_video, (30, 30, 30)))
    read = list(source.frames())
    np.testing.assert_allclose([frame.time for frame in read], np.arange(90) / 25, atol=2e-3)
    assert [round(frame.image.mean() / 40) for frame in read] == [0] * 30 + [1] * 30 + [2] * 30
    (problem,) = source.problems
    assert "joined.ts: timestamps start again after 1.16 s and 1 more time" in problem
    assert [frame.number for frame in source.frames(fps=5)] == list(range(0, 90, 5))
    assert [frame.number for frame in source.frames(wanted=[3, 61])] == [3, 61]


@pytest.mark.parametrize("leap", [3600.0, 97_200.0, 350_000.0])
def test_times_go_on_after_a_leap(tmp_path: Path, write_video: Write, leap: float) -> None:
    times = [0.0, 0.2, 0.4, 0.6, *(leap + n / 5 for n in range(4))]
    source = Source(write_video(tmp_path / "leap.mkv", [plain(0)] * 8, codec="ffv1", fps=5, times=times))
    assert [round(frame.time, 2) for frame in source.frames()] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
    (problem,) = source.problems  # it does not say that frames are missing
    assert "leap.mkv: timestamps leap after 0.60 s" in problem


def test_a_recording_may_start_late(tmp_path: Path, write_video: Write) -> None:
    times = [5000 + number / 5 for number in range(5)]  # Matroska's header then says that it lasts 5001 s
    source = Source(write_video(tmp_path / "late.mkv", [plain(0)] * 5, codec="ffv1", fps=5, times=times))
    np.testing.assert_allclose([frame.time for frame in source.frames()], np.arange(5) / 5, atol=2e-3)
    assert source.problems == []


def test_a_pause_stays_a_pause(tmp_path: Path, write_video: Write) -> None:
    times = [0.0, 0.2, 0.4, 300.0, 300.2]
    source = Source(write_video(tmp_path / "slide.mkv", [plain(0)] * 5, codec="ffv1", fps=5, times=times))
    np.testing.assert_allclose([frame.time for frame in source.frames()], times, atol=2e-3)
    assert source.problems == []


def run(stated: list[float | None], fps: float | None = 10.0) -> tuple[list[float], Clock]:
    clock = Clock(fps)
    return [clock(time) for time in stated], clock


@pytest.mark.parametrize(
    ("stated", "repaired"),
    [
        ([5.0, 5.1, 5.2], [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.3, 0.2, 0.4], [0.0, 0.1, 0.3, 0.31875, 0.4]),  # out of order: nothing after it moves
        ([0.0, 0.1, 0.1, 0.2], [0.0, 0.1, 0.1125, 0.2]),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ([0.0, 0.1, 5000.0, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),  # a single wrong time
        ([0.0, 0.1, -5000.0, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([None, 7.0, 7.1], [0.0, 0.1, 0.2]),
        ([3.0, None, 3.2, 3.3], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 3600.0, 7200.0, 10_800.0], [0.0, 3600.0, 7200.0, 10_800.0]),  # a time lapse
    ],
)
def test_the_clock_repairs_what_is_wrong_and_nothing_else(stated: list[float | None], repaired: list[float]) -> None:
    times, _ = run(stated, 1 / 3600 if repaired[-1] == 10_800 else 10.0)
    np.testing.assert_allclose(times, repaired, atol=1e-9)


def test_a_file_of_equal_times_still_advances() -> None:
    times, clock = run([0.0] * 100)
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[-1] > 9
    assert clock.restarts


@given(st.lists(st.none() | st.floats(-1e7, 1e7), min_size=2, max_size=60), st.floats(1, 240))
def test_times_always_rise_and_never_leap(stated: list[float | None], fps: float) -> None:
    times, _ = run(stated, fps)
    assert times[0] == 0
    steps = np.diff(times)
    assert (steps > 0).all()
    usual = 1 / fps
    for index, step in enumerate(steps):
        assert step <= max(600.0, 20 * max([usual, *steps[:index]])) + 1e-6


@pytest.mark.parametrize("name", ["interview:01.mp4", "file:1.mp4", "data:1.mp4", "http:a.mp4", "-i.mp4", "50%d.mp4"])
def test_names_are_files_and_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path(name), (64, 48))
    for index in range(3):
        writer.add(plain(10 * index), index / 5)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list(Source(name).frames())) == 3
    assert len(list(camera_frames(name))) == 3


def test_tags_in_another_encoding_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "tagged.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.metadata["title"] = "Mueller"
        container.mux(stream.encode(av.VideoFrame.from_image(plain(0))))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfc\xffller"))
    assert len(list(Source(path).frames())) == 1


def test_an_unknown_codec_is_named(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "strange.mov", [plain(0)] * 3, codec="mjpeg")
    path.write_bytes(path.read_bytes().replace(b"jpeg", b"zz9v"))
    with pytest.raises(DataError, match=r"strange\.mov: ffmpeg does not know its codec"):
        Source(path)


@pytest.mark.parametrize("fails", ["add", "close"])
def test_an_encoder_error_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", (64, 48))
    writer.add(plain(0), 0.0)

    class Broken:
        """A stream whose encoder refuses everything."""

        def encode(self, frame: Any = None) -> Any:
            raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(writer, "_stream", Broken())
    with pytest.raises(DataError, match=r"out\.mp4: the video cannot be written \(Invalid argument\)"):
        if fails == "add":
            writer.add(plain(0), 0.1)
        else:
            writer.close()
    if fails == "add":
        writer.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf8_is_escaped_and_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "m\udcfcller.mp4")
    with pytest.raises(DataError, match=r"m\\udcfcller\.mp4: the name is not valid UTF-8"):
        Source(path)


def animation(path: Path, levels: list[int], milliseconds: int | list[int] = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (plain(level) for level in levels)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
def test_animations_are_videos_with_times(tmp_path: Path, suffix: str) -> None:
    path = animation(tmp_path / f"wave{suffix}", [0, 60, 120, 180], [200, 300, 100, 200])
    assert kind_of(path) is Kind.ANIMATION
    source = Source(path)
    assert (source.is_video, source.total) == (True, 4)
    read = list(source.frames())
    np.testing.assert_allclose([frame.time for frame in read], [0, 0.2, 0.5, 0.6], atol=1e-6)
    assert [round(frame.image.mean()) for frame in read] == pytest.approx([0, 60, 120, 180], abs=1)
    assert [frame.number for frame in source.frames(wanted=[2])] == [2]
    assert [frame.number for frame in source.frames(fps=4)] == [0, 2]


def test_a_damaged_animation_gives_what_can_be_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    first, *others = (Image.fromarray(pixels) for pixels in noise)
    first.save(tmp_path / "whole.gif", save_all=True, append_images=others, duration=200)
    content = (tmp_path / "whole.gif").read_bytes()
    (tmp_path / "half.gif").write_bytes(content[: len(content) // 2])
    source = Source(tmp_path / "half.gif")
    read = list(source.frames())
    assert 1 <= len(read) < 6


def test_stills_are_pictures_whatever_they_could_be(tmp_path: Path, write_video: Write) -> None:
    for suffix in (".gif", ".webp", ".png", ".bmp", ".jpg"):
        plain(9).save(tmp_path / f"still{suffix}")
        source = Source(tmp_path / f"still{suffix}")
        assert (source.kind, source.is_video) == (Kind.PICTURE, False)
        assert math.isnan(next(source.frames()).time)
    plain(9).save(tmp_path / "nameless", format="PNG")
    assert kind_of(tmp_path / "nameless") is Kind.PICTURE
    moving = write_video(tmp_path / "clip.mp4", [plain(0)] * 3)
    assert len(list(Source(moving.rename(tmp_path / "downloaded.gif")).frames())) == 3  # as the web has them
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"broken\.gif"):
        list(Source(tmp_path / "broken.gif").frames())


def test_one_rule_for_what_a_folder_holds(tmp_path: Path, write_video: Write) -> None:
    for name in ("Happy/01.gif", "Happy/02.webp", "Sad/01.gif", "Sad/02.png"):
        animation(tmp_path / name, [0, 100])
    write_video(tmp_path / "Sad" / "03.mp4", [plain(0)] * 2)
    plain(0).save(tmp_path / "Sad" / "poster.png")
    for number in range(3):
        (tmp_path / "Fear" / "frames").mkdir(parents=True, exist_ok=True)
        plain(number).save(tmp_path / "Fear" / "frames" / f"{number}.gif")  # stills: the frames of one clip
    jobs, remarks = find_jobs(tmp_path)
    assert [job.name for job in jobs] == ["Fear/frames", "Happy/01", "Happy/02", "Sad/01", "Sad/02", "Sad/03"]
    assert any("Sad: contains videos, so its images are skipped (1)" in remark for remark in remarks)
    assert [len(list(Source(job.path).frames())) for job in jobs] == [3, 2, 2, 2, 2, 2]
    with pytest.raises(DataError, match=r"Sad: contains 3 videos, so it is not a folder of frames"):
        Source(tmp_path / "Sad")


def test_photos_of_phones_are_read_whole_or_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif", reason="HEIC photos need pillow-heif")
    card = test_card((320, 240))
    heif.from_pillow(card).save(tmp_path / "photo.jpg", quality=90)  # phones name them so when they share them
    source = Source(tmp_path / "photo.jpg")
    assert (source.kind, source.is_video, source.total) == (Kind.PHOTO, False, 1)
    image = next(source.frames()).image
    assert image.shape == (240, 320, 3)
    assert np.abs(image.astype(int) - np.asarray(card)).mean() < 5
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"photo\.jpg: a HEIC photo; pip install pillow-heif, or save it as JPEG"):
        list(source.frames())
    (tmp_path / "broken.heic").write_bytes((tmp_path / "photo.jpg").read_bytes()[:200])
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"broken\.heic: the photo cannot be decoded"):
        list(Source(tmp_path / "broken.heic").frames())


def test_interlaced_frames_lose_their_comb(tmp_path: Path) -> None:
    def scene(position: int) -> np.ndarray:
        image = np.full((240, 320, 3), 60, dtype=np.uint8)
        image[60:180, position : position + 60] = 220
        return image

    path = tmp_path / "dvd.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 8_000_000
        stream.codec_context.options = {"flags": "+ilme+ildct"}
        for index in range(12):
            woven = scene(20 + 16 * index)
            woven[1::2] = scene(28 + 16 * index)[1::2]  # the second field is half a frame later
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode())
    read = list(Source(path).frames())
    np.testing.assert_allclose([frame.time for frame in read], np.arange(12) / 25, atol=1e-3)
    for frame in read[1:-1]:
        lines = frame.image[70:170, :, 0].astype(int)
        assert np.abs(lines[1:] - lines[:-1]).mean() < 2  # woven, neighbouring lines differ by 8 on average


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_video_is_brought_to_standard_range(tmp_path: Path, transfer: int) -> None:
    def signal(luminance: float) -> float:
        """A grey of so many cd/m2 as HDR video stores it (ITU-R BT.2100)."""
        if transfer == PQ:
            root = (luminance / 10_000) ** 0.1593017578125
            return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375
        scene = (luminance / 1000) ** (1 / 1.2)
        return math.sqrt(3 * scene) if scene <= 1 / 12 else 0.17883277 * math.log(12 * scene - 0.28466892) + 0.55991073

    found = []
    for luminance in (1.0, 26.0, 60.0, 203.0, 1000.0):  # dark, middle grey, skin, white, a lamp
        grey = plain(round(255 * signal(luminance)))
        path = tmp_path / f"{luminance}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
            frame = av.VideoFrame.from_image(grey).reformat(format="yuv420p10le", dst_colorspace="bt2020")
            frame.color_trc, frame.color_primaries = transfer, 9
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        found.append(next(Source(path).frames()).image.mean())
    dark, middle, skin, white, lamp = found
    assert 0 < dark < 40
    assert middle == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=6)
    assert skin == pytest.approx(255 * (60 / 203) ** (1 / 2.4), abs=6)
    assert 220 < white < lamp <= 255


def test_a_standard_frame_is_not_changed() -> None:
    frame = av.VideoFrame.from_image(test_card())
    np.testing.assert_array_equal(Upright()(frame), np.asarray(test_card()))
    assert Upright()(frame, float(Fraction(3, 2))).shape == (48, 96, 3)


def test_a_pause_has_no_windows() -> None:
    starts, ends = windows(np.array([0.0, 0.5, 300.0, 300.5]), 1.0, 0.5)
    assert len(starts) < 6
    assert ends[-1] >= 300.5
    np.testing.assert_array_equal(ends - starts, 1.0)


@pytest.mark.parametrize("turns", [1, 3])
def test_faces_that_lie_on_their_side_are_found(tmp_path: Path, write_video: Write, scene_of: Any, turns: int) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    upright = [scene_of((0, 20 + number, 10, 120)) for number in range(6)]
    lying = [Image.fromarray(np.rot90(np.asarray(picture), turns)) for picture in upright]
    source = Source(write_video(tmp_path / "lying.mp4", lying))
    analysis = analyse(source, Detector("cpu"))
    assert len(analysis.people) == 1
    assert source.quarter_turns == 4 - turns
    assert next(source.frames()).image.shape == (144, 192, 3)
    assert "lying.mp4: faces are not upright; rotated by 90 degrees" in analysis.problems[-1]
    left, _, right, _ = analysis.tracks[analysis.people[0]].table[0, :4]
    assert 0 < left < right < 192


def test_an_input_without_faces_is_not_turned(tmp_path: Path, write_video: Write, scene_of: Any) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    source = Source(write_video(tmp_path / "empty.mp4", [scene_of()] * 4))
    assert analyse(source, Detector("cpu")).people == []
    assert source.quarter_turns == 0
