"""A network to publish: half as big, as good, and without paths of the machine that it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.errors import ProjectError, UsageError
from Code.network.checkpoints import CheckpointError, read_checkpoint
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights
from Code.recipes.release import main, released

SMALL = ("--image-size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, call, sample: Path) -> Path:
    cwd = tmp_path_factory.mktemp("release")
    roots = ("--train-root", sample / "Train", "--val-root", sample / "Val")
    flags = ("--dataset", "sample", *roots, *SMALL, "--pretrained", "none", "--epochs", 1, "--at_type", 1)
    outcome = call(script, *flags, cwd=cwd)
    assert outcome.status == 0, outcome.err
    return next((cwd / "model").iterdir())


def test_a_released_network_is_the_run_in_half_precision(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "fan.pth"
    assert main([str(run), "--output", str(path)]) == 0
    assert path.stat().st_size < 23_000_000
    fan, info = load_fan(path)
    own, _ = load_fan(run / "last.pth")
    assert info["at_type"] == 1 and info["image_size"] == 32 and info["dataset"] == "sample"
    for name, value in published_weights(own).items():
        assert torch.equal(published_weights(fan)[name], value.half().to(value.dtype)), name
    content = read_checkpoint(path)
    assert content["backbone"] == "resnet18"
    assert content["input"].endswith("no mean/std normalization")
    assert content["about"]["results"]["accuracy"] == content["metrics"]["accuracy"]
    assert content["about"]["seed"] == 0 and content["about"]["commands"][0].startswith("python ")
    # The command is what was typed; the rest names no folder of this machine.
    del content["about"]["commands"], content["state_dict"]
    assert str(tmp_path.parent) not in str(content) and str(Path.home()) not in str(content["protocol"])
    assert content["protocol"]["train_root"] == "Data/Sample/Train"
    assert "train_root" not in content["protocol"]["data_flags"]


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        main([str(tmp_path), "--output", str(tmp_path / "fan.pth")])
    fan = FAN(1, 7)
    weights = {**published_weights(fan), "alpha.0.bias": torch.tensor([1e9])}
    whole = {**read_checkpoint(run / "last.pth"), "state_dict": weights}
    with pytest.raises(CheckpointError, match=r"alpha\.0\.bias is not finite in half precision"):
        released(whole, {})


def test_a_calibrated_network_with_another_prior(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fan.pth"
    assert main([str(run), "--output", str(path), "--calibrate", "--balance", "1"]) == 0
    assert "expected calibration error on" in capsys.readouterr().out
    content, own = read_checkpoint(path), read_checkpoint(run / "last.pth")
    figures = content["about"]["calibration"]
    assert figures["error_after"] <= figures["error_before"] + 0.05 and figures["clips"] == 7
    weight, bias = (own["state_dict"][f"pred_fc2.{part}"] / figures["temperature"] for part in ("weight", "bias"))
    assert torch.allclose(content["state_dict"]["pred_fc2.weight"].float(), weight, atol=1e-3)
    moved = bias - torch.tensor(own["class_shares"]).log()
    assert torch.allclose(content["state_dict"]["pred_fc2.bias"].float(), moved, atol=1e-2)
    assert content["recipe"]["balance"] == "1.0" and sum(content["class_shares"]) == pytest.approx(1)
    assert "metrics" not in content  # the accuracy was that of the old prior
    assert main([str(run), "--output", str(path), "--calibrate"]) == 0
    metrics = read_checkpoint(path)["metrics"]
    assert metrics["accuracy"] == own["metrics"]["accuracy"] and "loss" not in metrics


def test_a_temperature_is_not_fitted_on_the_answers_of_another_epoch(run: Path, tmp_path: Path) -> None:
    whole = (run / "results.json").read_text()
    content = json.loads(whole)
    content["best"]["epoch"] = 7  # whose answers predictions.csv then has
    (run / "results.json").write_text(json.dumps(content))
    try:
        with pytest.raises(UsageError, match=r"the best epoch, 7, not of epoch 1; add --which best"):
            main([str(run), "--output", str(tmp_path / "fan.pth"), "--calibrate"])
    finally:
        (run / "results.json").write_text(whole)
    assert not (tmp_path / "fan.pth").exists()


def test_a_run_whose_arguments_lack_something_is_refused(run: Path, tmp_path: Path) -> None:
    whole = (run / "args.json").read_text()
    content = json.loads(whole)
    del content["args"]
    (run / "args.json").write_text(json.dumps(content))
    try:
        with pytest.raises(ProjectError, match=r"args\.json: has no field "):
            main([str(run), "--output", str(tmp_path / "fan.pth")])
    finally:
        (run / "args.json").write_text(whole)
    assert not (tmp_path / "fan.pth").exists()
