"""(a) of throughput.py: the pipeline as one would write it first, and as the published code is built.

Pillow decodes in DataLoader workers; float32, NCHW; the K frames of a sample are stacked along a fifth axis
[B, 3, H, W, K], and each slice goes through the backbone separately; the loss of each step is read. It runs in its own
process, so that no setting of the project affects it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from Code.data.batches import FrameTable, draw_segments
from Code.network.fan import FAN
from Code.readers.folders import read_folders

K, BATCH, BATCH_FRAMES = 3, 48, 64


class Samples(Dataset):
    """A sample is K files; float32 [3, H, W, K] in [0, 1], flipped as a whole."""

    def __init__(self, paths: list[str], ids: np.ndarray, targets: Tensor) -> None:
        self.paths, self.ids, self.targets = paths, ids, targets

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        frames = [load(self.paths[frame]) for frame in self.ids[index]]
        stacked = torch.stack(frames, dim=-1)
        return (stacked.flip(2) if torch.rand(()) < 0.5 else stacked), self.targets[index]


class FrameFiles(Dataset):
    """Evaluation: one frame each, float32 [3, H, W]."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return load(self.paths[index])


def load(path: str) -> Tensor:
    """A file as float32 [3, H, W] in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255).contiguous()


class Straightforward:
    """The pipeline over one folder tree of frames.

    Args:
        root: `<Class>/<clip>/<frame>` files, already of the input size.
        steps: training steps of a measurement.
    """

    def __init__(self, root: Path, size: int, device: torch.device, steps: int) -> None:
        clips = read_folders(root)
        self.table = FrameTable.of(clips)
        self.paths = [path for clip in clips.clips for path in clip.paths]
        self.device, self.steps = device, steps
        torch.manual_seed(0)
        self.model = FAN(1, len(clips.labels)).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
        rng = np.random.default_rng(0)
        per_clip = -(-steps * BATCH // len(self.table))
        clip_ids, frames = draw_segments(self.table.lengths, K, rng, per_clip)
        chosen = slice(0, steps * BATCH)
        ids = (self.table.offsets[clip_ids][:, None] + frames)[chosen]
        self.samples = Samples(self.paths, ids, self.table.targets[torch.from_numpy(clip_ids[chosen])])

    def train(self, workers: int) -> int:
        """Trains for a short epoch; returns the number of frames."""
        self.model.train()
        for stacked, labels in DataLoader(self.samples, BATCH, shuffle=True, num_workers=workers, drop_last=True):
            stacked, labels = stacked.to(self.device), labels.to(self.device)
            features = torch.stack([self.model.encode(stacked[..., k].contiguous()) for k in range(K)], dim=1)
            loss = F.cross_entropy(self.model.attend(features).logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
        return self.steps * BATCH * K

    @torch.no_grad()
    def evaluate(self, workers: int) -> int:
        """Evaluates all frames of all clips; returns their number."""
        self.model.eval()
        loader = DataLoader(FrameFiles(self.paths), BATCH_FRAMES, num_workers=workers)
        features = torch.cat([self.model.encode(frames.to(self.device)) for frames in loader])
        for clip in features.split(self.table.lengths.tolist()):
            self.model.attend(clip[None]).logits.cpu()
        return self.table.num_frames

    def frames_per_second(self, kind: str, workers: int) -> float:
        """Measures `kind`, "train" or "evaluate", once."""
        work: Callable[[int], int] = getattr(self, kind)
        wait = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        frames = work(workers)
        wait()
        return frames / (time.perf_counter() - start)


_PIPELINE: Straightforward  # of the child process


def _build(start_method: str, root: Path, size: int, device: str, steps: int) -> None:
    global _PIPELINE
    set_start_method(
        start_method, force=True
    )  # for the DataLoader's workers: the default of the platform, not that of this process
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # 8 workers, as published, on any machine
    _PIPELINE = Straightforward(root, size, torch.device(device), steps)


def _measure(kind: str, workers: int) -> float:
    return _PIPELINE.frames_per_second(kind, workers)


class InItsOwnProcess:
    """`Straightforward` in a child process that lives as long as this object."""

    def __init__(self, root: Path, size: int, device: torch.device, steps: int) -> None:
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), _build, (get_start_method(), root, size, str(device), steps)
        )

    def frames_per_second(self, kind: str, workers: int) -> float:
        """Measures once, while this process waits."""
        return self.pool.submit(_measure, kind, workers).result()

    def close(self) -> None:
        """Ends the child process."""
        self.pool.shutdown()
