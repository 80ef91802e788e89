"""Convolutions of small feature maps in bf16 on a CPU, as one matrix product.

Faces of 48 to 128 pixels leave a ResNet's last stages maps of 2 x 2 to 5 x 5. There, oneDNN, which computes
torch's convolutions on a CPU, is several times slower than one product of two matrices: on a Xeon with AMX, a training
step of ResNet18 with 128 faces of 48 pixels takes 0.65 s with it and 0.32 s with the product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRAINING_POSITIONS = 25  # maps of up to this many output positions gain in training: 5 x 5
INFERENCE_POSITIONS = 16  # and in inference


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is a matrix product where that is faster: small maps, CPU, bf16 autocast.

    Everywhere else, it is `torch.nn.Conv2d`. Parameters and their names are the same.
    """

    def forward(self, images: Tensor) -> Tensor:
        """float [N, C, H, W] to float [N, D, H', W']."""
        if not self._is_small(images):
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            result: Tensor = _Product.apply(images.bfloat16(), self.weight.bfloat16(), self.stride[0])
        return result

    def _is_small(self, images: Tensor) -> bool:
        if images.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():
            return False
        if torch.get_autocast_dtype("cpu") != torch.bfloat16 or torch.compiler.is_compiling():
            return False
        limit = TRAINING_POSITIONS if torch.is_grad_enabled() and self.weight.requires_grad else INFERENCE_POSITIONS
        height, width = ((side - 1) // self.stride[0] + 1 for side in images.shape[-2:])
        return 0 < height * width <= limit


def use_small_maps(network: nn.Module) -> None:
    """Puts `SmallMapConv2d` in place of a network's plain 3 x 3 convolutions; weights stay the same tensors."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            kind = module.kernel_size, module.padding, module.dilation, module.groups, module.bias, module.padding_mode
            if kind == ((3, 3), (1, 1), (1, 1), 1, None, "zeros") and module.stride[0] == module.stride[1]:
                module.__class__ = SmallMapConv2d


def _shifted(padded: Tensor, stride: int) -> list[Tensor]:
    """The nine views [N, H', W', C] of padded maps [N, H + 2, W + 2, C]: what each output position sees."""
    rows, across = ((side - 3) // stride * stride + 1 for side in padded.shape[1:3])
    return [
        padded[:, top : top + rows : stride, left : left + across : stride] for top in range(3) for left in range(3)
    ]


class _Product(torch.autograd.Function):
    """A 3 x 3 convolution of bf16 [N, C, H, W] (channels last is fastest) with bf16 [D, C, 3, 3], padded by 1."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        columns = torch.cat(_shifted(padded, stride), dim=-1)  # [N, H', W', 9 C]
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # [D, 9 C]
        ctx.save_for_backward(columns, matrix)
        ctx.shape, ctx.stride = padded.shape, stride
        return (columns @ matrix.t()).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        columns, matrix = ctx.saved_tensors
        channels = ctx.shape[-1]
        gradient = gradients[0].permute(0, 2, 3, 1)  # [N, H', W', D]
        of_images = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = gradient.flatten(0, 2).t() @ columns.flatten(0, 2)
            of_weight = of_weight.reshape(-1, 3, 3, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            parts = (gradient @ matrix).unflatten(-1, (9, channels))
            padded = parts.new_zeros(ctx.shape, dtype=torch.float32)  # nine parts are added, as the convolution does
            for place, view in enumerate(_shifted(padded, ctx.stride)):
                view += parts[..., place, :]
            of_images = padded[:, 1:-1, 1:-1].to(gradient.dtype).permute(0, 3, 1, 2)
        return of_images, of_weight, None
