"""The mean of several networks' weights."""

from __future__ import annotations

import pytest
import torch

from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.fan import FAN
from Code.network.pretrained import load_fan
from Code.network.weights import to_published
from Code.recipes import blend


def write(path, seed, labels=("a", "b", "c"), **about):
    torch.manual_seed(seed)
    content = {"state_dict": to_published(FAN(2, len(labels))), "labels": list(labels), "image_size": 32, **about}
    save_atomically(content, path)
    return str(path)


def test_every_weight_is_the_mean(tmp_path):
    files = [write(tmp_path / f"{seed}.pth.tar", seed, best_prec1=80.0) for seed in (1, 2)]
    assert blend.main([*files, "--output", str(tmp_path / "both.pth.tar")]) == 0
    one, other, both = (load_fan(path)[0].state_dict() for path in (*files, tmp_path / "both.pth.tar"))
    for name, value in both.items():
        mean = (one[name].float() + other[name].float()) / 2
        assert torch.allclose(value.float(), mean, atol=1e-6), name
    assert "best_prec1" not in read_checkpoint(tmp_path / "both.pth.tar")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"labels": ("a", "b")}, "different shapes"),
        ({"labels": ("a", "b", "d")}, "different classes"),
        ({"recipe": {"balance": "1.0"}}, "--balance differs"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, about, message):
    files = [write(tmp_path / "1.pth.tar", 1), write(tmp_path / "2.pth.tar", 2, **about)]
    with pytest.raises(CheckpointError, match=message):
        blend.main([*files, "--output", str(tmp_path / "both.pth.tar")])
