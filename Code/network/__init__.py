"""The network: a backbone for single frames, frame attention, and the checkpoints it starts from."""

from __future__ import annotations

from ..common.names import ATTENTION_TITLES


def attention_titles() -> dict[int, str]:
    """The number and title of every attention head."""
    return ATTENTION_TITLES
