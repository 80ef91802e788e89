"""Damages what the program reads, kills its scripts, and prints what went wrong, if anything. See docs/design.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from Code.common.commandline import above_zero, count, seed
from tests.fuzz.data_kinds import KINDS as DATA_KINDS
from tests.fuzz.engine import BATCH, Kind, run_kind
from tests.fuzz.findings import BrokenKindError, Tally
from tests.fuzz.kills import ACTIONS, SCENARIOS, disturb
from tests.fuzz.state_kinds import KINDS as STATE_KINDS

KINDS = {kind.name: kind for kind in (*DATA_KINDS, *STATE_KINDS)}
DISTURBANCES = [f"{action}-{scenario}" for action in ACTIONS for scenario in SCENARIOS]
DISTURBED = 0.4  # share of the time that kills take beside inputs


def fuzz(kinds: list[Kind], disturbances: list[str], tally: Tally, scratch: Path, minutes: float, first: int) -> None:
    """Batches of each kind in turn, as its share says, and kills between them, until the time is over."""
    begun = time.monotonic()
    done = {kind.name: 0 for kind in kinds}
    kills, killing = 0, 0.0  # how many, and the seconds that they took
    while (now := time.monotonic()) < begun + 60 * minutes:
        if disturbances and (not kinds or killing < DISTURBED * (now - begun)):
            turn, at = divmod(kills, len(disturbances))
            name = disturbances[at]
            try:
                disturb(name, scratch, tally, first + turn)
            except BrokenKindError as error:
                tally.breaks(name, error)
            kills, killing = kills + 1, killing + time.monotonic() - now
            continue
        kind = min(kinds, key=lambda kind: done[kind.name] / kind.share)
        start = first + done[kind.name]
        try:
            run_kind(kind, scratch, tally, range(start, start + BATCH))
        except BrokenKindError as error:
            tally.breaks(kind.name, error)
        done[kind.name] += BATCH


def main() -> int:
    """Returns 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=above_zero, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="another one damages in other ways (default: %(default)s)")
    known = [*KINDS, *DISTURBANCES]
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="KIND", help=", ".join(known))
    parser.add_argument("--index", type=count, help="one input of the kind after --only, to see a finding again")
    parser.add_argument("--first", type=count, default=0, help="number of the first input of each kind (%(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the smallest input of each finding (default: a new one)")
    parser.add_argument(
        "--scratch", type=Path, help="folder for whole files, which later calls use again (default: none)"
    )
    args = parser.parse_args()
    if args.index is not None and len(args.only) != 1:
        parser.error("--index needs one kind after --only")
    torch.set_num_threads(1)
    keep = args.keep or Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    tally = Tally(args.seed, keep.absolute())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        scratch = args.scratch.absolute() if args.scratch else Path(temporary)
        kinds = [KINDS[name] for name in args.only if name in KINDS]
        disturbances = [name for name in args.only if name in DISTURBANCES]
        if args.index is None:
            with suppress(KeyboardInterrupt):  # what was found so far is shown
                fuzz(kinds, disturbances, tally, scratch, args.minutes, args.first)
        elif kinds:
            run_kind(kinds[0], scratch, tally, [args.index])
        else:
            disturb(disturbances[0], scratch, tally, args.index)
        os.chdir("/")
    print(f"{tally.table()}\nseed {args.seed}, {(time.monotonic() - begun) / 60:.1f} minutes")
    if args.index is not None:
        for about in keep.glob("*/about.txt"):
            print(about.read_text(encoding="utf-8"))
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
