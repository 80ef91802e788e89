"""Frames that are replaced or lost during a training, and caches that cannot be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import Demo_AFEW_Attention as script
from Code.data.cache import CacheFile
from Code.data.clips import DataError
from Code.data.stores import FileStore
from Code.readers.folders import read_folders
from tests.runs import ended_alike, flags_of, only_run, told_command, without_pictures


@pytest.fixture(scope="module", autouse=True)
def fast() -> Iterator[None]:
    with without_pictures():
        yield


@pytest.fixture
def own(sample: Path, tmp_path: Path) -> Path:
    """A sample to change."""
    return Path(shutil.copytree(sample, tmp_path / "Sample"))


def replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))


def test_a_frame_of_another_time_than_at_its_first_read_is_named(own):
    clips = read_folders(own / "Train")
    store, ids = FileStore(clips, 16), np.arange(5)
    first = store.read(ids)
    assert (store.read(ids) == first).all()
    replace(Path(store.path(2)))
    with pytest.raises(DataError) as caught:
        store.read(ids)
    assert caught.value.problems == [f"{store.path(2)}: was replaced during the run; start again with the new frames"]
    assert (FileStore(clips, 16).read(ids) == first).all()


def change_before(monkeypatch: pytest.MonkeyPatch, epoch: int, change) -> None:
    from Code.training import trainer

    run_epoch = trainer.run_epoch

    def changed(training, run, number, *rest):
        if number == epoch:
            change()
        run_epoch(training, run, number, *rest)

    monkeypatch.setattr(trainer, "run_epoch", changed)


FLAGS = ("--epochs", 2, "--pretrained", "none", "--cache", "none")


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_replaced_during_a_training_are_named(call, own, tmp_path, monkeypatch, workers):
    frames = sorted((own / "Train").rglob("*.jpg"))
    change_before(monkeypatch, 2, lambda: [replace(frame) for frame in frames])
    outcome = call(script, *flags_of(own, *FLAGS, "--workers", workers), cwd=tmp_path)
    assert outcome.status == 2 and "was replaced during the run" in outcome.err and "Traceback" not in outcome.err
    assert any(str(frame) in outcome.err for frame in frames)
    assert "to resume: python " in outcome.err.splitlines()[-1] and (only_run(tmp_path) / "last.pth").is_file()


def test_a_lost_disk_saves_and_says_how_to_resume(call, own, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    flags = flags_of(own, *FLAGS, "--workers", 0)
    assert call(script, *flags, cwd=tmp_path / "whole").status == 0
    (tmp_path / "lost").mkdir()
    away = tmp_path / "away"
    with monkeypatch.context() as patch:
        change_before(patch, 2, lambda: (own / "Train").rename(away))
        outcome = call(script, *flags, cwd=tmp_path / "lost")
    assert outcome.status == 2 and "no such file" in outcome.err and "The training is saved in " in outcome.err
    away.rename(own / "Train")  # the disk is back
    resumed = call(script, *told_command(outcome.err), cwd=tmp_path / "lost")
    assert resumed.status == 0, resumed.err
    assert ended_alike(only_run(tmp_path / "whole"), only_run(tmp_path / "lost"))


def test_auto_does_without_a_cache_that_cannot_be_written(call, sample, tmp_path):
    (tmp_path / "file").write_text("")
    flags = flags_of(
        sample, "--epochs", 1, "--pretrained", "none", "--workers", 0, "--cache-dir", tmp_path / "file" / "x"
    )
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "cache: none (auto: " in outcome.out and "file/x cannot be written (Not a directory)" in outcome.out
    outcome = call(script, *flags, "--cache", "disk", cwd=tmp_path)
    assert outcome.status == 2 and "--cache disk: " in outcome.err


def test_auto_goes_on_if_building_the_cache_fails(call, sample, tmp_path, monkeypatch):
    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("Code.data.cache._reserve", full)
    flags = flags_of(sample, "--epochs", 1, "--pretrained", "none", "--workers", 0, "--cache-dir", tmp_path / "cache")
    outcome = call(script, *flags, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "note: --cache disk: " in outcome.out and "frames are decoded when they are needed" in outcome.out


def test_a_cache_that_is_cut_while_it_is_read_kills_nothing(own, tmp_path):
    clips = read_folders(own / "Train")
    cache = CacheFile(clips, 16, tmp_path / "cache")
    store, ids = cache.open(0, lambda line: None, show_progress=False), np.arange(6)
    first = store.read(ids)
    with cache.path.open("r+b") as file:
        file.truncate(cache.pixels_at + cache.frame_bytes)
    assert (store.read(ids) == first).all()  # decoded again
    cache.path.unlink()
    assert (store.read(ids) == first).all()
