"""`--backbone`: other networks of torchvision, from the training to the answer; and what is said about wrong ones."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

import Demo_AFEW_Attention as script
import Pretrain_FERPlus as pretrain
from Code.common.errors import UsageError
from Code.faces.predict import Predictor
from Code.network.backbone import Backbone, backbone_names
from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.start import start_from
from Code.network.weights import load_fan, to_published
from Code.onnx import export
from Code.training import train
from tests.runs import flags_of, read_json, save_run, without_pictures

LABELS = ("Happy", "Sad")
MACHINE = ("--workers", 0, "--cache", "none")


def one_line(err: str, *wanted: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1 and len(err) < 700 and all(word in err for word in wanted)


def try_out(name: str, size: int, parts: tuple[str, ...], call: Callable, sample: Path, cwd: Path) -> None:
    """Trains, stops after an epoch, resumes, evaluates, exports, and answers a folder of face crops."""
    flags = flags_of(sample, *MACHINE, "--image-size", size, "--epochs", 2, "--backbone", name, "--pretrained", "none")
    line = train.epoch_line
    with without_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "epoch_line", lambda *given: (os.kill(os.getpid(), signal.SIGTERM), line(*given))[1])
        stopped = call(script, *flags, cwd=cwd)
        assert stopped.status == 143, stopped.err
    (run,) = (cwd / "model").iterdir()
    first = read_checkpoint(run / "last.pth")
    assert first["backbone"] == name and first["epoch"] == 1
    with without_pictures():
        resumed = call(script, "--resume", run, cwd=cwd)
        assert resumed.status == 0, resumed.err
        assert read_checkpoint(run / "last.pth")["epoch"] == 2
        evaluated = call(script, *flags_of(sample, *MACHINE, "--image-size", size, "-e"), cwd=cwd)
        assert evaluated.status == 0, evaluated.err
    (again,) = (cwd / "model").glob("*_evaluation")
    first, second = (read_json(folder / "results.json")["best"]["loss"] for folder in (run, again))
    assert second == pytest.approx(first, rel=1e-4)

    fan, info = load_fan(run / "best.pth")
    assert info["backbone"] == fan.backbone.name == name
    predictor = Predictor(run, "cpu")
    folder = next((sample / "Val" / "Fear").iterdir())
    answer = predictor(folder, aligned=True)
    assert answer.features.shape[1] == fan.feature_size and sum(answer.probabilities.values()) == pytest.approx(1)
    if all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        import onnx

        for part in parts:
            assert export(fan, info, cwd / f"{part}.onnx", part) < 1e-4
            about = {entry.key: entry.value for entry in onnx.load(cwd / f"{part}.onnx").metadata_props}
            assert about["backbone"] == name


# Fast


def test_mobilenet_from_the_training_to_the_answer(call, sample: Path, tmp_path: Path) -> None:
    try_out("mobilenet_v3_small", 32, ("head",), call, sample, tmp_path)


def test_a_mobilenet_of_faces_is_a_start(call, ferplus: Path, sample: Path, tmp_path: Path) -> None:
    """Pretrain_FERPlus.py --backbone, then a head on its frozen backbone."""
    small = ("--epochs", 1, "--image-size", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32")
    with without_pictures():
        made = call(pretrain, "--data-root", ferplus, "--backbone", "mobilenet_v3_small", *small, cwd=tmp_path)
        assert made.status == 0, made.err
        path = tmp_path / "pretrain_model" / "mobilenet_v3_small_FER+.pth.tar"
        stored = read_checkpoint(path)
        assert stored["arch"] == "mobilenet_v3_small" and "module.classifier.3.weight" in stored["state_dict"]
        assert load_fan(path)[1]["kind"] == "frame classifier"
        flags = flags_of(sample, *MACHINE, "--epochs", 1, "--pretrained", path, "--freeze-backbone", "--output", "runs")
        trained = call(script, *flags, cwd=tmp_path)
    assert trained.status == 0, trained.err
    (run,) = (tmp_path / "runs").iterdir()
    after = read_checkpoint(run / "last.pth")
    assert after["backbone"] == "mobilenet_v3_small"
    name = "features.0.0.weight"
    assert torch.equal(after["state_dict"][name], stored["state_dict"][f"module.{name}"])


def test_wrong_names_sizes_and_weights_are_one_line(call, sample: Path, tmp_path: Path) -> None:
    def said(*flags: object) -> str:
        outcome = call(script, *flags, cwd=tmp_path)
        assert outcome.status == 2 and not (tmp_path / "model").exists()
        return outcome.err

    assert one_line(said(*flags_of(sample, "--pretrained", "none", "--backbone", "resnt50")), "resnt50", "resnet50")
    vit = said(*flags_of(sample, "--image-size", 64, "--pretrained", "none", "--backbone", "vit_b_16"))
    assert one_line(vit, "--image-size 64", "vit_b_16", "--image-size 224")

    published, torchvisions = tmp_path / "published.pth.tar", tmp_path / "torchvision.pth"
    fan = FAN(2, 8, backbone="mobilenet_v3_small")
    save_atomically({"state_dict": to_published(fan), "arch": fan.backbone.name}, published)
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), torchvisions)
    named = said(*flags_of(sample, *MACHINE, "--pretrained", published, "--backbone", "resnet18"))
    assert one_line(named, str(published), "mobilenet_v3_small, not of resnet18")
    assert one_line(said(*flags_of(sample, *MACHINE, "--pretrained", torchvisions)), str(torchvisions), "--backbone")
    start = start_from(torchvisions, 1, LABELS, seed=0, backbone="mobilenet_v3_small")
    assert "dropped: classifier.3" in start.message


def test_prediction_and_export_check_the_size(tmp_path: Path) -> None:
    """squeezenet1_1 needs 17 pixels."""
    fan = FAN(2, 2, backbone="squeezenet1_1").half()
    save_run(tmp_path / "best.pth", fan, LABELS, backbone="squeezenet1_1", image_size=16)
    with pytest.raises(UsageError, match="squeezenet1_1 cannot take images of 16 x 16"):
        Predictor(tmp_path, "cpu")
    with pytest.raises(UsageError, match="squeezenet1_1 cannot take images of 12 x 12"):
        export(*load_fan(tmp_path / "best.pth"), tmp_path / "fan.onnx", image_size=12)
    save_run(tmp_path / "best.pth", fan, LABELS, backbone="a_network_of_tomorrow")
    with pytest.raises(CheckpointError, match="a_network_of_tomorrow"):
        load_fan(tmp_path / "best.pth")


def test_a_size_is_checked_without_changing_the_network() -> None:
    backbone = Backbone("regnet_y_400mf")  # cannot be built on the meta device
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.check_image_size(32)
    assert backbone.training and all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


# Slow


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet50"])
def test_a_network_from_the_training_to_the_answer(name: str, call, sample: Path, tmp_path: Path) -> None:
    try_out(name, 64, ("all", "features"), call, sample, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_vision_transformer_from_the_training_to_the_answer(call, sample: Path, tmp_path: Path) -> None:
    try_out("vit_b_16", 224, ("features",), call, sample, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in backbone_names() if not name.endswith(("h_14", "128gf"))])
def test_every_network_gives_features_of_its_size(name: str) -> None:
    """Except two that take several GB. The parameters have other names than those of the heads."""
    backbone = Backbone(name)
    backbone.check_image_size(224)
    shapes = {key: value.to("meta") for key, value in backbone.state_dict().items()}
    with torch.no_grad():
        features = torch.func.functional_call(backbone.eval(), shapes, torch.empty(2, 3, 224, 224, device="meta"))
    assert features.shape == (2, backbone.feature_size)
    assert not any(key.startswith("network.head.") for key in shapes)
