"""Attention in parts says what the network says in one go."""

from __future__ import annotations

import pytest
import torch

from Code.faces.long import attend_in_parts
from Code.network.fan import FAN


@pytest.mark.parametrize("at_type", [0, 1, 2])
@pytest.mark.parametrize("frames", [1, 10, 23])
def test_parts_and_whole_agree(at_type: int, frames: int) -> None:
    torch.manual_seed(at_type)
    fan = FAN(at_type, 7).eval()
    if at_type != 2:
        fan.alpha[0].weight.data *= 30
    features = torch.rand(frames, 512)
    with torch.inference_mode():
        expected = fan.attend(features[None])
    for name, value in vars(attend_in_parts(fan, features, at_once=10)).items():
        wanted = getattr(expected, name)
        if wanted is None:
            assert value is None
        else:
            torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5, msg=name)
