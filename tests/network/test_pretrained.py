"""Checkpoints of the field load, in the formats they were saved in; everything else is refused by name."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from Code.common.names import AFEW_LABELS, FERPLUS_LABELS
from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.start import start_from
from Code.network.weights import load_fan, load_published, published_weights, to_published

Weights = dict[str, Tensor]
FORMATS = pytest.mark.parametrize("zipped", [False, True], ids=["legacy", "zip"])
HEAD = {"alpha.0", "beta.0", "pred_fc1", "pred_fc2"}


def names(*layers: str) -> set[str]:
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def backbone() -> Weights:
    """A ResNet18 without classifier that no fresh network equals."""
    torch.manual_seed(0)
    weights = {name: value.clone() for name, value in resnet18().state_dict().items() if "fc." not in name}
    for name, value in weights.items():
        if value.is_floating_point():
            value.add_(0.01)
        else:
            assert name.endswith("num_batches_tracked")
            value.fill_(7)
    return weights


@pytest.fixture(scope="module")
def published(backbone: Weights) -> Weights:
    """A FAN of the published code: every head, whichever attention it was trained with."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"alpha.0": (1, 512), "beta.0": (1, 1024), "pred_fc1": (7, 512), "pred_fc2": (7, 1024)}
    weights = dict(backbone)
    for layer, shape in shapes.items():
        weights[f"{layer}.weight"] = torch.randn(shape, generator=generator)
        weights[f"{layer}.bias"] = torch.randn(shape[:1], generator=generator)
    return weights


def with_classifier(backbone: Weights, outputs: int) -> Weights:
    return {**backbone, "fc.weight": torch.ones(outputs, 512), "fc.bias": torch.zeros(outputs)}


def behind_module(weights: Weights) -> Weights:
    return {f"module.{name}": value for name, value in weights.items()}


def assert_holds(fan: FAN, weights: Weights) -> None:
    for name, value in published_weights(fan).items():
        if name in weights:
            torch.testing.assert_close(value, weights[name].to(value.dtype), rtol=0, atol=0, msg=name)


def copy_of(fan: FAN) -> Weights:
    return {name: value.clone() for name, value in published_weights(fan).items()}


# -------------------------------------------------------------------------- what the published code saved


@pytest.mark.parametrize("at_type", [0, 1, 2])
@pytest.mark.parametrize("outputs", [8, 8631])
@pytest.mark.parametrize("module", [True, False], ids=["module.", "plain"])
def test_backbone_and_classifier(backbone: Weights, at_type: int, outputs: int, module: bool) -> None:
    fan = FAN(at_type)
    before = copy_of(fan)
    weights = with_classifier(backbone, outputs)
    report = load_published(fan, behind_module(weights) if module else weights)
    assert_holds(fan, backbone)
    head = {name for name in before if name.rsplit(".", 1)[0] in HEAD}
    assert_holds(fan, {name: before[name] for name in head})
    assert set(report.loaded) == set(backbone)
    assert set(report.missing) == head
    assert set(report.dropped) == names("fc")
    assert report.unexpected == []


def test_torchvision_weights_without_counters() -> None:
    """torch before 0.4.1 knew no num_batches_tracked."""
    torch.manual_seed(3)
    weights = {name: value for name, value in resnet18().state_dict().items() if "num_batches_tracked" not in name}
    fan = FAN(1)
    report = load_published(fan, weights)
    assert_holds(fan, weights)
    assert str(report) == ("100 tensors loaded; initialized anew: alpha.0, beta.0, pred_fc2; dropped: fc")


@FORMATS
def test_whole_file_of_2018(tmp_path: Path, published: Weights, zipped: bool) -> None:
    path = tmp_path / "Resnet18_FER+_pytorch.pth.tar"
    content = {
        "epoch": 12,
        "arch": "resnet18",
        "best_prec1": np.float64(51.181),
        "state_dict": behind_module(published),
        "optimizer": {"state": {}, "param_groups": [{"lr": 4e-6, "momentum": 0.9, "params": [0, 1]}]},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    checkpoint = read_checkpoint(path)
    assert checkpoint["best_prec1"] == 51.181 and type(checkpoint["best_prec1"]) is float
    assert checkpoint["optimizer"]["param_groups"][0]["lr"] == 4e-6
    fan = FAN(1)
    load_published(fan, checkpoint)
    assert_holds(fan, published)


def test_prefixes_of_wrappers_and_other_containers(tmp_path: Path, backbone: Weights, published: Weights) -> None:
    """What torch.compile, DataParallel, Lightning and tutorials of torch write, one around the other."""
    for prefix in ("_orig_mod.", "module._orig_mod.", "model.", "model.module."):
        weights = {f"{prefix}{name}": value for name, value in published.items()}
        torch.save({"model_state_dict": weights, "epoch": 3}, tmp_path / "fan.pth")
        assert_holds(load_fan(tmp_path / "fan.pth")[0], published)
        assert_holds(start_from(tmp_path / "fan.pth", 1, tuple("abcdefg"), seed=0).fan, backbone)
    message = reject(FAN(1), {f"net.{name}": value for name, value in backbone.items()})
    assert '"backbone.network.conv1.weight", ' in message and len(message) < 1200


# ----------------------------------------------------------------------------------- weights that do not fit


def reject(fan: FAN, weights: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_published(fan, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_misfit_is_named_at_once(backbone: Weights) -> None:
    weights = {name: value.clone() for name, value in backbone.items()}
    del weights["layer1.0.conv1.weight"], weights["layer4.1.bn2.running_var"]
    weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    weights["layer9.conv.weight"] = torch.zeros(1)
    message = reject(FAN(1), behind_module(weights))
    for name in ("layer1.0.conv1.weight", "layer4.1.bn2.running_var"):
        assert f'"backbone.network.{name}"' in message.partition("Unexpected")[0]
    assert 'Unexpected key(s) in state_dict: "layer9.conv.weight".' in message
    assert "size mismatch for backbone.network.conv1.weight: " in message


def test_only_whole_layers_of_the_head_may_be_missing(published: Weights) -> None:
    def without(*gone: str) -> Weights:
        return {name: value for name, value in published.items() if name not in gone}

    assert 'Missing key(s) in state_dict: "head.beta.0.weight".' in reject(FAN(1), without("beta.0.weight"))
    message = reject(FAN(1), without(*names("alpha.0"), "pred_fc2.bias"))
    assert 'Missing key(s) in state_dict: "head.pred_fc2.bias".' in message
    for layers in (("beta.0",), ("alpha.0", "beta.0", "pred_fc2")):
        assert set(load_published(FAN(1), without(*names(*layers))).missing) == names(*layers)


def test_overflow_and_foreign_values(backbone: Weights) -> None:
    for values in (torch.full((64,), 1e300, dtype=torch.float64), torch.full((64,), torch.nan)):
        assert "not finite: bn1.weight" in reject(FAN(0), {**backbone, "bn1.weight": values})
    for value in ([1.0] * 64, torch.zeros(64).to_sparse(), torch.zeros(64, device="meta")):
        assert "bn1.weight" in reject(FAN(0), {**backbone, "bn1.weight": value})
    quantized = torch.ones(64, dtype=torch.int8)  # as weights in 8 bits, whose scale is elsewhere
    assert "no floating-point numbers: bn1.weight" in reject(FAN(0), {**backbone, "bn1.weight": quantized})
    assert "state_dict must be a dict" in reject(FAN(0), {"state_dict": [1, 2]})


# --------------------------------------------------------------------------------------------- load_fan


@pytest.mark.parametrize("at_type", [0, 1, 2])
def test_run_comes_back(tmp_path: Path, at_type: int) -> None:
    torch.manual_seed(at_type)
    fan = FAN(at_type, num_classes=3).eval()
    path, labels = tmp_path / "best.pth", ("calm", "glad", "sad")
    about = {
        "image_size": 64,
        "dataset": "folders",
        "precision": "bf16",
        "protocol": {"lr": 0.01, "milestones": (10, 20)},
        "epoch": 4,
        "metrics": {"accuracy": 0.75},
        "class_shares": (0.5, 0.25, 0.25),
    }
    optimizer = torch.optim.SGD(fan.parameters(), lr=0.1, momentum=0.9).state_dict()
    run = {"format": "emotion-fan/1", "state_dict": published_weights(fan), "at_type": at_type, "labels": list(labels)}
    save_atomically({**run, **about, "optimizer": optimizer}, path)
    loaded, info = load_fan(path)
    known = {"kind": "run", "path": str(path), "labels": labels, "names_labels": True, "at_type": at_type}
    assert info == {**about, **known, "backbone": "resnet18", "recipe": None, "neutral_feature": None}
    assert not loaded.training
    frames = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(frames).logits, fan(frames).logits)
    with pytest.raises(CheckpointError, match=f"trained with at_type {at_type}"):
        load_fan(path, at_type=(at_type + 1) % 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "emotion-fan/9"}, "another version"),
        ({"labels": ["a", "b"]}, "are not the names of its 3 classes"),
        ({"labels": None}, "labels None are not the names"),
        ({"at_type": 5}, "at_type 5 is not one of 0, 1, 2"),
        ({"at_type": 0}, r"no pred_fc1.weight of \[classes, features\] for at_type 0"),
        ({"image_size": "large"}, r"image_size"),
    ],
)
def test_run_that_contradicts_itself(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "run.pth"
    about = {"format": "emotion-fan/1", "at_type": 1, "labels": ["a", "b", "c"], "image_size": 64}
    torch.save({"state_dict": published_weights(FAN(1, 3)), **about, **change}, path)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{message}"):
        load_fan(path)


def test_published_fan_as_it_was_saved(tmp_path: Path, published: Weights) -> None:
    path = tmp_path / "fan.pth.tar"
    about = {"epoch": 9.5, "best_prec1": torch.tensor(51.0), "at_type": "self_relation-attention"}
    torch.save({"state_dict": behind_module(published), **about}, path, _use_new_zipfile_serialization=False)
    fan, info = load_fan(path)
    assert_holds(fan, published)
    assert (info["kind"], info["at_type"], info["image_size"], info["epoch"]) == ("published", 1, 224, 9.5)
    assert info["labels"] == AFEW_LABELS
    for at_type in (0, 2):
        fan, info = load_fan(path, at_type=at_type)
        assert fan.at_type == info["at_type"] == at_type
        assert_holds(fan, published)


@pytest.mark.parametrize("half", [False, True])
def test_the_head_of_a_published_fan_is_the_trained_one(tmp_path: Path, published: Weights, half: bool) -> None:
    """All heads are in the file; those that were not trained would answer at random."""
    path = tmp_path / "fan.pth.tar"
    for at_type, classifier in enumerate(("pred_fc1", "pred_fc2")):
        weights = dict(published)
        for layer, size in (("pred_fc1", 512), ("pred_fc2", 1024)):
            weights[f"{layer}.weight"] = torch.nn.Linear(size, 7).weight.detach()
        weights[f"{classifier}.weight"] += 0.01
        if half:
            weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        torch.save({"state_dict": behind_module(weights)}, path)
        assert load_fan(path)[1]["at_type"] == at_type
        torch.save({"state_dict": behind_module(weights), "at_type": "self-attention"}, path)
        assert load_fan(path)[1]["at_type"] == 0


def test_published_fan_with_the_self_head_only(tmp_path: Path, published: Weights) -> None:
    path = tmp_path / "self.pth"
    weights = {name: value for name, value in published.items() if name not in names("beta.0", "pred_fc2")}
    weights["pred_fc1.weight"], weights["pred_fc1.bias"] = torch.ones(3, 512), torch.ones(3)
    torch.save(weights, path)
    fan, info = load_fan(path)
    assert (fan.at_type, info["labels"]) == (0, ("0", "1", "2"))
    with pytest.raises(CheckpointError, match=r"no pred_fc2\.weight"):
        load_fan(path, at_type=1)


def test_frame_classifier_of_ferplus(tmp_path: Path) -> None:
    """What Pretrain_FERPlus.py writes comes back as score fusion over frames, half precision included."""
    torch.manual_seed(5)
    path = tmp_path / "Resnet18_FER+_pytorch.pth.tar"
    fan = FAN(2, 8).to(memory_format=torch.channels_last).eval()
    weights = to_published(fan, half=True)
    assert all(name.startswith("module.") for name in weights)
    assert weights["module.fc.weight"].shape == (8, 512)
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}
    assert all(value.is_contiguous() for value in weights.values())
    save_atomically({"state_dict": weights, "image_size": 112, "dataset": "ferplus"}, path)
    assert path.stat().st_size < 23e6
    loaded, info = load_fan(path)
    assert (info["kind"], info["at_type"], info["image_size"]) == ("frame classifier", 2, 112)
    assert info["labels"] == FERPLUS_LABELS
    frames = torch.rand(1, 3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(frames).logits, fan(frames).logits, rtol=0, atol=2e-2)
    with pytest.raises(CheckpointError, match="no attention"):
        load_fan(path, at_type=1)


def test_published_format_is_a_copy_of_finite_weights() -> None:
    fan = FAN(2, 8)
    weights = to_published(fan)
    weights["module.conv1.weight"].zero_()
    assert fan.backbone.network.conv1.weight.abs().sum() > 0, "the copy must not share memory with the network"
    with pytest.raises(ValueError, match="only a frame classifier"):
        to_published(FAN(1))
    with torch.no_grad():
        fan.backbone.network.bn1.running_var.fill_(1e6)
    with pytest.raises(ValueError, match=r"bn1.running_var is not finite as torch.float16"):
        to_published(fan, half=True)


@pytest.mark.parametrize(
    ("outputs", "labels", "expected"),
    [
        (10, None, 10),
        (8, ["a", "b"], "are not the names of its 8 classes"),
        (8631, None, "8631 outputs .* not an emotion classifier"),
        (0, None, "a backbone without a classifier"),
    ],
)
def test_which_classifiers_tell_expressions(
    tmp_path: Path, backbone: Weights, outputs: int, labels: list[str] | None, expected: int | str
) -> None:
    path = tmp_path / "frames.pth"
    half = {name: value.half() for name, value in backbone.items()}
    content: dict[str, Any] = {"state_dict": with_classifier(half, outputs) if outputs else half}
    if labels:
        content["labels"] = labels
    torch.save(content, path)
    if isinstance(expected, int):
        fan, info = load_fan(path)
        assert fan.num_classes == len(info["labels"]) == expected
    else:
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{expected}"):
            load_fan(path)
