"""Frames per second: the straightforward pipeline, this project under each option, and the backbone alone.

    python benchmarks/throughput.py                            # 224 x 224; under ten minutes on two cores
    python benchmarks/throughput.py --image-size 64 --clips 14 --rounds 1      # a quick look
    python benchmarks/throughput.py --precisions fp32 bf16 --compile           # what a GPU should be asked

All variants take the same JPEG files, and turns: round after round each one is measured once, so that a machine
that slows down slows all. (a) decodes with Pillow in DataLoader workers, computes in float32 and NCHW, stacks a
sample's K frames on a fifth axis [B, 3, H, W, K] and passes each slice through the backbone by itself. (b) is the
project's own engine. (c) is the backbone on data already in place: the ceiling. Medians over the rounds and their
range; a JSON file beside the table holds every measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from Code.data.afew import read_folders  # noqa: E402
from Code.data.augment import FlippedClips, PlainFrames  # noqa: E402
from Code.data.clips import ClipSet  # noqa: E402
from Code.data.loaders import EvaluationBatches, TrainingBatches, draw_segments  # noqa: E402
from Code.data.sample import SampleSpec, draw_sample  # noqa: E402
from Code.data.store import FileStore, FrameTable  # noqa: E402
from Code.data.stores import CacheChoice, open_stores  # noqa: E402
from Code.network.fan import FAN  # noqa: E402
from Code.training.compute import Compute, choose_compute  # noqa: E402
from Code.training.engine import evaluate, train_one_epoch  # noqa: E402
from Code.training.environment import describe_device  # noqa: E402
from Code.training.session import BATCH_FRAMES  # noqa: E402

K, BATCH, PLAIN_BATCH_FRAMES = 3, 48, 64


class Variant(NamedTuple):
    """One row of the table: frames/s of one measurement, by kind of work."""

    name: str
    group: str  # "a", "b" or "c"
    precision: str
    measure: dict[str, Callable[[], float]]


class PlainSamples(Dataset):
    """(a): a sample is K files; float32 [3, H, W, K] in [0, 1], flipped as a whole."""

    def __init__(self, store: FileStore, ids: np.ndarray, targets: Tensor) -> None:
        self.store, self.ids, self.targets = store, ids, targets

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        frames = [load_plain(self.store.path(int(frame))) for frame in self.ids[index]]
        stacked = torch.stack(frames, dim=-1)
        return (stacked.flip(2) if torch.rand(()) < 0.5 else stacked), self.targets[index]


class PlainFrameFiles(Dataset):
    """(a), evaluation: one frame each, float32 [3, H, W]."""

    def __init__(self, store: FileStore, number: int) -> None:
        self.store, self.number = store, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Tensor:
        return load_plain(self.store.path(index))


def load_plain(path: str) -> Tensor:
    """A file as float32 [3, H, W] in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255).contiguous()


class Bench:
    """The files, the work of an epoch, and all ways to do it."""

    def __init__(self, clips: ClipSet, size: int, device: torch.device, steps: int, folder: Path) -> None:
        self.clips, self.size, self.device, self.folder = clips, size, device, folder
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.store, table = FileStore(clips, size), FrameTable.of(clips)
        # A training of `steps` batches; evaluation of all frames.
        self.table = table
        self.samples_per_clip = -(-steps * BATCH // len(table))
        self.steps = steps

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
        model = self.model(torch.contiguous_format)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
        rng = np.random.default_rng(0)
        clips, frames = draw_segments(self.table.lengths, K, rng, self.samples_per_clip)
        chosen = slice(0, self.steps * BATCH)
        ids = (self.table.offsets[clips][:, None] + frames)[chosen]
        samples = PlainSamples(self.store, ids, self.table.targets[torch.from_numpy(clips[chosen])])

        def train() -> None:
            model.train()
            for stacked, labels in DataLoader(samples, BATCH, shuffle=True, num_workers=workers, drop_last=True):
                stacked, labels = stacked.to(self.device), labels.to(self.device)
                features = torch.stack([model.encode(stacked[..., k].contiguous()) for k in range(K)], dim=1)
                loss = F.cross_entropy(model.attend(features).logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()  # each step's loss is read, as published

        @torch.no_grad()
        def judge() -> None:
            model.eval()
            files = PlainFrameFiles(self.store, self.table.num_frames)
            loader = DataLoader(files, PLAIN_BATCH_FRAMES, num_workers=workers)
            features = torch.cat([model.encode(frames.to(self.device)) for frames in loader])
            for clip in features.split(self.table.lengths.tolist()):
                model.attend(clip[None]).logits.cpu()

        return self.variant(f"straightforward, {workers} workers", "a", "fp32", train, judge)

    def variant(self, name: str, group: str, precision: str, train: Callable, judge: Callable) -> Variant:
        return Variant(
            name,
            group,
            precision,
            {
                "train": lambda: self.timed(self.steps * BATCH * K, train),
                "evaluate": lambda: self.timed(self.table.num_frames, judge),
            },
        )

    # (b)

    def project(self, cache: str, compute: Compute, workers: int, compiled: bool = False) -> Variant:
        (store,) = open_stores(
            [self.clips], self.size, CacheChoice(cache, ""), folder=self.folder, device=self.device,
            workers=self.cores, say=lambda line: None, show_progress=False,
        )  # fmt: skip
        model = self.model(torch.channels_last)
        forward: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        on_gpu = self.device.type == "cuda"
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4, fused=on_gpu)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        loading = {"workers": workers, "pin_memory": on_gpu and cache != "device"}
        training = TrainingBatches(
            self.table, store, num_frames=K, batch_size=BATCH, seed=0, samples_per_clip=self.samples_per_clip, **loading
        )
        whole_epoch = training.set_epoch

        def set_epoch(epoch: int) -> None:  # the same number of steps as the others
            whole_epoch(epoch)
            training.plan.keys, training.clips = training.plan.keys[: self.steps], training.clips[: self.steps]

        training.set_epoch = set_epoch  # type: ignore[method-assign]
        frames = EvaluationBatches(self.table, store, batch_frames=BATCH_FRAMES[self.device.type], **loading)
        scaler, flips, plain = compute.scaler(), FlippedClips(), PlainFrames()

        def train() -> None:
            train_one_epoch(
                model, training, optimizer, scheduler, scaler, compute=compute, transform=flips, epoch=1, seed=0,
                forward=forward, show_progress=False,
            )  # fmt: skip

        def judge() -> None:
            evaluate(model, frames, compute=compute, transform=plain, show_progress=False)

        name = f"--cache {cache} --precision {compute.precision}" + (" --compile" if compiled else "")
        return self.variant(name, "b", compute.precision, train, judge)

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
        def judge() -> None:
            model.eval()
            for _ in range(batches):
                with compute.autocast():
                    model.encode(packed)

        variant = self.variant(f"backbone alone, {compute.precision}", "c", compute.precision, train, judge)
        variant.measure["evaluate"] = lambda: self.timed(batches * many, judge)
        return variant

    def parts(self, compute: Compute) -> dict[str, float]:
        """Milliseconds per frame: decoding on one core; the copy from the cache to floats on the device; the step."""
        number = min(96, self.table.num_frames)
        ids = np.arange(number)
        decode = 1000 / self.timed(number, lambda: self.store.read(ids))
        (cached,) = open_stores(
            [self.clips], self.size, CacheChoice("disk", ""), folder=self.folder, device=self.device,
            workers=self.cores, say=lambda line: None, show_progress=False,
        )  # fmt: skip
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


def cold_epochs(bench: Bench, compute: Compute) -> dict[str, float]:
    """Seconds from nothing to the end of a first epoch and its evaluation, without a cache and with a cold one."""
    seconds = {}
    for cache in ("none", "disk"):
        for file in bench.folder.glob("*.frames"):
            file.unlink()
        start = time.perf_counter()
        variant = bench.project(cache, compute, workers=0)
        variant.measure["train"]()
        variant.measure["evaluate"]()
        seconds[cache] = time.perf_counter() - start
    return seconds


def table(variants: list[Variant], figures: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: medians, ranges, ratios to the best (a) and to the (c) of the same precision."""
    lines = [
        "| | train frames/s (range) | x (a) | % of (c) | evaluation frames/s (range) | x (a) | % of (c) |",
        "|---|---|---|---|---|---|---|",
    ]

    def middle(variant: Variant, kind: str) -> float:
        return statistics.median(figures[variant.name][kind])

    for variant in variants:
        cells = []
        for kind in ("train", "evaluate"):
            values = figures[variant.name][kind]
            plain = max(middle(other, kind) for other in variants if other.group == "a")
            top = next(middle(o, kind) for o in variants if o.group == "c" and o.precision == variant.precision)
            own = middle(variant, kind)
            cells += [
                f"{own:.1f} ({min(values):.1f} - {max(values):.1f})",
                f"{own / plain:.2f}",
                f"{100 * own / top:.0f}",
            ]
        lines.append(f"| ({variant.group}) {variant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--clips", type=int, default=14, help="clips to draw, about 16 frames each")
    parser.add_argument("--steps", type=int, default=2, help="training steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every variant")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="+", default=["auto"], choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--caches", nargs="+", default=["none", "disk", "device"])
    parser.add_argument("--compile", action="store_true", help="measure --compile, too")
    parser.add_argument("--no-warm-up", action="store_true", help="the first round then holds what starting costs")
    parser.add_argument("--json", type=Path, default=Path("model/throughput.json"))
    args = parser.parse_args()
    computes = {c.precision: c for c in (choose_compute(args.device, name) for name in args.precisions)}
    device = next(iter(computes.values())).device
    has_bf16 = choose_compute(args.device, "auto").precision == "bf16"
    with tempfile.TemporaryDirectory() as folder:
        spec = SampleSpec(num_train_clips=args.clips, num_val_clips=7, size=args.image_size)
        sample = draw_sample(Path(folder) / "Sample", workers=os.cpu_count() or 1, spec=spec)
        bench = Bench(read_folders(sample / "Train"), args.image_size, device, args.steps, Path(folder) / "Cache")
        first = next(iter(computes.values()))
        on_gpu, cores = device.type == "cuda", bench.cores
        cold = cold_epochs(bench, first)
        parts = bench.parts(first)
        variants = [bench.plain(workers) for workers in dict.fromkeys((cores, 8))]
        for compute in computes.values():
            for cache in args.caches:
                workers = 0 if cache == "device" or not on_gpu else min(16, cores)
                variants.append(bench.project(cache, compute, workers))
            if args.compile:
                variants.append(bench.project(args.caches[-1], compute, 0, compiled=True))
        variants += [bench.ceiling(compute) for compute in (*computes.values(), choose_compute(args.device, "fp32"))][
            : len(computes) + ("fp32" not in computes)
        ]
        figures: dict[str, dict[str, list[float]]] = {v.name: {"train": [], "evaluate": []} for v in variants}
        for number in range(args.rounds + (not args.no_warm_up)):
            for variant in variants:
                for kind, measure in variant.measure.items():
                    if number == 0 and not args.no_warm_up and not on_gpu and variant.group != "b":
                        continue  # on a CPU there is little to warm up, and these take long
                    value = measure()
                    if number or args.no_warm_up:
                        figures[variant.name][kind].append(value)
            print(f"# round {number} done", file=sys.stderr, flush=True)
    text = table(variants, figures)
    hardware = f"{describe_device(device)}; bf16 in hardware: {'yes' if has_bf16 else 'no'}; torch {torch.__version__}"
    print(
        f"\n{hardware}; {torch.get_num_threads()} threads, {cores} cores; {args.image_size} x {args.image_size} frames"
    )
    print(f"\n{text}\n\nms per frame: " + ", ".join(f"{name} {value:.3f}" for name, value in parts.items()))
    print(f"first epoch and evaluation: {cold['none']:.1f} s without a cache, {cold['disk']:.1f} s with a cold one")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "image_size": args.image_size,
        "frames_per_second": figures,
        "milliseconds_per_frame": parts,
        "first_epoch_seconds": cold,
        "table": text.splitlines(),
    }
    args.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
