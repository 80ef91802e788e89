"""What a frame looks like: mirrored and turned, interlaced, HDR, faces on their side."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Code.faces.decoder import HLG, PQ, Upright, turned
from Code.faces.detect import Detector
from Code.faces.extract import BriefSource, analyse
from Code.faces.video import ArraySource, Source
from tests.faces.pictures import card, plain

av: Any = pytest.importorskip("av", reason="videos need PyAV")

Write = Callable[..., Path]

ONE = 1 << 16  # in a display matrix

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
            container.mux(stream.encode(av.VideoFrame.from_image(card())))
        container.mux(stream.encode())
    image = next(Source(path).frames()).image
    expected = seen(np.asarray(card()), matrix)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_matrices_that_turn_by_other_angles_take_the_nearest_view() -> None:
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turned(image, (ONE, ONE // 20, -ONE // 20, ONE)), image)
    np.testing.assert_array_equal(turned(image, (0, 0, 0, 0)), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_with_exif_data_are_upright(tmp_path: Path, orientation: int) -> None:
    """A kind of side data that PyAV 18 does not know."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    views = (None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 2, 6, 4)))  # undone by orientations 1 to 8
    view = views[orientation - 1]
    stored = card() if view is None else card().transpose(view)
    stored.save(tmp_path / "frame.jpg", exif=exif, quality=95)
    (tmp_path / "camera.mjpeg").write_bytes((tmp_path / "frame.jpg").read_bytes() * 3)
    read = list(Source(tmp_path / "camera.mjpeg").frames())
    assert len(read) == 3
    for frame in read:
        assert frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image.astype(int) - np.asarray(card())).mean() < 6


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
    frame = av.VideoFrame.from_image(card())
    np.testing.assert_array_equal(Upright()(frame), np.asarray(card()))
    assert Upright()(frame, float(Fraction(3, 2))).shape == (48, 96, 3)


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


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_real_faces_are_turned_upright(turns: int) -> None:
    """The detector finds faces that stand on their head, too."""
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    example = Path(__file__).parents[2] / "docs" / "example.mp4"
    frames = [frame.image for frame in Source(example).frames(wanted=range(0, 24, 4))]
    source = ArraySource(np.rot90(np.stack(frames), turns, axes=(1, 2)))
    analysis = analyse(source, Detector("cpu"))
    assert source.quarter_turns == -turns % 4
    assert len(analysis.people) == 1
    assert len(analysis.tracks[analysis.people[0]]) == len(frames)
    assert bool(analysis.problems) == (turns > 0)


def test_an_input_without_faces_is_not_turned(tmp_path: Path, write_video: Write, scene_of: Any) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    source = Source(write_video(tmp_path / "empty.mp4", [scene_of()] * 4))
    assert analyse(source, Detector("cpu")).people == []
    assert source.quarter_turns == 0


def test_kept_frames_are_read_again_when_a_rotation_is_taken_back(tmp_path: Path, write_video: Write) -> None:
    source = BriefSource(write_video(tmp_path / "clip.mp4", [card()] * 2))
    (upright, _) = (frame.image for frame in source.frames())
    source.quarter_turns = 1  # tried by `analyse`, which finds nobody this way
    assert next(source.frames(wanted=[1])).image.shape != upright.shape
    assert [frame.image.shape for frame in source.frames()] != [upright.shape] * 2
    source.quarter_turns = 0
    np.testing.assert_array_equal(next(source.frames(wanted=[0])).image, upright)
