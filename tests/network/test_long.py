"""A very long clip: computed in parts, the attention gives the same output as in one piece."""

from __future__ import annotations

import pytest
import torch

from Code.network import fan as fan_module
from Code.network.attention import HEADS
from Code.network.fan import FAN


@pytest.mark.parametrize("at_type", HEADS)
@pytest.mark.parametrize("frames", [1, 10, 23])
def test_parts_and_whole_agree(at_type: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(at_type)
    fan = FAN(at_type, 7).eval()
    for name, value in fan.named_parameters():
        if name == "alpha.0.weight":
            value.data *= 30
    features = torch.rand(1, frames, 512)
    with torch.inference_mode():
        expected = vars(fan.attend(features))
        monkeypatch.setattr(fan_module, "FRAMES_AT_ONCE", 10)
        in_parts = vars(fan.attend(features))
    for name, value in in_parts.items():
        if expected[name] is None:
            assert value is None
        else:
            torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-5, msg=name)


def test_training_sees_every_frame_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout would differ between parts and whole."""
    monkeypatch.setattr(fan_module, "FRAMES_AT_ONCE", 2)
    fan = FAN(1, 7)
    calls = []
    monkeypatch.setattr(fan.head, "forward", lambda *args: calls.append(args[2]))
    fan.train().attend(torch.rand(1, 5, 512))
    fan.eval().attend(torch.rand(1, 5, 512))
    assert calls == [None, 2]
