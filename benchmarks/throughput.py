"""Frames per second: the straightforward pipeline, this project under each option, and the backbone alone.

    python benchmarks/throughput.py                            # 224 x 224; under ten minutes on two cores
    python benchmarks/throughput.py --image-size 64 --clips 14 --rounds 1      # a quick look
    python benchmarks/throughput.py --precisions fp32 bf16 --compile           # useful on a GPU

All variants read the same JPEG files. They take turns: each round measures each variant once, so that a machine that
slows down affects all of them. (a) is straightforward.py. (b) is the engine of the project. (c) is the backbone alone
on data in memory: the ceiling. (d) is the rate of matrix products in that precision, divided by the operations of the
backbone: no arrangement of the same arithmetic is faster. The table shows the median and the range over the rounds; a
JSON file has every measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from straightforward import BATCH  # noqa: E402
from variants import Bench, Variant  # noqa: E402

from Code.common.device import (  # noqa: E402
    Compute,
    choose_compute,
    describe_device,
    keep_freed_memory,
)
from Code.readers.folders import read_folders  # noqa: E402
from Code.sample import draw_sample  # noqa: E402
from Code.sample.clip import SampleSpec  # noqa: E402


def cold_epochs(bench: Bench, compute: Compute, rounds: int) -> dict[str, list[float]]:
    """Seconds for a first epoch with its evaluation, from files, and with frames that are first decoded into memory.

    The epoch is that of the protocol: as many samples as there are frames. The order alternates between rounds.
    """
    seconds: dict[str, list[float]] = {"none": [], "memory": []}
    bench.steps = -(-bench.table.num_frames // BATCH)
    bench.samples_per_clip = -(-bench.steps * BATCH // len(bench.table))
    for number in range(rounds):
        for cache in list(seconds)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            variant = bench.project(cache, compute, workers=0)
            variant.measure["train"]()
            variant.measure["evaluate"]()
            seconds[cache].append(time.perf_counter() - start)
            print(f"# first epoch, --cache {cache}: {seconds[cache][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def table(variants: list[Variant], figures: dict[str, dict[str, list[float]]]) -> str:
    """The table in Markdown: medians, ranges, ratios to the best (a) and to (c) in the same precision."""
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
                f"{own:.1f} ({min(values):.1f} to {max(values):.1f})",
                f"{own / plain:.2f}",
                f"{100 * own / top:.0f}",
            ]
        lines.append(f"| ({variant.group}) {variant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--clips", type=int, default=14, help="number of clips to draw, about 16 frames each")
    parser.add_argument("--steps", type=int, default=2, help="training steps per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per variant")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="+", default=["auto"], choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--caches", nargs="+", default=["none", "memory", "device"])
    parser.add_argument("--compile", action="store_true", help="also measure --compile")
    parser.add_argument(
        "--only-first-epoch", action="store_true", help="measure only the first epoch, with a cold cache"
    )
    parser.add_argument(
        "--no-warm-up", action="store_true", help="skip the warm-up; the first round then includes the cost of starting"
    )
    parser.add_argument("--json", type=Path, default=Path("model/throughput.json"))
    args = parser.parse_args()
    keep_freed_memory()  # as the scripts do
    computes = {c.precision: c for c in (choose_compute(args.device, name) for name in args.precisions)}
    device = next(iter(computes.values())).device
    has_bf16 = choose_compute(args.device, "auto").precision == "bf16"
    with tempfile.TemporaryDirectory() as folder:
        spec = SampleSpec(num_train_clips=args.clips, num_val_clips=7, size=args.image_size)
        sample = draw_sample(Path(folder) / "Sample", workers=os.cpu_count() or 1, spec=spec)
        clips = read_folders(sample / "Train")
        first = next(iter(computes.values()))
        on_gpu = device.type == "cuda"
        cold = cold_epochs(Bench(clips, args.image_size, device, args.steps), first, args.rounds)
        said = {name: f"{statistics.median(v):.1f} s ({min(v):.1f} to {max(v):.1f})" for name, v in cold.items()}
        first_epoch = f"a first epoch and evaluation: {said['none']} from files, {said['memory']} decoded first"
        if args.only_first_epoch:
            print(first_epoch)
            return 0
        bench = Bench(clips, args.image_size, device, args.steps)
        parts, cores = bench.parts(first), bench.cores
        variants = [bench.plain(workers) for workers in dict.fromkeys((cores, 8))]
        for compute in computes.values():
            for cache in args.caches:
                workers = 0 if cache == "device" or not on_gpu else min(16, cores)
                variants.append(bench.project(cache, compute, workers))
            if args.compile:
                variants.append(bench.project(args.caches[-1], compute, 0, compiled=True))
        shown = list({c.precision: c for c in (*computes.values(), choose_compute(args.device, "fp32"))}.values())
        variants += [bench.ceiling(compute) for compute in shown] + [bench.limit(compute) for compute in shown]
        figures: dict[str, dict[str, list[float]]] = {v.name: {"train": [], "evaluate": []} for v in variants}
        for number in range(args.rounds + (not args.no_warm_up)):
            for variant in variants:
                for kind, measure in variant.measure.items():
                    if number == 0 and not args.no_warm_up and not on_gpu and variant.group != "b":
                        continue  # on a CPU, little needs to warm up, and these take long
                    value = measure()
                    if number or args.no_warm_up:
                        figures[variant.name][kind].append(value)
            print(f"# round {number} done", file=sys.stderr, flush=True)
        if bench.straightforward:
            bench.straightforward.close()
    text = table(variants, figures)
    hardware = f"{describe_device(device)}; bf16 in hardware: {'yes' if has_bf16 else 'no'}; torch {torch.__version__}"
    print(
        f"\n{hardware}; {torch.get_num_threads()} threads, {cores} cores; {args.image_size} x {args.image_size} frames"
    )
    print(f"\n{text}\n\nms per frame: " + ", ".join(f"{name} {value:.3f}" for name, value in parts.items()))
    print(first_epoch)
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
