"""Damages what the program reads, kills its scripts, and prints what went wrong, if anything. See docs/design.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from Code.common.commandline import count, from_zero, seed
from tests.fuzz.engine import Tally, try_one
from tests.fuzz.inputs import KINDS
from tests.fuzz.kills import SCENARIOS, kill


def main() -> int:
    """Tries each kind of input and each scenario in turn; all get the same time. Returns 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    known = [each.name for each in (*KINDS, *SCENARIOS)]
    parser.add_argument("--minutes", type=from_zero, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="another one damages in other ways (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--index", type=count, help="one input of each name, to see a finding again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally(args.seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        tries = {kind.name: partial(try_one, kind, Path(scratch), tally) for kind in KINDS}
        tries |= {scenario.name: partial(kill, scenario, Path(scratch), tally) for scenario in SCENARIOS}
        spent, tried = Counter(dict.fromkeys(args.only, 0.0)), Counter[str]()
        end = time.monotonic() + 60 * args.minutes
        while (begun := time.monotonic()) < end and (args.index is None or len(tried) < len(spent)):
            name = min(spent, key=lambda name: spent[name])
            tries[name](tried[name] if args.index is None else args.index)
            spent[name] += time.monotonic() - begun
            tried[name] += 1
    for (name, what), times in sorted(tally.items()):
        print(f"{times:6} {name}: {what}")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
