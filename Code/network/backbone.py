"""ResNet18 without its classifier: one feature vector per face image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

FEATURE_SIZE = 512


class Backbone(nn.Module):
    """torchvision's ResNet18 up to the global average pooling.

    The layers are attributes of the module itself, not of a submodule: parameter names then equal those of
    the published checkpoints (``conv1.weight``, ``layer1.0.bn1.weight``, ...). Weights start as torchvision
    initialises them.
    """

    def __init__(self) -> None:
        super().__init__()
        resnet = resnet18(weights=None)
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4
        self.avgpool = resnet.avgpool

    def encode(self, images: Tensor) -> Tensor:
        """Features of single images.

        Args:
            images: float [N, 3, H, W], RGB in [0, 1], no mean/std normalisation, of any size.

        Returns:
            Float [N, 512], the global average over the last feature map.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # [N, 64, H/4, W/4]
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # [N, 512, H/32, W/32]
        return torch.flatten(self.avgpool(x), 1)  # [N, 512]
