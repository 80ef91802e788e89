"""Entries for torch.hub:

fan = torch.hub.load("path/to/this/folder", "fan", source="local")              # a trained FAN
predictor = torch.hub.load("path/to/this/folder", "predictor", source="local")  # answers videos, images and arrays
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch.hub lists every function of this module as an entry
    from Code import FAN, Predictor

dependencies = ["torch", "torchvision", "numpy", "PIL"]


def fan(checkpoint: str | None = None, **options: Any) -> FAN:
    """A trained FAN, in evaluation mode, on the CPU.

        logits = fan(frames, lengths).logits    # frames: float [B, T, 3, H, W] in [0, 1]; lengths: int64 [B] or None

    Args:
        checkpoint: a run (folder or file), a published FAN or a FER+ classifier; None: the FAN that comes with the
            project.
        **options: of `load_fan`.

    Returns:
        The network. Its attribute `info` says what its file says: labels (in the order of the logits), image_size,
        dataset, metrics, ...
    """
    from Code.network.weights import find_checkpoint, load_fan

    network, info = load_fan(find_checkpoint(checkpoint), **options)
    network.info = info
    return network


def predictor(checkpoint: str | None = None, device: str = "auto", **options: Any) -> Predictor:
    """A `Predictor`: call it with a path, a list of paths, a folder of videos, or an array uint8 [T, H, W, 3].

    Args:
        checkpoint: as in `fan`.
        device: "auto" (CUDA if available), or a torch device.
        **options: of `Predictor`: image_size, people.
    """
    from Code import Predictor

    return Predictor(checkpoint, device, **options)
