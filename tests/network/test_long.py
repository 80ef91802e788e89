"""A very long clip: summed in parts, the attention gives the same output as in one piece."""

from __future__ import annotations

import pytest
import torch

from Code.network import attention
from Code.network.attention import HEADS
from Code.network.fan import FAN


@pytest.mark.parametrize("at_type", HEADS)
@pytest.mark.parametrize("frames", [1, 10, 23])
def test_parts_and_whole_agree(at_type: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(at_type)
    fan = FAN(at_type, 7).eval()
    features = torch.rand(1, frames, 512) * 30
    with torch.inference_mode():
        expected = vars(fan.attend(features))
        monkeypatch.setattr(attention, "FRAMES_AT_ONCE", 10)
        in_parts = vars(fan.attend(features))
    for name, value in in_parts.items():
        if expected[name] is None:
            assert value is None
        else:
            torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-5, msg=name)
