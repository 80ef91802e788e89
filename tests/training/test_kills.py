"""Fifty times kill -9 at random instants of a short training: every one resumes, and ends as one never stopped."""

from __future__ import annotations

import mmap
import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import Demo_AFEW_Attention as script
from Code.training import run, run_folder, trainer
from tests.runs import ended_alike, flags_of, forked, only_run, without_pictures

KILLS = 50
PHASES = ("before the training", "step", "save", "evaluation", "log", "results")


class Doing:
    """What a child was doing when it was killed: a byte that it shares with its parent."""

    def __init__(self) -> None:
        self.byte = mmap.mmap(-1, 1)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        before, self.byte[0] = self.byte[0], PHASES.index(phase)
        try:
            yield
        finally:
            self.byte[0] = before

    def around(self, patch: pytest.MonkeyPatch, place: object, name: str, phase: str) -> None:
        """Notes the phase whenever `place.name` is called."""
        call = getattr(place, name)

        def noted(*args, **kwargs):
            with self.during(phase):
                return call(*args, **kwargs)

        patch.setattr(place, name, noted)

    @property
    def phase(self) -> str:
        return PHASES[self.byte[0]]


def start(work: Callable[[], int], patch: pytest.MonkeyPatch, doing: Doing) -> tuple[int, int]:
    """Starts a training in a child; (its id, a descriptor that can be read from when its first epoch begins)."""
    reading, writing = os.pipe()
    doing.byte[0] = 0
    train = run.run_training

    def told(*args) -> None:
        os.write(writing, b"1")
        with doing.during("step"):
            train(*args)

    with patch.context() as inner:
        inner.setattr(run, "run_training", told)
        child = forked(work)
    os.close(writing)
    return child, reading


@pytest.fixture
def no_pictures() -> Iterator[None]:
    with without_pictures():
        yield


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_kills_lose_nothing(call, sample, tmp_path, monkeypatch, capfd, no_pictures):
    epochs = 4
    flags = (*flags_of(sample, "--epochs", epochs, "--pretrained", "none"), "--workers", 0)
    doing = Doing()
    for place, name, phase in (
        (run_folder, "save_atomically", "save"),
        (trainer, "evaluate_split", "evaluation"),
        (run_folder.Run, "log", "log"),
        (run, "conclude", "results"),
    ):
        doing.around(monkeypatch, place, name, phase)

    def training(cwd: Path, *more: object) -> Callable[[], int]:
        def work() -> int:
            outcome = call(script, *more, cwd=cwd)
            (cwd / "stderr.txt").write_text(outcome.err)
            return outcome.status

        return work

    whole = tmp_path / "whole"
    whole.mkdir()
    begun = time.monotonic()
    child, reading = start(training(whole, *flags), monkeypatch, doing)
    assert select.select([reading], [], [], 120)[0]
    training_begun = time.monotonic()
    assert os.waitpid(child, 0)[1] == 0, (whole / "stderr.txt").read_text()
    os.close(reading)
    seconds = time.monotonic() - training_begun
    print(f"a whole training: {time.monotonic() - begun:.1f} s, {seconds:.1f} s of them after its start-up")

    rng = random.Random(0)
    kills, finished, attempts = Counter[str](), 0, 0
    while sum(kills.values()) < KILLS or attempts:
        cwd = tmp_path / f"run{finished}"
        if not attempts:
            cwd.mkdir()
        attempts += 1
        # Every step, some times an epoch, or only after epochs; the last kind must get through an epoch.
        minutes = rng.choice([1e-9, 1e-9, 0.004, 0])
        resuming = attempts > 1
        flags_now = ("--resume", only_run(cwd), "--device", "cpu", "--workers", 0) if resuming else flags
        child, reading = start(training(cwd, *flags_now, "--checkpoint-every", minutes), monkeypatch, doing)
        begun_training = bool(select.select([reading], [], [], 120)[0])
        os.close(reading)
        assert begun_training
        last_one = sum(kills.values()) >= KILLS
        deadline = time.monotonic() + (1000 if last_one else rng.uniform(0, 0.6 * seconds))
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.002)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            if os.WIFSIGNALED(ended[1]):
                kills[doing.phase] += 1
                continue
        assert os.WIFEXITED(ended[1]) and os.WEXITSTATUS(ended[1]) == 0, (cwd / "stderr.txt").read_text()
        folder = only_run(cwd)
        assert ended_alike(folder, only_run(whole)) and not list(folder.glob(".*"))
        finished, attempts = finished + 1, 0
    spent = time.monotonic() - begun
    with capfd.disabled():
        print(f"\n{sum(kills.values())} kills {dict(kills)}, {finished} trainings finished alike, {spent:.0f} s")
    assert sum(kills.values()) >= KILLS and finished >= 2
    assert kills["step"] > 0 and kills["save"] > 0
