"""On which device and in which precision a run computes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from Code.training import distributed
from Code.training.errors import UsageError


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: of the model and of every tensor in a step.
        precision: "fp32", "bf16" or "fp16"; the backbone's arithmetic. Attention, loss and weights
            are float32 always.
    """

    device: torch.device
    precision: str = "fp32"

    def autocast(self) -> AbstractContextManager:
        """The context that a forward pass runs in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, active for fp16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")


def make_deterministic() -> None:
    """Makes CUDA give the same bits every time, at some cost in speed; CPUs do anyway.

    To be called before the first computation on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # absent from the stubs


def choose_compute(device: str = "auto", precision: str = "auto", *, trained_with: str | None = None) -> Compute:
    """Turns `--device` and `--precision` into a `Compute`.

    Args:
        trained_with: a checkpoint's precision, which "auto" then means: the same numbers come out again.
            fp16 on a CPU is left aside, as no CPU is fast at it.

    Raises:
        UsageError: one line, if the device or the precision cannot be had here.
    """
    world = distributed.world()
    if world.size > 1:
        device = distributed.device_of_process(device, world.local_rank)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"--device {device}: not usable here ({first}); use --device auto") from None
    if chosen.type == "cuda":
        native_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if chosen.type == "cpu" else {}
        native_bf16 = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    if precision == "auto" and trained_with and not (trained_with == "fp16" and chosen.type == "cpu"):
        precision = trained_with
    elif precision == "auto":
        precision = "bf16" if native_bf16 else "fp32"
    return Compute(chosen, precision)
