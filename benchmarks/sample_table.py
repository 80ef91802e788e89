"""The table of the generated sample (README.md, docs/expect.md): three attentions, several seeds, one training each.

    python benchmarks/sample_table.py                      # 9 trainings, prints the table
    python benchmarks/sample_table.py --seeds 0 --extra --epochs 3

The trainings of an attention are the public command with `--seeds`. The table shows the last epoch (no epoch is chosen
on the validation clips): mean and range over the seeds of accuracy, UAR, and the rank correlation of final frame
weights with true intensity, averaged over clips; and the seconds of the command for a seed.
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


def cell(of: dict | None, scale: float, digits: int) -> str:
    """`mean (lowest to highest)`."""
    if of is None:
        return "-"
    mean, low, high = (scale * value for value in (of["mean"], *of["range"]))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--at_types", type=int, nargs="+", default=[2, 0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="commands at the same time; they share the cores")
    parser.add_argument("--output", type=Path, default=ROOT / "model" / "sample_table", help="for the runs")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more flags for each training")
    args = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    # Draw the sample once, before several trainings draw it at the same time.
    subprocess.run([sys.executable, "-m", "Code.sample", "--workers", str(os.cpu_count())], cwd=ROOT, check=True)

    def row(at_type: int) -> str:
        folder, start = args.output.resolve() / f"at_type{at_type}", time.perf_counter()
        command = [sys.executable, "Demo_AFEW_Attention.py", "--dataset", "sample", "--at_type", str(at_type)]
        command += ["--seeds", *args.seeds, "--output", str(folder), *args.extra]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
        seconds = (time.perf_counter() - start) / len(args.seeds)
        summary = max(folder.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
        last = json.loads(summary.read_text())["last"]
        cells = [cell(last["accuracy"], 100, 1), cell(last["uar"], 100, 1)]
        cells += [cell(last.get("attention_correlation"), 1, 2), f"{seconds:.0f}"]
        return f"| {NAMES[at_type]} | {at_type} | {' | '.join(cells)} |"

    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(row, args.at_types))
    print(f"\nGenerated sample, {len(args.seeds)} seeds: mean (range); {threads} CPU threads; {platform.machine()}\n")
    print("| attention | `--at_type` | accuracy (WAR) % | UAR % | rank correlation with true intensity | seconds |")
    print("|---|---|---|---|---|---|", *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
