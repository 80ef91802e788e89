"""Times that start again, leap, pause or are missing. Each test encodes its own video."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from Code.faces.clock import Clock, Stamps
from Code.faces.prediction import windows
from Code.faces.video import Source
from tests.faces.pictures import plain

pytest.importorskip("av", reason="videos need PyAV")

Write = Callable[..., Path]


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


@pytest.mark.parametrize(("rate", "flags"), [(10, {}), (50, {"bf": "0"})])
def test_bare_h264_has_the_rate_that_its_stream_states(tmp_path: Path, rate: int, flags: dict[str, str]) -> None:
    av = pytest.importorskip("av")
    if "libx264" not in av.codecs_available:
        pytest.skip("PyAV without H.264")
    with av.open(str(tmp_path / "bare.h264"), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=flags)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(8):
            container.mux(stream.encode(av.VideoFrame.from_image(plain(20 * level))))
        container.mux(stream.encode())
    source = Source(tmp_path / "bare.h264")
    np.testing.assert_allclose([frame.time for frame in source.frames()], np.arange(8) / rate, atol=1e-6)
    assert source.fps == rate


@pytest.mark.parametrize(
    ("stamps", "chosen"),
    [
        ([(2, 4), (6, 6), (8, 8), (4, 10), (12, 12), (14, 14), (10, 16)], [2, 6, 8, 10, 12, 14, 16]),  # AVI, B-frames
        ([(0, 0), (1, 1), (2, 2), (0, 0), (1, 1)], [0, 1, 2, 0, 1]),  # joined: both step back
        ([(3, None), (1, None), (2, None)], [3, 1, 2]),
        ([(None, 5), (None, 6), (None, None)], [5, 6, None]),
        ([(3, 1), (4, 2), (5, 3)], [3, 4, 5]),
    ],
)
def test_the_better_of_two_timestamps_is_taken(
    stamps: list[tuple[int | None, int | None]], chosen: list[int | None]
) -> None:
    choose = Stamps()
    assert [choose(*pair) for pair in stamps] == chosen


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


def test_a_pause_has_no_windows() -> None:
    starts, ends = windows(np.array([0.0, 0.5, 300.0, 300.5]), 1.0, 0.5)
    assert len(starts) < 6
    assert ends[-1] >= 300.5
    np.testing.assert_array_equal(ends - starts, 1.0)
