"""What a run notes of the machine and the software it ran on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "numpy", "Pillow", "torchmetrics", "scipy")


def describe_device(device: torch.device) -> str:
    """The device in words: its type and the name the hardware gives itself."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return (
            f"cpu ({capabilities.get('cpu_name', platform.processor())}, {capabilities.get('num_logical_cores')} cores)"
        )
    return device.type


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def git_commit() -> str | None:
    """Commit of this checkout, with "+changes" where files differ; None outside a git checkout."""
    root = Path(__file__).parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and git("status", "--porcelain", "-uno") else commit
