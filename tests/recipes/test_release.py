"""A network to publish: half as big, as good, without paths of its machine; with a temperature or another prior."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import Demo_AFEW_Attention as script
from Code.common.errors import UsageError
from Code.common.names import FERPLUS_LABELS
from Code.composed.plan import choose_stills
from Code.data.augment import to_float
from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.weights import load_fan, published_weights, to_published
from Code.readers.ferplus import read_ferplus
from Code.recipes.ferplus_accuracy import calibration_error, fit_temperature
from Code.recipes.release import main, released, with_classifier

SMALL = ("--image-size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu", "--precision", "fp32")
SHARES = [0.7, 0.2, 0.1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, call, sample: Path) -> Path:
    cwd = tmp_path_factory.mktemp("release")
    roots = ("--train-root", sample / "Train", "--val-root", sample / "Val")
    flags = ("--dataset", "sample", *roots, *SMALL, "--pretrained", "none", "--epochs", 1, "--at_type", 1)
    outcome = call(script, *flags, cwd=cwd)
    assert outcome.status == 0, outcome.err
    return next((cwd / "model").iterdir())


def write(path: Path, **about) -> Path:
    torch.manual_seed(0)
    content = {"state_dict": to_published(FAN(2, 3)), "labels": ["a", "b", "c"], "image_size": 32, **about}
    save_atomically(content, path)
    return path


def answer(path: Path) -> torch.Tensor:
    with torch.inference_mode():
        return load_fan(path)[0](torch.full((1, 1, 3, 32, 32), 0.5)).logits[0].softmax(dim=0)


# Runs


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
    assert content["input"].endswith("no mean/std normalization")
    assert content["about"]["results"]["accuracy"] == content["metrics"]["accuracy"]
    assert content["about"]["seed"] == 0 and content["about"]["commands"][0].startswith("python ")
    # The command is what was typed; the rest names no folder of this machine.
    del content["about"]["commands"], content["state_dict"]
    assert str(tmp_path.parent) not in str(content) and str(Path.home()) not in str(content["protocol"])
    assert content["protocol"]["epochs"] == 1
    assert not {"train_root", "val_root"} & (content["protocol"].keys() | content["protocol"]["data_flags"].keys())


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        main([str(tmp_path), "--output", str(tmp_path / "fan.pth")])
    weights = {**published_weights(FAN(1, 7)), "alpha.0.bias": torch.tensor([1e9])}
    with pytest.raises(CheckpointError, match=r"alpha\.0\.bias is not finite in half precision"):
        released({**read_checkpoint(run / "last.pth"), "state_dict": weights}, {})
    assert not (tmp_path / "fan.pth").exists()


def test_a_run_gets_a_temperature_and_another_prior(run: Path, tmp_path: Path) -> None:
    path, own = tmp_path / "fan.pth", read_checkpoint(run / "last.pth")
    assert main([str(run), "--output", str(path), "--temperature", "1.5", "--prior", "uniform"]) == 0
    content = read_checkpoint(path)
    weight, bias = (own["state_dict"][f"pred_fc2.{part}"] / 1.5 for part in ("weight", "bias"))
    assert torch.allclose(content["state_dict"]["pred_fc2.weight"].float(), weight, atol=1e-3)
    moved = bias - torch.tensor(own["class_shares"]).log() - math.log(len(bias))
    assert torch.allclose(content["state_dict"]["pred_fc2.bias"].float(), moved, atol=1e-2)
    shares = content["recipe"]["prior"]  # the accuracy was of the old prior
    assert shares == pytest.approx([1 / len(shares)] * len(shares)) and "metrics" not in content
    assert main([str(run), "--output", str(path), "--temperature", "1.5"]) == 0
    metrics = read_checkpoint(path)["metrics"]
    assert metrics["accuracy"] == own["metrics"]["accuracy"] and "loss" not in metrics


def test_a_network_knows_the_mean_feature_of_neutral_training_faces(tmp_path: Path, make_ferplus) -> None:
    counts = {"Training": 48, "PublicTest": 24, "PrivateTest": 24}
    root = make_ferplus(tmp_path / "fer", as_csv=False, counts=counts)
    torch.manual_seed(0)
    about = {"labels": list(FERPLUS_LABELS), "image_size": 32}
    save_atomically({**about, "state_dict": to_published(FAN(2, 8))}, tmp_path / "one.pth")
    assert main([str(tmp_path / "one.pth"), "--data-root", str(root), "--output", str(tmp_path / "two.pth")]) == 0
    fan, info = load_fan(tmp_path / "two.pth")
    stills = choose_stills(read_ferplus(root), "Training", 0.6)
    faces = torch.from_numpy(stills.images[stills.classes == FERPLUS_LABELS.index("neutral")])[:, None]
    with torch.inference_mode():
        wanted = fan.encode(to_float(faces, 32)).mean(dim=0)
    assert torch.allclose(torch.tensor(info["neutral_feature"]), wanted, atol=1e-5)


# Temperature


@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_the_temperature_that_a_network_is_off_by_is_found(temperature: float) -> None:
    torch.manual_seed(0)
    logits, offset = 2 * torch.randn(20_000, 5), torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]).log()
    labels = torch.multinomial((logits + offset).softmax(dim=1), 1)[:, 0]
    assert fit_temperature(logits * temperature, labels, offset) == pytest.approx(temperature, rel=0.03)
    assert calibration_error((logits + offset).softmax(dim=1), labels) < 0.015
    too_sure = (3 * logits).softmax(dim=1)
    certainty, answers = too_sure.max(dim=1)
    right = (answers == labels).double()
    bins = (certainty.double() * 15).ceil()
    parts = [abs((right - certainty)[bins == n].sum()) / len(labels) for n in bins.unique()]
    assert calibration_error(too_sure, labels) == pytest.approx(float(sum(parts)), abs=2e-4)


# Priors


def test_to_a_uniform_prior_and_back_again(tmp_path: Path) -> None:
    file, even, back = write(tmp_path / "plain", class_shares=SHARES, best_prec1=86.8), tmp_path / "e", tmp_path / "b"
    before = answer(file)
    assert main([str(file), "--prior", "uniform", "--output", str(even)]) == 0
    wanted = before / torch.tensor(SHARES)
    assert torch.allclose(answer(even), wanted / wanted.sum(), atol=1e-5)
    assert load_fan(even)[1]["metrics"] == {}
    stated = [f"{label}={share}" for label, share in zip(load_fan(file)[1]["labels"], SHARES, strict=True)]
    assert main([str(even), "--prior", *stated, "--output", str(back)]) == 0
    assert torch.allclose(answer(back), before, atol=1e-5)


def test_files_that_cannot_be_changed_say_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--prior ferplus: this network was not trained on FER"):
        main([str(write(tmp_path / "old")), "--prior", "ferplus", "--output", str(tmp_path / "new")])
    with pytest.raises(CheckpointError, match="no classifier"):
        with_classifier({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, 2.0)
