"""ONNX files answer as torch does: any number of clips and frames, ragged, padded, permuted; and say what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from Code import onnx as exporting
from Code.common.commandline import run_script
from Code.faces.predict import Predictor
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights, to_published
from tests.runs import save_run

onnx = pytest.importorskip("onnx", reason="needs requirements-onnx.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-onnx.txt")
pytest.importorskip("onnxscript", reason="needs requirements-onnx.txt")

LABELS = ("Happy", "Angry", "Sad", "Tired")
SIZE = 32
PROJECT = Path(__file__).resolve().parents[1]


def network(at_type: int, num_classes: int = len(LABELS)) -> FAN:
    """A random network whose answers and weights are far from uniform."""
    torch.manual_seed(at_type)
    fan = FAN(at_type, num_classes).eval()
    for name, value in fan.named_parameters():
        if name.startswith("head."):
            value.data *= 20
    return fan


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run, relation-attention."""
    path = tmp_path_factory.mktemp("model") / "2026_run" / "best.pth"
    return save_run(path, network(1), LABELS, image_size=SIZE, dataset="folders", epoch=3)


@pytest.fixture(scope="module")
def files(run: Path) -> dict[str, Path]:
    """Each part as a file: an export takes seconds."""
    paths = {part: run.parent / f"{part}.onnx" for part in ("all", "features", "head")}
    for part, path in paths.items():
        assert exporting.main(["--checkpoint", str(run.parent), "--part", part, "--output", str(path)]) == 0
    return paths


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def answer(path: Path, **given: torch.Tensor) -> list[np.ndarray]:
    return session(path).run(None, {name: value.numpy() for name, value in given.items()})


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 6), (5, 1), (5, 8)])
def test_ragged_clips_in_one_file_and_in_two(files: dict[str, Path], run: Path, clips: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(clips * frames)
    lengths = torch.randint(1, frames + 1, (clips,), generator=generator)
    lengths[0] = 1
    images = torch.rand(clips, frames, 3, SIZE, SIZE, generator=generator)
    fan, _ = load_fan(run)
    expected = fan(images, lengths)
    (features,) = answer(files["features"], images=images.flatten(0, 1))
    close(features, fan.encode(images.flatten(0, 1)))
    clip_features = torch.from_numpy(features).unflatten(0, (clips, frames))
    for logits, weights in (
        answer(files["all"], images=images, lengths=lengths),
        answer(files["head"], features=clip_features, lengths=lengths),
    ):
        close(logits, expected.logits)
        close(weights, expected.weights)


def test_the_file_is_valid_and_says_what_it_is(files: dict[str, Path]) -> None:
    for part, path in files.items():
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [opset.version for opset in model.opset_import if not opset.domain] == [18]
        about = {entry.key: entry.value for entry in model.metadata_props}
        assert about["part"] == part and json.loads(about["labels"]) == list(LABELS)
        assert (about["image_size"], about["color_mode"], about["at_type"]) == (str(SIZE), "RGB", "1")
        assert (json.loads(about["mean"]), json.loads(about["std"])) == ([0, 0, 0], [1, 1, 1])
        assert (about["checkpoint"], about["opset"]) == (f"{path.parent.name}/best.pth", "18")
        assert float(about["largest_difference"]) <= 1e-4
        assert str(PROJECT).encode() not in path.read_bytes(), "paths of this machine"
    shapes = {value.name: value.shape for value in session(files["all"]).get_inputs()}
    assert shapes == {"images": ["clips", "frames", 3, SIZE, SIZE], "lengths": ["clips"]}


def test_a_published_fan_in_half_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fan = network(1, 7)
    weights = {**published_weights(network(0, 7)), **published_weights(fan)}  # such a file holds all heads
    half = {f"module.{name}": value.half() for name, value in weights.items()}
    save_atomically({"state_dict": half, "epoch": 9, "best_prec1": 51.2}, tmp_path / "fan.pth.tar")
    flags = ("--checkpoint", tmp_path / "fan.pth.tar", "--part", "head", "--at_type", 0, "--image-size", 40)
    assert exporting.main([*map(str, flags), "--output", str(tmp_path / "head.onnx")]) == 0
    out, err = capsys.readouterr()
    assert "published, resnet18, self-attention, 7 classes, 40 x 40 pixels" in out and not err


def test_a_frame_classifier_sees_gray(tmp_path: Path) -> None:
    saved = {"state_dict": to_published(network(2, 8), half=True), "image_size": 40}
    save_atomically(saved, tmp_path / "ferplus.pth")
    flags = ("--checkpoint", tmp_path / "ferplus.pth", "--part", "head", "--output", tmp_path / "two.onnx")
    assert exporting.main([str(flag) for flag in flags]) == 0
    about = session(tmp_path / "two.onnx").get_modelmeta().custom_metadata_map
    assert about["color_mode"] == "L" and json.loads(about["labels"])[0] == "neutral"


def test_a_file_that_answers_otherwise_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "fan.onnx"
    output.write_text("what was there")
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)  # below what float32 can keep
    argv = ["--checkpoint", str(run), "--part", "head", "--output", str(output)]
    assert run_script(lambda: exporting.main(argv)) == 2
    assert "outputs differ from torch's by" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["fan.onnx"] and output.read_text() == "what was there"


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*flags: object) -> str:
        try:
            assert run_script(lambda: exporting.main([str(flag) for flag in flags])) == 2
        except SystemExit as stop:
            assert stop.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "no such file" in refused("--checkpoint", tmp_path / "no.pth", "--output", tmp_path / "a.onnx")
    assert "ends in .onnx" in refused("--checkpoint", run, "--output", run)
    assert "argument --image-size: '8' is not a whole number from 32" in refused(
        "--checkpoint", run, "--image-size", 8, "--output", tmp_path / "a.onnx"
    )
    taken = tmp_path / "a_file" / "a.onnx"
    taken.parent.write_text("")
    assert "cannot be written (" in refused("--checkpoint", run, "--part", "head", "--output", taken)
    taken.parent.unlink()
    monkeypatch.setattr(exporting, "PACKAGES", ("onnx", "a_package_that_is_missing"))
    said = refused("--checkpoint", run, "--output", tmp_path / "a.onnx")
    assert said.startswith("error: the export needs a_package_that_is_missing (")
    assert said.endswith("pip install -r requirements-onnx.txt")
    assert not os.listdir(tmp_path)


def test_the_example_runs_where_torch_cannot_be_imported(files: dict[str, Path], run: Path, tmp_path: Path) -> None:
    crops, blocked = tmp_path / "crops", tmp_path / "blocked" / "torch"
    crops.mkdir()
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch is not here')\n")
    coarse = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(coarse):
        Image.fromarray(pixels).resize((50, 50), Image.Resampling.BICUBIC).save(crops / f"{number}.png")
    picture, on_its_side = Image.fromarray(coarse[0]).resize((224, 224), Image.Resampling.BICUBIC), Image.Exif()
    on_its_side[0x0112] = 6
    picture.save(crops / "5.jpg", exif=on_its_side)
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(crops / "6.png")
    picture.transpose(Image.Transpose.ROTATE_180).save(crops / "7.bmp")
    (crops / ".8.png").write_bytes(b"of a file manager")

    def python(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(blocked.parent)}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert "torch is not here" in python("-c", "import torch").stderr
    example = PROJECT / "docs" / "onnx_example.py"
    (tmp_path / "half.onnx").write_bytes(files["all"].read_bytes()[:1000])
    for path, reason in (
        (files["head"], "only the head of a network; export all of it with --part all\n"),
        (tmp_path / "half.onnx", "not an exported network, or damaged: export it again\n"),
    ):
        refused = python(example, path, crops)
        assert refused.returncode == 1 and refused.stderr.startswith(f"{path}: ")
        assert refused.stderr.endswith(reason) and refused.stderr.count("\n") == 1
    said = python(example, files["all"], crops)
    assert said.returncode == 0, said.stderr
    expression, probabilities, weights = said.stdout.splitlines()
    expected = Predictor(run, "cpu", precision="fp32")(crops, aligned=True, pictures=False)
    assert expression == expected.expression

    def numbers(line: str) -> dict[str, float]:
        return {name: float(value) for name, value in (entry.rsplit(" ", 1) for entry in line.split(", "))}

    assert numbers(probabilities) == pytest.approx(expected.probabilities, abs=1e-4)
    assert numbers(weights) == pytest.approx(dict(zip(expected.frames, expected.weights, strict=True)), abs=1e-4)
    assert np.ptp(expected.weights) > 0.1, "weights that differ, or the test says nothing"
