"""The backbone: ResNet18, another classification network of torchvision, or one of your own, without its classifier.

A new network is a class here, or in a module of its own, and its entry in `BACKBONES`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import UsageError
from .bf16_conv import use_small_maps
from .resnet import ResNet18

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

    Weights start as torchvision, or the network's own class, initializes them.

    Args:
        name: one of `BACKBONES`, or of a classification network in torchvision.models: `resnet50`, `vit_b_16`, ...

    Attributes:
        name: the same.
        feature_size: D, the size of a feature vector; 512 for ResNet18.
        classifier: the name of the last linear layer in files of the network's weights; `fc` for a ResNet.
        network: the network, with an identity in place of that layer.

    Raises:
        UsageError: there is no such network.
    """

    def __init__(self, name: str = DEFAULT_BACKBONE) -> None:
        super().__init__()
        check_backbone(name)
        self.name = name
        self.network: nn.Module = BACKBONES[name]() if name in BACKBONES else _of_torchvision(name)
        # The last layer: a linear one, or a 1 x 1 convolution in SqueezeNet.
        self.classifier, last = [
            (path, layer) for path, layer in self.network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
        ][-1]
        self.feature_size: int = last.in_features if isinstance(last, nn.Linear) else last.in_channels
        self.network.set_submodule(self.classifier, nn.Identity())
        use_small_maps(self.network)

    def forward(self, images: Tensor) -> Tensor:
        """Features of single images.

        Args:
            images: float [N, 3, H, W], RGB in [0, 1], without mean/std normalization.

        Returns:
            Float [N, D].
        """
        features: Tensor = self.network(images)
        return features

    def check_image_size(self, size: int) -> None:
        """Computes one black image, since some networks, such as a ViT, take one size only.

        Args:
            size: side in pixels.

        Raises:
            UsageError: the network does not take images of this size.
        """
        training, weight = self.training, next(self.parameters())
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".!")
            raise UsageError(
                f"--image-size {size}: {self.name} cannot take images of {size} x {size} pixels ({reason}); "
                "try --image-size 224"
            ) from None
        finally:
            self.train(training)


def _of_torchvision(name: str) -> nn.Module:
    import torchvision  # takes a second, and ResNet18 does without

    network: nn.Module = torchvision.models.get_model(name, weights=None, **_OPTIONS.get(name, {}))
    return network


@functools.cache
def backbone_names() -> list[str]:
    """The classification networks of torchvision."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def is_backbone(name: object) -> bool:
    """Whether there is a classification network of this name, here or in torchvision."""
    return isinstance(name, str) and (name in BACKBONES or name in backbone_names())


def check_backbone(name: str) -> None:
    """Makes sure that there is a classification network of this name, here or in torchvision.

    Raises:
        UsageError: there is none.
    """
    if not is_backbone(name):
        near = difflib.get_close_matches(name, [*BACKBONES, *backbone_names()]) or ["resnet18", "resnet50"]
        raise UsageError(f"--backbone {name}: torchvision has no network of this name; try {', '.join(near)}")
