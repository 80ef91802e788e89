"""Features of face crops are those of training and evaluation, however the weights are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from Code.common.device import Compute
from Code.faces.encoder import Encoder
from Code.network.fan import FAN


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_those_of_evaluation_to_the_last_bit(precision: str, gray: bool) -> None:
    torch.manual_seed(0)
    fan = FAN(num_classes=7).eval()
    compute = Compute(torch.device("cpu"), precision)
    crops = np.random.default_rng(0).integers(0, 256, (3, 70, 70, 3), dtype=np.uint8)
    pictures = [Image.fromarray(crop) for crop in crops]
    if gray:
        pictures = [picture.convert("L").convert("RGB") for picture in pictures]
    resized = np.stack([np.asarray(picture.resize((48, 48), Image.Resampling.BILINEAR)) for picture in pictures])
    images = torch.from_numpy(resized).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode(), compute.autocast():
        expected = fan.encode(images).float()
    features = Encoder(fan, compute, 48, gray=gray)(list(crops))
    assert torch.equal(features, expected)
    assert {value.dtype for value in fan.state_dict().values() if value.is_floating_point()} == {torch.float32}
