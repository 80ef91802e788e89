"""The sound of an annotated video: recordings that were joined, and containers that keep times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Code.data.clips import DataError
from Code.faces.inputs import WRITTEN_SUFFIXES
from Code.faces.render import SOUND_RATE, Sound, VideoWriter
from Code.faces.video import FileSource
from tests.faces.conftest import plain

av: Any = pytest.importorskip("av", reason="videos need PyAV")

RATE = 44_100


def talk(path: Path, audio: str, begin: float = 0.0, missing: int = 0) -> Path:
    """20 frames at 25 a second, without the first `missing` ones, and a tone; times start at `begin`, in seconds."""
    with av.open(str(path), "w") as container:
        stream, voice = container.add_stream("mpeg2video", rate=25), container.add_stream(audio, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        voice.layout = "mono"
        for number in range(missing, 20):
            frame = av.VideoFrame.from_image(plain(10 * number))
            frame.pts, frame.time_base = number + round(25 * begin), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        length = 20 * RATE // 25
        tone = av.AudioFrame.from_ndarray(
            (np.sin(np.arange(length) / 20) * 8000).astype(np.int16)[None], format="s16", layout="mono"
        )
        tone.sample_rate, tone.pts = RATE, round(begin * RATE)
        size = voice.codec_context.frame_size or 1024
        for part in av.AudioResampler(voice.format, "mono", RATE, size).resample(tone):
            container.mux(voice.encode(part))
        container.mux(voice.encode())
    return path


def annotated(path: Path, output: Path) -> tuple[list[float], float, str]:
    """Times of the frames of a copy with the sound of a video, the length of its sound in seconds, and the problem."""
    source = FileSource(path)
    frames = list(source.frames())
    with VideoWriter(output, (64, 48), sound=path, begin=source.begin) as writer:
        for frame in frames:
            writer.add(plain(int(frame.image.mean())), frame.time)
    with av.open(str(output)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return [frame.time for frame in FileSource(output).frames()], samples / SOUND_RATE, writer.problem


@pytest.mark.parametrize(("audio", "suffix"), [("aac", ".ts"), ("pcm_s16le", ".mkv")])
@pytest.mark.parametrize("begin", [0.0, 5000.0])
def test_the_sound_of_joined_recordings_goes_on(tmp_path: Path, audio: str, suffix: str, begin: float) -> None:
    """Their times start again, or leap; so do those of the sound."""
    parts = [talk(tmp_path / f"part{index}{suffix}", audio, start) for index, start in enumerate((0.0, begin))]
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    times, seconds, problem = annotated(joined, tmp_path / "drawn.mp4")
    np.testing.assert_allclose(times, np.arange(40) / 25, atol=0.05)
    assert seconds == pytest.approx(1.6, abs=0.12)
    assert problem == ""


def test_sound_and_picture_stay_together_where_the_first_pictures_are_missing(tmp_path: Path) -> None:
    """As in a recording of television, which starts anywhere: what comes before its first key frame is no picture."""
    times, seconds, _ = annotated(talk(tmp_path / "cut.mkv", "pcm_s16le", missing=10), tmp_path / "drawn.mp4")
    np.testing.assert_allclose(times, np.arange(10) / 25, atol=2e-3)
    assert seconds == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_containers_keep_the_times_of_frames(tmp_path: Path, suffix: str) -> None:
    writer = VideoWriter(tmp_path / f"drawn{suffix}", (64, 48))
    times = [0.0, 0.1, 0.5, 0.52, 0.9]
    for index, time in enumerate(times):
        writer.add(plain(20 * index), time)
    writer.close()
    read = [frame.time for frame in FileSource(tmp_path / f"drawn{suffix}").frames()]
    np.testing.assert_allclose(read, times, atol=2e-3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"drawn\.avi: cannot be written as a video; name a file ending in \.mp4"):
        VideoWriter(tmp_path / "drawn.avi", (64, 48))
    assert list(tmp_path.iterdir()) == []


def test_without_the_rest_of_its_sound_the_video_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Sound._encoded

    def breaks_off(*args: Any) -> Iterator[Any]:
        yield from islice(whole(*args), 5)
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(Sound, "_encoded", breaks_off)
    times, seconds, problem = annotated(talk(tmp_path / "talk.mkv", "aac"), tmp_path / "drawn.mp4")
    assert len(times) == 20 and 0 < seconds < 0.3
    assert problem == "its sound breaks off (Invalid argument)"
