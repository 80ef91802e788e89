"""What an input is: animations, stills, photos of phones, and what a folder holds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Code.data.clips import DataError
from Code.faces.inputs import Kind, find_jobs, kind_of
from Code.faces.video import Source
from tests.faces.pictures import card, plain

pytest.importorskip("av", reason="videos need PyAV")

Write = Callable[..., Path]


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


def test_animations_of_16_bits_keep_their_gray_levels(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "deep.png"), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16be"
        for level in (0, 100, 200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 257 * level, dtype=np.uint16), format="gray16be")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert kind_of(tmp_path / "deep.png") is Kind.ANIMATION
    assert [frame.image.mean() for frame in Source(tmp_path / "deep.png").frames()] == [0, 100, 200]


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
    drawn = card((320, 240))
    heif.from_pillow(drawn).save(tmp_path / "photo.jpg", quality=90)  # phones name them so when they share them
    source = Source(tmp_path / "photo.jpg")
    assert (source.kind, source.is_video, source.total) == (Kind.PHOTO, False, 1)
    image = next(source.frames()).image
    assert image.shape == (240, 320, 3)
    assert np.abs(image.astype(int) - np.asarray(drawn)).mean() < 5
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "1.heic").write_bytes((tmp_path / "photo.jpg").read_bytes())
    with pytest.raises(DataError, match="no images in this folder; 1 HEIC photo: name each, or save them as JPEG"):
        find_jobs(tmp_path / "album")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"photo\.jpg: a HEIC photo; pip install pillow-heif, or save it as JPEG"):
        list(source.frames())
    (tmp_path / "broken.heic").write_bytes((tmp_path / "photo.jpg").read_bytes()[:200])
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"broken\.heic: the photo cannot be decoded"):
        list(Source(tmp_path / "broken.heic").frames())


def test_two_videos_are_never_one_clip(tmp_path: Path) -> None:
    for name in ("one.avi", "one.mp4"):
        (tmp_path / name).write_bytes(b"video")
    assert [job.name for job in find_jobs(tmp_path)[0]] == ["one_avi", "one_mp4"]
    (tmp_path / "one_avi.mkv").write_bytes(b"video")
    with pytest.raises(DataError, match=r"would be the same clip as .*, one_avi; rename one of them"):
        find_jobs(tmp_path)
