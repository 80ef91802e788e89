"""The package `emotion_fan` is built, installed and used outside of the project's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from Code import __version__

ROOT = Path(__file__).resolve().parents[1]
SNIPPET = """
from emotion_fan import FAN, Predictor, load_fan

prediction = Predictor()("clip.mp4")
reveal_type(prediction)
reveal_type(load_fan("fan.pth"))
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment with the package; the other packages are those of this one, linked."""
    pytest.importorskip("setuptools", minversion="77", reason="older ones cannot build the package")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"  # building leaves folders beside what is built
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *(path.name for path in ROOT.glob("*.txt"))):
        shutil.copy(ROOT / name, source)
    for name in ("Code", "pretrain_model"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    site = next((folder / "venv").rglob("site-packages"))
    places = [place for place in sys.path if place.endswith("-packages")]
    (site / "linked.pth").write_text("\n".join(places))
    flags = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    # Before what the environment's own pip brings, which may be older.
    run(scripts / "python", "-m", "pip", "install", *flags, source, cwd=folder, PYTHONPATH=os.pathsep.join(places))
    return scripts


@pytest.mark.slow
def test_the_installed_command_answers_in_another_folder(environment: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    shutil.copy(ROOT / "docs" / "example.mp4", tmp_path / "clip.mp4")
    assert run(environment / "emotion-fan", "--version", cwd=tmp_path) == f"emotion-fan {__version__}\n"
    said = run(environment / "emotion-fan", "clip.mp4", "--device", "cpu", cwd=tmp_path)
    assert "happiness" in said and (tmp_path / "predictions" / "predictions.html").exists()
    program = (
        "import emotion_fan; answer = emotion_fan.Predictor(device='cpu')('clip.mp4'); "
        "print(answer.expression, emotion_fan.__version__, emotion_fan.__file__)"
    )
    expression, version, place = run(environment / "python", "-c", program, cwd=tmp_path).split()
    assert (expression, version) == ("happiness", __version__) and Path(place).is_relative_to(environment.parent)


@pytest.mark.slow
def test_type_checkers_see_what_an_answer_is(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    python = environment / "python"
    said = run(sys.executable, "-m", "mypy", "--python-executable", python, "snippet.py", cwd=tmp_path)
    answer, network = [line for line in said.splitlines() if "Revealed type" in line]
    assert "emotion_fan.faces.prediction.Prediction" in answer and "emotion_fan.network.fan.FAN" in network
