"""3 x 3 convolutions of small maps as matrix products: numbers as of the convolution, and only where meant."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from Code.network.backbone import Backbone
from Code.network.bf16_conv import SmallMapConv2d, use_small_maps


def gradients(conv: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The output of a convolution in bf16, and the gradients of its input and weight."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = conv(images)
    output.float().square().sum().backward()
    assert images.grad is not None
    return output.float().detach(), images.grad, conv.weight.grad  # type: ignore[return-value]


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 1), (3, 1), (5, 1), (5, 2), (6, 2), (9, 2)])
def test_same_numbers_as_the_convolution_in_float64(side: int, stride: int) -> None:
    torch.manual_seed(side)
    plain = nn.Conv2d(24, 16, 3, stride=stride, padding=1, bias=False)
    small = copy.deepcopy(plain)
    use_small_maps(nn.Sequential(small))
    assert type(small) is SmallMapConv2d
    images = torch.randn(4, 24, side, side)

    exact_images = images.bfloat16().double().requires_grad_()
    exact_weight = plain.weight.detach().bfloat16().double().requires_grad_()
    exact = F.conv2d(exact_images, exact_weight, stride=stride, padding=1)
    exact.square().sum().backward()
    for ours, wanted in zip(
        gradients(small, images), (exact.detach(), exact_images.grad, exact_weight.grad), strict=True
    ):
        assert wanted is not None and ours.shape == wanted.shape
        assert (ours - wanted).abs().max() < 0.012 * wanted.abs().max()  # bf16 keeps 8 bits


def test_maps_above_the_limit_and_float32_are_torchs_own() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    small = copy.deepcopy(plain)
    use_small_maps(nn.Sequential(small))
    large, tiny = torch.randn(2, 8, 12, 12), torch.randn(2, 8, 3, 3)
    for ours, theirs in zip(gradients(small, large), gradients(plain, large), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(small(tiny), plain(tiny))


def test_other_convolutions_stay_as_they_are() -> None:
    network = nn.Sequential(
        nn.Conv2d(8, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, bias=False, padding_mode="reflect"),
    )
    use_small_maps(network)
    assert all(type(layer) is nn.Conv2d for layer in network)


def test_a_backbone_learns_in_bf16_at_48_pixels() -> None:
    torch.manual_seed(0)
    backbone = Backbone().to(memory_format=torch.channels_last)
    assert sum(type(module) is SmallMapConv2d for module in backbone.modules()) == 16
    images = torch.rand(8, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    backbone.eval()
    with torch.inference_mode():
        exact = backbone(images)
        with torch.autocast("cpu", torch.bfloat16):
            close = backbone(images).float()
    assert (close - exact).abs().max() < 0.03 * exact.abs().max()
    backbone.train()
    with torch.autocast("cpu", torch.bfloat16):
        backbone(images).float().square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in backbone.parameters())
