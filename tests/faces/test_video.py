"""Reading: order, times, rotation, sizes, thinning, and files that are broken."""

from __future__ import annotations

import math
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Code.data.clips import DataError
from Code.faces import extract
from Code.faces.video import BATCH_FRAMES, Frame, Source, batches, frame_numbers


def levels_as_pictures(levels: list[int], size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Plain pictures whose top left corner is white."""
    pictures = []
    for level in levels:
        picture = Image.new("RGB", size, (level, level, level))
        picture.paste((255, 255, 255), (0, 0, 16, 16))
        pictures.append(picture)
    return pictures


def test_batches_hold_one_size_and_stay_small() -> None:
    def frames(*shapes: tuple[int, int]) -> Iterator[Frame]:
        for number, shape in enumerate(shapes):
            yield Frame(str(number), number, math.nan, np.zeros((*shape, 3), dtype=np.uint8))

    sizes = [[frame.image.shape[:2] for frame in batch] for batch in batches(frames((4, 5), (4, 5), (5, 4)))]
    assert sizes == [[(4, 5), (4, 5)], [(5, 4)]]
    many = [(2, 2)] * (2 * BATCH_FRAMES + 6)
    assert [len(batch) for batch in batches(frames(*many))] == [BATCH_FRAMES, BATCH_FRAMES, 6]
    assert [len(batch) for batch in batches(frames(*[(600, 500)] * 5))] == [2, 2, 1]
    assert [len(batch) for batch in batches(frames(*[(1000, 1000)] * 2))] == [1, 1]


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
    source = Source(tmp_path)
    read = list(source.frames())
    assert source.total == 3
    assert not source.is_video
    assert [frame.name for frame in read] == ["f2.png", "f9.png", "f10.png"]
    assert [frame.number for frame in read] == [2, 9, 10]
    assert all(math.isnan(frame.time) for frame in read)
    for frame in read:
        np.testing.assert_array_equal(frame.image, upright)


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.avi", "mjpeg"), ("clip.mkv", "ffv1"), ("clip.webm", "libvpx")]
)
def test_video_frames_come_in_order_with_their_times(
    write_video: Callable[..., Path], tmp_path: Path, name: str, codec: str
) -> None:
    levels = [0, 40, 80, 120, 160, 200]
    source = Source(write_video(tmp_path / name, levels_as_pictures(levels), codec=codec))
    assert source.is_video
    read = list(source.frames())
    assert source.problems == []
    assert source.total in (None, len(levels))
    assert [frame.name for frame in read] == [f"{number:07d}" for number in range(6)]
    np.testing.assert_allclose([frame.time for frame in read], np.arange(6) / 10, atol=2e-3)
    for frame, level in zip(read, levels, strict=True):
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert abs(frame.image[20:, 20:].mean() - level) < 6


def test_a_video_that_says_how_it_was_held_comes_upright(write_video: Callable[..., Path], tmp_path: Path) -> None:
    source = Source(write_video(tmp_path / "phone.mp4", levels_as_pictures([0, 0]), rotation=90))
    image = next(source.frames()).image
    assert image.shape == (64, 48, 3)
    assert image[-12:, :12].mean() > 200  # top left, turned by a quarter counterclockwise
    assert image[:12, :12].mean() < 50


def test_odd_sizes_and_pixels_that_are_not_square(write_video: Callable[..., Path], tmp_path: Path) -> None:
    pictures = levels_as_pictures([100, 100], (61, 47))
    odd = Source(write_video(tmp_path / "odd.mkv", pictures, codec="ffv1"))
    np.testing.assert_allclose(next(odd.frames()).image[20:, 20:].mean(), 100, atol=4)
    assert next(odd.frames()).image.shape == (47, 61, 3)
    wide = write_video(tmp_path / "wide.mp4", levels_as_pictures([100, 100]), aspect=Fraction(3, 2))
    image = next(Source(wide).frames()).image
    assert image.shape == (48, 96, 3)
    assert image[:14, :20].mean() > 200
    assert image[20:, 30:].mean() < 120


def test_uneven_times_are_kept_and_thinned_by_time(write_video: Callable[..., Path], tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.21, 1.22]
    path = write_video(tmp_path / "uneven.mkv", levels_as_pictures(list(range(0, 160, 20))), codec="ffv1", times=times)
    source = Source(path)
    np.testing.assert_allclose([frame.time for frame in source.frames()], times, atol=2e-3)
    thinned = list(source.frames(fps=2))
    assert [frame.number for frame in thinned] == [0, 3, 5]  # keeps the numbers of the source
    assert [frame.number for frame in source.frames(wanted=[1, 6])] == [1, 6]


@pytest.mark.parametrize("room", [3 * 48 * 64 * 6, 3 * 48 * 64 * 6 - 1])
def test_a_short_video_is_decoded_once_a_long_one_twice(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = write_video(tmp_path / "clip.mkv", levels_as_pictures([0, 40, 80, 120, 160, 200]), codec="ffv1")
    monkeypatch.setattr(extract, "KEPT_BYTES", room)
    source = extract.BriefSource(path)
    first = list(source.frames())
    path.write_bytes(b"no longer a video")
    if room < sum(frame.image.nbytes for frame in first):
        with pytest.raises(DataError, match="damaged"):
            list(source.frames(wanted=[1, 4]))
    else:
        assert [frame.number for frame in source.frames(wanted=[1, 4])] == [1, 4]
        assert next(source.frames(wanted=[4])).image is first[4].image


def test_frames_are_numbered_by_their_names_where_these_tell_them_apart() -> None:
    paths = [Path(f"S005_001_{number:08d}.png") for number in (1, 2, 11)]
    assert frame_numbers(paths) == [1, 2, 11]
    assert frame_numbers([Path("a.png"), Path("b7.png")]) == [0, 1]
    assert frame_numbers([Path("a_1.png"), Path("b_1.png")]) == [0, 1]
    assert frame_numbers([Path("a_2.png"), Path("b_1.png")]) == [0, 1]  # in the order in which they are read


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for name, says in (("sound.wav", "only audio"), ("empty.mp4", "empty"), ("noise.mp4", "damaged")):
        with pytest.raises(DataError, match=f"{name}.*{says}") as caught:
            list(Source(tmp_path / name).frames())
        assert len(caught.value.problems) == 1


def test_what_can_be_read_of_a_damaged_video_is_read_and_the_damage_is_told(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_video(tmp_path / "whole.avi", levels_as_pictures([10 * n for n in range(20)] * 3), codec="mjpeg")
    content = path.read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    source = Source(tmp_path / "half.avi")
    read = list(source.frames())
    assert 15 < len(read) < 45
    assert len(source.problems) >= 1
    assert all("half.avi" in problem for problem in source.problems)


def test_one_broken_image_of_a_folder_is_told_and_all_broken_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    source = Source(tmp_path)
    with pytest.raises(DataError, match=r"1\.png: not an image"):
        list(source.frames())
    Image.new("RGB", (8, 8)).save(tmp_path / "2.png")
    source = Source(tmp_path)
    assert [frame.number for frame in source.frames()] == [2]
    assert "1.png" in source.problems[0]
