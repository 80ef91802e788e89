"""The device, the precision and the memory that a run computes with, and what it notes of machine and software."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from .errors import IS_CLONE, UsageError
from .files import PROJECT


@dataclass(frozen=True)
class World:
    """The place of this process among those of a training, which draw the same batches and take a part of each."""

    rank: int = 0
    size: int = 1  # number of processes
    local_rank: int = 0  # on this machine
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0


def world() -> World:
    """The place of this process, which torchrun says."""
    get = os.environ.get
    return World(
        rank=int(get("RANK", 0)),
        size=int(get("WORLD_SIZE", 1)),
        local_rank=int(get("LOCAL_RANK", 0)),
        local_size=int(get("LOCAL_WORLD_SIZE", 1)),
    )


@dataclass(frozen=True)
class Compute:
    """The device of the model and of every tensor in a step, and the precision of the backbone's arithmetic.

    Precision is "fp32", "bf16" or "fp16". Attention, loss and weights are always float32.
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


def choose_compute(device: str | int = "auto", precision: str = "auto", *, trained_with: str | None = None) -> Compute:
    """Turns `--device` and `--precision` into a `Compute`.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", or a GPU's number. Of several processes with a GPU each, "cuda" is
            each one's own.
        precision: "auto", "fp32", "bf16" or "fp16".
        trained_with: the precision of a checkpoint, which "auto" then means, so that the same numbers come out.

    Raises:
        UsageError: the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(int(device) if str(device).isdecimal() else device)
        torch.zeros(1, device=chosen).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"--device {device}: not usable here ({first}); use --device auto") from None
    if trained_with == "fp16" and chosen.type == "cpu":
        trained_with = None  # no CPU is fast at it
    if precision == "auto":
        precision = trained_with or ("bf16" if has_bf16(chosen) else "fp32")
    return Compute(chosen, precision)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16, and does not only emulate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def make_deterministic() -> None:
    """Makes CUDA compute the same bits every time, at some cost in speed; CPUs do anyway.

    Call it before the first computation on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # absent from the stubs


def keep_freed_memory() -> None:
    """From now on, freed memory stays with this process, if the C library is glibc.

    By default glibc returns every block above some 32 MiB to the system when it is freed, and the next one costs page
    faults and zeroing. A step of ResNet18 on 224 x 224 frames is 15 % faster without (benchmarks/throughput.py).
    Blocks that are already in use are returned as before.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt  # see mallopt(3); the numbers are those of malloc.h
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def free_memory() -> int:
    """Bytes of memory that are free, file cache included.

    The least of what the machine has, what its container may use, and what Linux says is free.
    """
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit: "max"
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(OSError, IndexError):  # not Linux
        sizes.append(1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]))
    return min(sizes)


def describe_device(device: torch.device) -> str:
    """The type of a device and the name of the hardware."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        known = torch.cpu.get_capabilities()
        return f"cpu ({known.get('cpu_name', platform.processor())}, {known.get('num_logical_cores')} cores)"
    return device.type


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on."""
    return {name: version(name) for name in ("torch", "torchvision", "numpy", "Pillow", "torchmetrics", "scipy")}


def git_commit() -> str | None:
    """Commit of this checkout, with "+changes" where files differ; None outside a git checkout."""
    if not IS_CLONE:
        return None
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
