"""What several test files share: one thread, a tiny drawn sample, a tiny FER+ tree, and a way to call the scripts."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# Of the programs that tests start, too: trainings side by side with a thread per core each get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

import Demo_AFEW_Attention
from Code.common.commandline import run_script
from Code.common.names import FERPLUS_LABELS
from Code.readers.ferplus import SPLITS, VOTE_COLUMNS
from Code.sample import draw_sample
from Code.sample.clip import SampleSpec
from tests.runs import flags_of, only_run

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def small_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """pytest keeps the temporary files of three sessions: not those of 45 MB."""
    yield
    for path in tmp_path_factory.getbasetemp().rglob("*.pth*"):
        path.unlink()


@dataclass
class Outcome:
    """What a script's call came to."""

    status: int
    out: str
    err: str


def call_script(script: ModuleType, *arguments: object, cwd: Path) -> Outcome:
    """Calls a script's `main` as its last lines do, in a working directory, with its output caught."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = run_script(script.main)
            except SystemExit as stop:  # argparse: --help or a malformed flag
                status = stop.code if isinstance(stop.code, int) else 1
    return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def call() -> Callable[..., Outcome]:
    return call_script


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn sample of two training clips and one validation clip per class."""
    spec = SampleSpec(num_train_clips=14, num_val_clips=7, frames=(4, 7), size=48)
    return draw_sample(tmp_path_factory.mktemp("drawn") / "Sample", spec=spec)


@dataclass
class Trained:
    """A run of two epochs of three steps."""

    folder: Path
    out: str


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Trained:
    cwd = tmp_path_factory.mktemp("trained")
    flags = flags_of(sample, "--epochs", 2, "--pretrained", "none", "--workers", 0)
    outcome = call_script(Demo_AFEW_Attention, *flags, cwd=cwd)
    assert outcome.status == 0, outcome.err
    return Trained(only_run(cwd), outcome.out)


FERPLUS_COUNTS = {"Training": 24, "PublicTest": 8, "PrivateTest": 8}


def write_ferplus(root: Path, *, as_csv: bool, counts: dict[str, int] = FERPLUS_COUNTS, seed: int = 0) -> Path:
    """Random images with clear votes in FER+ layout: PNG folders or fer2013.csv.

    Image i of a split is of class i % 8. Image 1 has no file name, as in FER+ where there is no face.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    votes_lines = [["Usage", "Image name", *VOTE_COLUMNS]]
    pixel_lines = [["emotion", "pixels", "Usage"]]
    for usage, count in counts.items():
        if not as_csv:
            (root / SPLITS[usage]).mkdir()
        for index in range(count):
            number = len(votes_lines) - 1
            pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            votes = [0] * len(VOTE_COLUMNS)
            votes[index % 8], votes[(index + 1) % 8] = 8, 2
            name = "" if index == 1 else f"fer{number:07d}.png"
            votes_lines.append([usage, name, *map(str, votes)])
            pixel_lines.append(["0", " ".join(map(str, pixels.ravel())), usage])
            if name and not as_csv:
                Image.fromarray(pixels).save(root / SPLITS[usage] / name)
    for name, lines in {"fer2013new.csv": votes_lines, **({"fer2013.csv": pixel_lines} if as_csv else {})}.items():
        with (root / name).open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return root


@pytest.fixture(scope="session")
def make_ferplus() -> Callable[..., Path]:
    return write_ferplus


@pytest.fixture(scope="session")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FER+ tree of PNG files."""
    assert len(FERPLUS_LABELS) == 8
    return write_ferplus(tmp_path_factory.mktemp("fer") / "FERPlus", as_csv=False)
