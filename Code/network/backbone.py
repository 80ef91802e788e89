"""The backbone: ResNet18, another classification network of torchvision, or one of your own, without its classifier.

A new network is a class here, or in a module of its own, and its entry in `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import UsageError


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; `stride` is that of the first one."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        downsample = None
        if stride != 1 or channels_in != channels:  # built first, as in torchvision: the order decides random weights
            downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] to [N, channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(inner))
        out += shortcut
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet18 (He et al., arXiv 1512.03385), with random weights. Names, weights and outputs are torchvision's.

    It is written out here because the import of torchvision takes longer than answering a short video.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images float [N, 3, H, W] to logits [N, 1000]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


DEFAULT_BACKBONE = "resnet18"
# Networks that are not torchvision's, by the value of `--backbone`: functions that make them with random weights. The
# last linear layer is the classifier, which a backbone drops.
BACKBONES: dict[str, Callable[[], nn.Module]] = {DEFAULT_BACKBONE: ResNet18}
# Extra outputs that only the ImageNet training of these two networks uses.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class Backbone(nn.Module):
    """One feature vector per image: what a classification network gives to its last linear layer.

    `name` is one of `BACKBONES`, or of a classification network in torchvision.models: `resnet50`, `vit_b_16`, ...
    Weights start as the network's class initializes them.

    Attributes:
        feature_size: D, the size of a feature vector; 512 for ResNet18.
        classifier: the name of the last linear layer in files of the network's weights; `fc` for a ResNet.
        network: the network, with an identity in place of that layer.

    Raises:
        UsageError: there is no such network.
    """

    def __init__(self, name: str = DEFAULT_BACKBONE) -> None:
        super().__init__()
        if not is_backbone(name):
            raise UsageError(f"--backbone {name}: torchvision has no network of this name, such as resnet50, vit_b_16")
        self.name = name
        self.network: nn.Module = (
            BACKBONES[name]() if name in BACKBONES else _torchvision_models().get_model(name, **_OPTIONS.get(name, {}))
        )
        for path, layer in self.network.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):  # the last one is a 1 x 1 convolution in SqueezeNet
                self.classifier, last = path, layer
        self.feature_size: int = last.in_features if isinstance(last, nn.Linear) else last.in_channels
        self.network.set_submodule(self.classifier, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Features float [N, D] of images float [N, 3, H, W], RGB in [0, 1], without mean/std normalization."""
        features: Tensor = self.network(images)
        return features

    def check_image_size(self, size: int) -> None:
        """Computes one black image, since some networks, such as a ViT, take one size only.

        Raises:
            UsageError: the network does not take images of `size` x `size` pixels.
        """
        training, weight = self.training, next(self.parameters())
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"--image-size {size}: {self.name} cannot take images of {size} x {size} pixels ({reason}); "
                "try --image-size 224"
            ) from None
        finally:
            self.train(training)


def _torchvision_models() -> ModuleType:
    from torchvision import models  # takes a second, and ResNet18 does without

    return models


def backbone_names() -> list[str]:
    """The classification networks of torchvision."""
    models = _torchvision_models()
    names: list[str] = models.list_models(module=models)
    return names


def is_backbone(name: object) -> bool:
    """Whether there is a classification network of this name, here or in torchvision."""
    return isinstance(name, str) and (name in BACKBONES or name in backbone_names())
