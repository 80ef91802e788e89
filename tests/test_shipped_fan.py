"""The FAN that ships with the project: whole, self-describing, and good for what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import Predict_Video as predict
from Code.data.ferplus import FERPLUS_LABELS
from Code.faces.choice import default_checkpoint
from Code.network.checkpoints import read_checkpoint
from Code.network.fan import FAN
from Code.network.pretrained import load_fan
from Code.training.setup import start_from

PATH = Path(__file__).parents[1] / "pretrain_model/FAN_FER+_composed.pth"


@pytest.fixture(scope="module")
def shipped() -> tuple[FAN, dict]:
    return load_fan(PATH)


def test_the_file_describes_itself(shipped) -> None:
    assert PATH.stat().st_size <= 23_000_000
    _, info = shipped
    content = read_checkpoint(PATH)
    assert info["labels"] == FERPLUS_LABELS and info["image_size"] == 80 and info["dataset"] == "composed"
    assert content["input"].endswith("no mean/std normalisation")
    about = content["about"]
    assert all("--dataset composed" in command for command in about["commands"])
    assert about["results"]["attention_auc"] > 0.8 and about["seed"] == 0
    assert "/" not in content["protocol"]["train_root"].removeprefix("Data/")
    assert {value.dtype for value in content["state_dict"].values()} == {torch.float16, torch.int64}


def test_a_face_weighs_more_than_darkness(shipped) -> None:
    """No picture of a person may be in the project: two frames of nothing at all must weigh less than a drawn face."""
    fan, info = shipped
    size = info["image_size"]
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    face = 0.25 + 0.45 * ((x / 0.75) ** 2 + (y / 0.95) ** 2 < 1).float()
    for side in (-0.3, 0.3):
        face = torch.where(((x - side) / 0.14) ** 2 + ((y + 0.25) / 0.08) ** 2 < 1, 0.1, face)
    face = torch.where((x / 0.45) ** 2 + ((y - 0.45) / 0.22) ** 2 < 1, 0.95, face)  # an open mouth, teeth
    dark = torch.full_like(face, 0.05)
    clip = torch.stack([dark, face, dark])[None, :, None].expand(-1, -1, 3, -1, -1)
    with torch.no_grad():
        out = fan(clip)
    assert out.weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert out.weights[0, 1] > 2 * out.weights[0, 0]


def test_it_is_the_start_for_other_classes(shipped) -> None:
    fan, _ = shipped
    new = FAN(fan.at_type, 3)
    size, message = start_from(new, PATH, 224, ("happiness", "tired", "bored"))
    assert size == 80 and "1 classes taken over by name, tired, bored new" in message
    assert torch.equal(new.conv1.weight, fan.conv1.weight)
    assert torch.equal(new.alpha[0].weight, fan.alpha[0].weight)


def test_it_answers_where_no_run_is(tmp_path: Path, call) -> None:
    (tmp_path / "pretrain_model").symlink_to(PATH.parent)
    assert default_checkpoint(tmp_path).name == PATH.name
    frames = tmp_path / "clip"
    frames.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 80), dtype=np.uint8)
        Image.fromarray(pixels).save(frames / f"{number}.png")
    outcome = call(predict, "--aligned", frames, "--checkpoint", PATH, "--no-figure", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert PATH.name in outcome.out and any(label in outcome.out for label in FERPLUS_LABELS)
