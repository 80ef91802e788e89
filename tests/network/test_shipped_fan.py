"""The FAN that ships with the project: whole, self-describing, and good for what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from Code.common.names import FERPLUS_LABELS
from Code.network.checkpoints import read_checkpoint
from Code.network.fan import FAN
from Code.network.weights import find_checkpoint, load_fan
from Code.sample.clip import SampleSpec, draw_clip
from Code.training.metrics import attention_metrics

PATH = Path(__file__).parents[2] / "pretrain_model/FAN_FER+_composed.pth"


@pytest.fixture(scope="module")
def shipped() -> tuple[FAN, dict]:
    return load_fan(PATH)


def test_the_file_describes_itself(shipped) -> None:
    assert PATH.stat().st_size <= 23_000_000
    _, info = shipped
    assert find_checkpoint(None) == PATH
    content = read_checkpoint(PATH)
    assert info["labels"] == FERPLUS_LABELS and info["image_size"] == 96 and info["dataset"] == "composed"
    assert content["input"].endswith("no mean/std normalization")
    about = content["about"]
    assert "--dataset composed" in about["commands"][-1]
    assert about["results"]["attention_auc"] > 0.8 and about["seed"] == 0
    assert "/" not in content["protocol"]["train_root"].removeprefix("Data/")
    assert {value.dtype for value in content["state_dict"].values()} == {torch.float16, torch.int64}


def test_its_weights_follow_what_drawn_faces_show(shipped) -> None:
    """No person's picture may be in the project; of drawn faces, which it has never seen, 0.60 was measured."""
    fan, info = shipped
    spec = SampleSpec(size=info["image_size"], frames=(12, 14))
    weights, truth = {}, {}
    for number, expression in enumerate(("Happy", "Surprise", "Happy", "Surprise")):
        frames = list(draw_clip(expression, 0, 0, number, spec))
        grey = np.stack([np.asarray(picture.convert("L"), dtype=np.float32) / 255 for picture, _ in frames])
        with torch.no_grad():
            out = fan(torch.from_numpy(grey)[None, :, None].expand(-1, -1, 3, -1, -1))
        assert out.weights.sum().item() == pytest.approx(1, abs=1e-5)
        weights[str(number)] = out.weights[0].numpy()
        truth[str(number)] = np.array([frame.intensity for _, frame in frames])
    assert attention_metrics(weights, truth)["attention_correlation"] > 0.2
