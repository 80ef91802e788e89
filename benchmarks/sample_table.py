"""The table of the generated sample (README.md, docs/expect.md): three attentions, several seeds, one training each.

    python benchmarks/sample_table.py                      # 9 trainings, prints the table
    python benchmarks/sample_table.py --seeds 0 --extra --epochs 3

Each training is the public command in its own process. The table shows the last epoch (no epoch is chosen on the
validation clips): mean and range over the seeds of accuracy, UAR, and the rank correlation of final frame weights
with true intensity, averaged over clips. A JSON file has all numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = {2: "score fusion", 0: "self-attention", 1: "self + relation-attention"}


def train_once(at_type: int, seed: int, output: Path, threads: int, extra: list[str]) -> dict:
    """Trains once with the public command; returns the results of the last epoch, and the time."""
    folder = output / f"at_type{at_type}_seed{seed}"
    command = [sys.executable, "Demo_AFEW_Attention.py", "--dataset", "sample", "--at_type", str(at_type)]
    command += ["--seed", str(seed), "--output", str(folder), *extra]
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = time.perf_counter() - start
    results = max(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    last = json.loads(results.read_text())["last"]
    log = [json.loads(line) for line in (results.parent / "log.jsonl").read_text().splitlines()]
    return {
        "at_type": at_type,
        "seed": seed,
        "accuracy": last["accuracy"],
        "uar": last["uar"],
        "correlation": last["attention_correlation"],
        "training_seconds": sum(line["seconds"] for line in log),
        "process_seconds": seconds,
        "versions": json.loads((results.parent / "args.json").read_text())["versions"],
    }


def cell(values: list[float], scale: float, digits: int) -> str:
    """`mean (lowest to highest)`."""
    mean, low, high = (scale * value for value in (sum(values) / len(values), min(values), max(values)))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at_types", type=int, nargs="+", default=[2, 0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time; they share the cores")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "model" / "sample_table", help="for the runs and table.json"
    )
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more flags for each training")
    args = parser.parse_args()
    output, threads = args.output.resolve(), max(1, (os.cpu_count() or 1) // args.jobs)
    # Draw the sample once, before several trainings draw it at the same time.
    subprocess.run([sys.executable, "-m", "Code.sample", "--workers", str(os.cpu_count())], cwd=ROOT, check=True)
    # Seeds outside, attentions inside: if the machine slows down, all attentions are affected.
    plan = [(at_type, seed) for seed in args.seeds for at_type in args.at_types]
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(train_once, at_type, seed, output, threads, args.extra) for at_type, seed in plan]
        runs = []
        for job in jobs:
            runs.append(job.result())
            print(f"# {json.dumps({k: v for k, v in runs[-1].items() if k != 'versions'})}", flush=True)
    print(
        f"\nGenerated sample, {len(args.seeds)} seeds: mean (range); {threads} CPU threads a training; "
        f"{platform.machine()}, {runs[0]['versions']}\n"
    )
    print("| attention | `--at_type` | accuracy (WAR) % | UAR % | rank correlation with true intensity | command s |")
    print("|---|---|---|---|---|---|")
    for at_type in args.at_types:
        mine = [run for run in runs if run["at_type"] == at_type]

        def column(name: str, scale: float, digits: int, mine: list[dict] = mine) -> str:
            values = [run[name] for run in mine]
            return "-" if None in values else cell(values, scale, digits)

        print(
            f"| {NAMES[at_type]} | {at_type} | {column('accuracy', 100, 1)} | {column('uar', 100, 1)} | "
            f"{column('correlation', 1, 2)} | {column('process_seconds', 1, 0)} |"
        )
    (args.output / "table.json").write_text(json.dumps(runs, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
