"""What an input is, and what its frames look like: animations, photos, mirrors, interlacing, HDR, lying faces."""

from __future__ import annotations

import math
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from Code.data.clips import DataError
from Code.faces.decoder import HLG, PQ, turned
from Code.faces.detect import Detector, overlap
from Code.faces.extract import analyse
from Code.faces.inputs import Kind, find_jobs, kind_of
from Code.faces.predict import sources
from Code.faces.video import ArraySource, FileSource
from tests.faces.conftest import Write, plain

av: Any = pytest.importorskip("av", reason="videos need PyAV")


EXAMPLE = Path(__file__).parents[2] / "docs" / "example.mp4"

ONE = 1 << 16  # in a display matrix
EIGHT = [
    *((a, 0, 0, d) for a, d in product((ONE, -ONE), repeat=2)),
    *((0, b, c, 0) for b, c in product((ONE, -ONE), repeat=2)),
]


def card(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """No two of its eight views are alike: white top left, grey top right, black below."""
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, size[0] // 2 - 1, size[1] // 2 - 1), fill=(255, 255, 255))
    draw.rectangle((size[0] // 2, 0, size[0] - 1, size[1] // 2 - 1), fill=(128, 128, 128))
    return picture


def animation(path: Path, levels: list[int], milliseconds: int | list[int] = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (plain(level) for level in levels)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
def test_animations_are_videos_with_times(tmp_path: Path, suffix: str) -> None:
    source = FileSource(animation(tmp_path / f"wave{suffix}", [0, 60, 120, 180], [200, 300, 100, 200]))
    assert (source.kind, source.is_video, source.total) == (Kind.ANIMATION, True, 4)
    read = list(source.frames())
    np.testing.assert_allclose([frame.time for frame in read], [0, 0.2, 0.5, 0.6], atol=1e-6)
    assert [round(frame.image.mean()) for frame in read] == pytest.approx([0, 60, 120, 180], abs=1)
    assert [frame.number for frame in source.frames(wanted=[2])] == [2]
    assert [frame.number for frame in source.frames(fps=4)] == [0, 2]


def test_an_animation_that_is_open_is_read_whole(tmp_path: Path) -> None:
    levels = [0, 60, 120, 180]
    for suffix in (".gif", ".webp", ".png"):
        with Image.open(animation(tmp_path / f"wave{suffix}", levels)) as opened:
            (source,), _ = sources(opened)
            assert isinstance(source, ArraySource)
            assert [round(frame.image.mean()) for frame in source.frames()] == pytest.approx(levels, abs=1)


def test_a_damaged_animation_gives_what_can_be_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    first, *others = (Image.fromarray(pixels) for pixels in noise)
    first.save(tmp_path / "half.gif", save_all=True, append_images=others, duration=200)
    content = (tmp_path / "half.gif").read_bytes()
    (tmp_path / "half.gif").write_bytes(content[: len(content) // 2])
    assert 1 <= len(list(FileSource(tmp_path / "half.gif").frames())) < 6


def test_stills_are_pictures_whatever_they_could_be(tmp_path: Path, write_video: Write) -> None:
    for suffix in (".gif", ".webp", ".png", ".bmp", ".jpg"):
        plain(9).save(tmp_path / f"still{suffix}")
        source = FileSource(tmp_path / f"still{suffix}")
        assert source.kind is Kind.PICTURE
        assert math.isnan(next(source.frames()).time)
    plain(9).save(tmp_path / "nameless", format="PNG")
    assert kind_of(tmp_path / "nameless") is Kind.PICTURE
    moving = write_video(tmp_path / "clip.mp4", [plain(0)] * 3)
    assert len(list(FileSource(moving.rename(tmp_path / "downloaded.gif")).frames())) == 3  # as the web has them
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"broken\.gif"):
        list(FileSource(tmp_path / "broken.gif").frames())


def test_one_rule_for_what_a_folder_holds(tmp_path: Path, write_video: Write) -> None:
    for name in ("Happy/01.gif", "Happy/02.webp", "Sad/01.gif", "Sad/02.png"):
        animation(tmp_path / name, [0, 100])
    write_video(tmp_path / "Sad" / "03.mp4", [plain(0)] * 2)
    plain(0).save(tmp_path / "Sad" / "poster.png")
    (tmp_path / "Fear" / "frames").mkdir(parents=True)
    for number in range(3):
        plain(number).save(tmp_path / "Fear" / "frames" / f"{number}.gif")  # stills: the frames of one clip
    jobs, notes = find_jobs(tmp_path)
    assert [job.name for job in jobs] == ["Fear/frames", "Happy/01", "Happy/02", "Sad/01", "Sad/02", "Sad/03"]
    assert any("Sad: contains videos, so its images are skipped (1)" in note for note in notes)
    assert [len(list(FileSource(job.path).frames())) for job in jobs] == [3, 2, 2, 2, 2, 2]


def test_two_videos_are_never_one_clip(tmp_path: Path) -> None:
    for name in ("one.avi", "one.mp4"):
        (tmp_path / name).write_bytes(b"video")
    assert [job.name for job in find_jobs(tmp_path)[0]] == ["one_avi", "one_mp4"]
    (tmp_path / "one_avi.mkv").write_bytes(b"video")
    with pytest.raises(DataError, match=r"would be the same clip as .*, one_avi; rename one of them"):
        find_jobs(tmp_path)


def test_photos_of_phones_are_read_whole_or_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif", reason="HEIC photos need pillow-heif")
    heif.from_pillow(card((320, 240))).save(tmp_path / "photo.jpg", quality=90)  # phones name them so when shared
    source = FileSource(tmp_path / "photo.jpg")
    assert (source.kind, source.total) == (Kind.PHOTO, 1)
    image = next(source.frames()).image
    assert image.shape == (240, 320, 3)
    assert np.abs(image.astype(int) - np.asarray(card((320, 240)))).mean() < 5
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "1.heic").write_bytes((tmp_path / "photo.jpg").read_bytes())
    with pytest.raises(DataError, match=r"only 1 \.heic; name each HEIC photo, or save them as JPEG"):
        find_jobs(tmp_path / "album")
    (tmp_path / "broken.heic").write_bytes((tmp_path / "photo.jpg").read_bytes()[:200])
    with pytest.raises(DataError, match=r"broken\.heic: the photo cannot be decoded"):
        list(FileSource(tmp_path / "broken.heic").frames())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"photo\.jpg: a HEIC photo; pip install pillow-heif, or save it as JPEG"):
        list(source.frames())


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
def test_all_eight_views_of_a_display_matrix(
    tmp_path: Path, write_video: Write, matrix: tuple[int, int, int, int]
) -> None:
    a, b, c, d = matrix
    whole = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = write_video(tmp_path / "held.mp4", [card()] * 2, setup=lambda stream: stream.set_display_matrix(whole))
    image, expected = next(FileSource(path).frames()).image, seen(np.asarray(card()), matrix)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_matrices_that_turn_by_other_angles_take_the_nearest_view() -> None:
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned(image, (ONE, ONE // 20, -ONE // 20, ONE)), image)
    np.testing.assert_array_equal(turned(image, (0, 0, 0, 0)), image)


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_frames_with_exif_data_are_upright(tmp_path: Path, orientation: int) -> None:
    """A kind of side data that PyAV 18 does not know."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    views = (None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 2, 6, 4)))  # undone by orientations 1 to 8
    view = views[orientation - 1]
    stored = card() if view is None else card().transpose(view)
    stored.save(tmp_path / "frame.jpg", exif=exif, quality=95)
    (tmp_path / "camera.mjpeg").write_bytes((tmp_path / "frame.jpg").read_bytes() * 3)
    read = list(FileSource(tmp_path / "camera.mjpeg").frames())
    assert [frame.image.shape for frame in read] == [(48, 64, 3)] * 3
    assert all(np.abs(frame.image.astype(int) - np.asarray(card())).mean() < 6 for frame in read)


def test_interlaced_frames_lose_their_comb(tmp_path: Path, write_video: Write) -> None:
    def scene(position: int) -> np.ndarray:
        image = np.full((240, 320, 3), 60, dtype=np.uint8)
        image[60:180, position : position + 60] = 220
        return image

    def interlaced(stream: Any) -> None:
        stream.codec_context.options = {"flags": "+ilme+ildct"}

    woven = [scene(20 + 16 * index) for index in range(12)]
    for index, image in enumerate(woven):
        image[1::2] = scene(28 + 16 * index)[1::2]  # the second field is half a frame later
    pictures = [Image.fromarray(image) for image in woven]
    path = write_video(tmp_path / "dvd.mpg", pictures, codec="mpeg2video", fps=25, setup=interlaced)
    read = list(FileSource(path).frames())
    np.testing.assert_allclose([frame.time for frame in read], np.arange(12) / 25, atol=1e-3)
    for frame in read[1:-1]:
        lines = frame.image[70:170, :, 0].astype(int)
        assert np.abs(lines[1:] - lines[:-1]).mean() < 2  # woven, neighbouring lines differ by 8 on average


@pytest.mark.parametrize(
    ("transfer", "greys"),  # of 1, 26, 60, 203 and 1000 cd/m2: dark, middle grey, skin, white, a lamp (ITU-R BT.2100)
    [(PQ, (38, 97, 117, 148, 192)), (HLG, (25, 97, 136, 191, 255))],
)
def test_hdr_video_is_brought_to_standard_range(
    tmp_path: Path, write_video: Write, transfer: int, greys: tuple[int, ...]
) -> None:
    def hdr(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9

    frames = []
    for level in greys:
        grey = av.VideoFrame.from_image(plain(level))
        frames.append(grey.reformat(format="yuv420p10le", dst_colorspace="bt2020"))
        frames[-1].color_trc, frames[-1].color_primaries = transfer, 9
    path = write_video(tmp_path / "hdr.mkv", frames, codec="ffv1", pixels="yuv420p10le", setup=hdr)
    dark, middle, skin, white, lamp = (frame.image.mean() for frame in FileSource(path).frames())
    assert 0 < dark < 40
    assert middle == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=6)
    assert skin == pytest.approx(255 * (60 / 203) ** (1 / 2.4), abs=6)
    assert 220 < white < lamp <= 255


def test_a_standard_frame_is_not_changed(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "clip.mkv", [card()], codec="ffv1", pixels="bgr0")
    np.testing.assert_array_equal(next(FileSource(path).frames()).image, np.asarray(card()))


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_faces_that_lie_on_their_side_are_turned_upright(turns: int) -> None:
    """The detector finds real faces that stand on their head, too."""
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    frames = [frame.image for frame in FileSource(EXAMPLE).frames(wanted=range(0, 24, 4))]
    source = ArraySource(np.rot90(np.stack(frames), turns, axes=(1, 2)))
    analysis = analyse(source, Detector("cpu"))
    assert source.quarter_turns == -turns % 4
    assert [len(analysis.tracks[person]) for person in analysis.people] == [len(frames)]
    assert next(source.frames()).image.shape == frames[0].shape
    assert ("faces are not upright; rotated by" in "".join(analysis.problems)) == (turns > 0)


@pytest.mark.parametrize("shade", ["dark", "left"])
def test_a_face_in_shade_is_found_when_the_clip_is_evenly_lit(shade: str) -> None:
    """Nobody is found in these frames as they are."""
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    frames = [frame.image for frame in FileSource(EXAMPLE).frames(wanted=range(0, 24, 4))]
    across = np.linspace(0, 1, frames[0].shape[1])[None, :, None]
    light = {"dark": 0.05, "left": 0.02 + 0.1 * (across < 0.45)}[shade]
    dim = np.stack([(frame * light).astype(np.uint8) for frame in frames])
    detector = Detector("cpu")
    assert not any((detector(frame).scores > 0.9).any() for frame in dim)
    analysis = analyse(ArraySource(dim), detector)
    assert len(analysis.with_people()) == len(frames)
    main = analysis.tracks[analysis.main() or 0]
    expected = detector(frames[0]).boxes[0]
    assert overlap(main.table[:1, :4], expected)[0] > 0.5


def test_pictures_without_a_face_show_none_in_even_light_either(scene_of: Any) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    random = np.random.default_rng(0)
    cells = random.integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)
    textures = np.stack([np.asarray(Image.fromarray(each).resize((192, 144))) for each in cells])
    for pictures in (np.stack([np.asarray(scene_of())] * 4), textures):
        source = ArraySource(pictures)
        assert analyse(source, Detector("cpu")).people == []
        assert source.quarter_turns == 0
