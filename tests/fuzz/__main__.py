"""Damages what the program reads, kills its scripts, and prints what went wrong, if anything. See docs/design.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from Code.common.commandline import above_zero, count, seed
from tests.fuzz.engine import Tally, fuzz, try_one
from tests.fuzz.inputs import KINDS
from tests.fuzz.kills import SCENARIOS, kill


def tries(scratch: Path, tally: Tally) -> dict[str, Callable[[int], None]]:
    """What can be tried, by name: each takes the number of an input, or of a kill."""
    inputs = {kind.name: partial(try_one, kind, scratch, tally) for kind in KINDS}
    return inputs | {name: partial(kill, scenario, scratch, tally) for name, scenario in SCENARIOS.items()}


def main() -> int:
    """Returns 1 if there are findings."""
    known = [*(kind.name for kind in KINDS), *SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=above_zero, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="another one damages in other ways (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--index", type=count, help="one input of each name, to see a finding again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally(args.seed, Path(tempfile.mkdtemp(prefix="fuzz-findings-")))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        chosen = {name: function for name, function in tries(Path(scratch), tally).items() if name in args.only}
        if args.index is not None:
            for function in chosen.values():
                function(args.index)
        else:
            with suppress(KeyboardInterrupt):  # what was found so far is shown
                fuzz(chosen, args.minutes)
    print(f"{tally.table()}\nseed {args.seed}; findings are kept in {tally.keep}" if tally.findings else tally.table())
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
