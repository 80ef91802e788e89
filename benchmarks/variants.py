"""What throughput.py compares: (b) the engine of the project, (c) the backbone alone, (d) matrix products."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from straightforward import BATCH, InItsOwnProcess, K
from torch import nn

from Code.common.device import Compute
from Code.data.augment import FlippedClips, PlainFrames
from Code.data.batches import (
    BATCH_FRAMES,
    EvaluationBatches,
    FileStore,
    FrameTable,
    Loading,
    Store,
    TrainingBatches,
    open_stores,
)
from Code.data.clips import ClipSet
from Code.network.fan import FAN
from Code.training.loops import State, evaluate, train_one_epoch


class Variant(NamedTuple):
    """One row of the table: for each kind of work, a function that measures its frames/s once."""

    name: str
    group: str  # "a" to "d"
    precision: str
    measure: dict[str, Callable[[], float]]


class Bench:
    """The files, and all variants of the same work on them."""

    def __init__(self, clips: ClipSet, size: int, device: torch.device, steps: int) -> None:
        self.clips, self.size, self.device = clips, size, device
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.store, table = FileStore(clips, size), FrameTable.of(clips)
        # Training runs `steps` batches; evaluation reads all frames.
        self.table = table
        self.samples_per_clip = -(-steps * BATCH // len(table))
        self.steps = steps
        self.straightforward: InItsOwnProcess | None = None

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, frames: int, work: Callable[[], object]) -> float:
        self.sync()
        start = time.perf_counter()
        work()
        self.sync()
        return frames / (time.perf_counter() - start)

    def model(self, memory_format: torch.memory_format) -> FAN:
        torch.manual_seed(0)
        return FAN(1, 7).to(self.device, memory_format=memory_format)

    # (a)

    def plain(self, workers: int) -> Variant:
        if self.straightforward is None:
            self.straightforward = InItsOwnProcess(Path(self.clips.root), self.size, self.device, self.steps)
        measured = self.straightforward.frames_per_second
        return Variant(
            f"straightforward, {workers} workers",
            "a",
            "fp32",
            {kind: partial(measured, kind, workers) for kind in ("train", "evaluate")},
        )

    def variant(self, name: str, group: str, precision: str, train: Callable, evaluate: Callable) -> Variant:
        return Variant(
            name,
            group,
            precision,
            {
                "train": lambda: self.timed(self.steps * BATCH * K, train),
                "evaluate": lambda: self.timed(self.table.num_frames, evaluate),
            },
        )

    # (b)

    def cached(self, cache: str) -> Store:
        """The frames with this `--cache`."""
        return open_stores([self.clips], self.size, self.device, cache=cache)[0][0]

    def project(self, cache: str, compute: Compute, workers: int, compiled: bool = False) -> Variant:
        store = self.cached(cache)
        model = self.model(torch.channels_last)
        forward: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        on_gpu = self.device.type == "cuda"
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4, fused=on_gpu)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        loading = Loading(workers, on_gpu and cache != "device")
        training = TrainingBatches(
            self.table, store, num_frames=K, batch_size=BATCH, seed=0, samples_per_clip=self.samples_per_clip,
            loading=loading,
        )  # fmt: skip
        training.steps = self.steps  # as many as the other variants
        frames = EvaluationBatches(self.table, store, batch_frames=BATCH_FRAMES[self.device.type], loading=loading)
        state = State(model, optimizer, scheduler, compute, forward)

        def train() -> None:
            train_one_epoch(state, training, 1, FlippedClips())

        def evaluation() -> None:
            evaluate(model, frames, compute, PlainFrames())

        name = f"--cache {cache} --precision {compute.precision}" + (" --compile" if compiled else "")
        return self.variant(name, "b", compute.precision, train, evaluation)

    # (c)

    def ceiling(self, compute: Compute) -> Variant:
        model = self.model(torch.channels_last)
        images = torch.rand(BATCH * K, 3, self.size, self.size, device=self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        many = BATCH_FRAMES[self.device.type]
        packed = torch.rand(many, 3, self.size, self.size, device=self.device)
        packed = packed.contiguous(memory_format=torch.channels_last)
        batches = max(1, self.table.num_frames // many)

        def train() -> None:
            model.train()
            for _ in range(self.steps):
                with compute.autocast():
                    features = model.encode(images)
                model.zero_grad(set_to_none=True)
                features.float().sum().backward()

        @torch.inference_mode()
        def evaluation() -> None:
            model.eval()
            for _ in range(batches):
                with compute.autocast():
                    model.encode(packed)

        variant = self.variant(f"backbone alone, {compute.precision}", "c", compute.precision, train, evaluation)
        variant.measure["evaluate"] = lambda: self.timed(batches * many, evaluation)
        return variant

    # (d)

    def limit(self, compute: Compute) -> Variant:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[compute.precision]
        side = 8192 if self.device.type == "cuda" else 2048
        left, right = (torch.randn(side, side, device=self.device).to(kind) for _ in range(2))
        operations = operations_per_frame(self.size)
        products = 20

        def per_second(per_frame: float) -> float:
            self.sync()
            start = time.perf_counter()
            for _ in range(products):
                left @ right
            self.sync()
            return products * 2 * side**3 / (time.perf_counter() - start) / per_frame

        return Variant(
            f"matrix products, {compute.precision}",
            "d",
            compute.precision,
            {name: partial(per_second, per_frame) for name, per_frame in operations.items()},
        )

    def parts(self, compute: Compute) -> dict[str, float]:
        """Milliseconds per frame: decoding on one core, copying from the cache to floats on the device, computing."""
        number = min(96, self.table.num_frames)
        ids = np.arange(number)
        decode = 1000 / self.timed(number, lambda: self.store.read(ids))
        cached = self.cached("memory")
        plain = PlainFrames()
        cached.read(ids)

        def copy() -> None:
            plain(cached.read(ids).to(self.device, non_blocking=True)[:, None])

        copy()
        copied = 1000 / self.timed(number, copy)
        ceiling = self.ceiling(compute).measure
        return {
            "decode": decode,
            "copy": copied,
            "train compute": 1000 / ceiling["train"](),
            "evaluation compute": 1000 / ceiling["evaluate"](),
        }


def operations_per_frame(size: int) -> dict[str, float]:
    """Floating-point operations of the convolutions in the backbone, per frame.

    A training step needs three times as many, except that the first layer needs no gradient for the image.
    """
    counts: list[float] = []

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        counts.append(2.0 * output.numel() * module.weight[0].numel())  # type: ignore[union-attr, operator]

    model = FAN(1, 7).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model.encode(torch.zeros(1, 3, size, size))
    return {"train": 3 * sum(counts) - counts[0], "evaluate": sum(counts)}
