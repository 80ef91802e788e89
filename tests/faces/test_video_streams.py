"""Which of a file's streams is the clip, and what its names and tags are: covers, several videos, odd names, codecs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Code.data.clips import DataError
from Code.faces.live import camera_frames
from Code.faces.render import VideoWriter
from Code.faces.video import Source
from tests.faces.pictures import plain

av: Any = pytest.importorskip("av", reason="videos need PyAV")

Write = Callable[..., Path]


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


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])  # neither tells how many frames a stream has
def test_a_still_that_no_flag_marks_as_a_cover_is_not_the_clip(tmp_path: Path, suffix: str) -> None:
    codec = "mjpeg" if suffix == ".mkv" else "mpeg2video"
    poster, clip = (codec, [plain(250, (320, 240))], DEFAULT), ("mpeg2video", [plain(20)] * 5, NONE)
    source = Source(encode(tmp_path / f"poster{suffix}", poster, clip, rate=25))
    assert [frame.image.shape for frame in source.frames()] == [(48, 64, 3)] * 5
    alone = encode(tmp_path / f"alone{suffix}", poster, poster, rate=25)
    assert [frame.image.shape for frame in Source(alone).frames()] == [(240, 320, 3)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".flv", ".wmv"])
def test_files_joined_byte_by_byte_are_noticed(tmp_path: Path, write_video: Write, suffix: str) -> None:
    codec = {".flv": "flv", ".wmv": "wmv2"}.get(suffix, "mpeg4")
    first = write_video(tmp_path / f"first{suffix}", [plain(10)] * 4, codec=codec)
    source = Source(first)
    assert len(list(source.frames())) == 4
    assert source.problems == []
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(first.read_bytes() * 2)
    source = Source(joined)
    assert len(list(source.frames())) == 4  # as players show it
    assert [problem for problem in source.problems if "only the first of several joined files" in problem]


@pytest.mark.parametrize("name", ["notes.txt", "list.nfo"])
def test_texts_are_not_drawn_as_a_terminal_would(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Happy/01.mp4 0\nSad/02.mp4 1\n" * 20)
    with pytest.raises(DataError, match=rf"{name}: a text file, not a video"):
        Source(tmp_path / name)


def test_a_pattern_is_the_name_of_a_file(tmp_path: Path) -> None:
    for name, level in (("1.ppm", 10), ("2.ppm", 20), ("%d.ppm", 200)):
        plain(level).save(tmp_path / name)
    (frame,) = Source(tmp_path / "%d.ppm").frames()
    assert frame.image.mean() == 200


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
    class Broken:
        """A stream whose encoder refuses everything."""

        def encode(self, frame: Any = None) -> Any:
            raise av.error.ArgumentError(22, "Invalid argument")

    with (
        pytest.raises(DataError, match=r"out\.mp4: the video cannot be written \(Invalid argument\)"),
        VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer,
    ):
        writer.add(plain(0), 0.0)
        monkeypatch.setattr(writer, "_stream", Broken())
        if fails == "add":
            writer.add(plain(0), 0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf8_is_escaped_and_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "m\udcfcller.mp4")
    with pytest.raises(DataError, match=r"m\\udcfcller\.mp4: the name is not valid UTF-8"):
        Source(path)
