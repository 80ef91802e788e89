"""A classifier with another prior."""

from __future__ import annotations

import pytest
import torch

from Code.network.checkpoints import CheckpointError, save_atomically
from Code.network.fan import FAN
from Code.network.prior import Balance
from Code.network.weights import load_fan, to_published
from Code.recipes import change_prior as prior
from Code.training.run import checkpoint_payload

SHARES = [0.7, 0.2, 0.1]


def write(path, **about):
    torch.manual_seed(0)
    content = {"state_dict": to_published(FAN(2, 3)), "labels": ["a", "b", "c"], "image_size": 32, **about}
    save_atomically(content, path)
    return path


def answer(path):
    with torch.inference_mode():
        return load_fan(path)[0](torch.full((1, 1, 3, 32, 32), 0.5)).logits[0].softmax(dim=0)


def test_to_neutral_and_back_again(tmp_path):
    file = write(tmp_path / "plain.pth.tar", class_shares=SHARES)
    before = answer(file)
    assert prior.main([str(file), "--output", str(tmp_path / "even.pth.tar")]) == 0
    even = answer(tmp_path / "even.pth.tar")
    wanted = before / torch.tensor(SHARES)
    assert torch.allclose(even, wanted / wanted.sum(), atol=1e-5)
    assert (
        prior.main([str(tmp_path / "even.pth.tar"), "--balance", "0", "--output", str(tmp_path / "back.pth.tar")]) == 0
    )
    assert torch.allclose(answer(tmp_path / "back.pth.tar"), before, atol=1e-5)


def test_the_floor_keeps_rare_classes_rare():
    checkpoint = {"state_dict": {"module.fc.bias": torch.zeros(3)}}
    content = prior.with_balance(checkpoint, Balance(1.0, 0.2), torch.tensor(SHARES))
    bias = content["state_dict"]["module.fc.bias"]
    assert float(bias[1]) == pytest.approx(float(bias[2]), abs=1e-6)
    assert content["recipe"] == {"balance": "1.0", "balance_floor": "0.2"}


def test_a_runs_own_file_is_changed_and_says_no_accuracy_of_the_old_prior(tmp_path):
    fan = FAN(1, 3)
    about = {
        "labels": list("abc"),
        "image_size": 32,
        "dataset": "sample",
        "protocol": {},
        "precision": "fp32",
        "epoch": 1,
    }
    payload = checkpoint_payload(fan, **about, metrics={"accuracy": 0.9, "num_clips": 10}, training={"seed": 0})
    save_atomically({**payload, "class_shares": SHARES}, tmp_path / "last.pth")
    assert prior.main([str(tmp_path / "last.pth"), "--output", str(tmp_path / "even.pth")]) == 0
    changed, info = load_fan(tmp_path / "even.pth")  # its checksum is not that of the old weights
    assert torch.allclose(changed.head.pred_fc2.bias, fan.head.pred_fc2.bias - torch.tensor(SHARES).log(), atol=1e-6)
    assert info["metrics"] == {} and info["recipe"]["balance"] == "1.0"

    file = write(tmp_path / "plain.pth.tar", class_shares=SHARES, best_prec1=86.8)
    assert prior.main([str(file), "--output", str(tmp_path / "published.pth.tar")]) == 0
    assert load_fan(tmp_path / "published.pth.tar")[1]["metrics"] == {}


def test_files_that_cannot_be_changed_say_why(tmp_path):
    with pytest.raises(CheckpointError, match="has no class_shares"):
        prior.main([str(write(tmp_path / "old.pth.tar")), "--output", str(tmp_path / "new")])
    with pytest.raises(CheckpointError, match="no classifier of 2 classes"):
        prior.main([str(write(tmp_path / "two.pth.tar", class_shares=[0.5, 0.5])), "--output", str(tmp_path / "new")])
    absent = str(write(tmp_path / "absent.pth.tar", class_shares=[0.6, 0.4, 0.0]))
    with pytest.raises(CheckpointError, match=r"absent.pth.tar: 1 of 3 classes have the share 0; choose a --floor"):
        prior.main([absent, "--output", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
    assert prior.main([absent, "--floor", "0.05", "--output", str(tmp_path / "new")]) == 0
