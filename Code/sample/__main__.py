"""Draws the generated sample into a folder.

python -m Code.sample --output Data/Sample --seed 0
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..common.commandline import number, positive, run_script, script_parser
from ..common.commandline import seed as any_seed
from ..common.files import writing
from ..common.names import MAX_IMAGE_SIZE
from ..common.progress import available_cores
from . import draw_sample
from .clip import SampleSpec


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the sample; returns the exit status."""
    spec = SampleSpec()
    parser = script_parser(__doc__, prog="python -m Code.sample")

    def add(flag: str, default: int, help: str, kind: Callable[[str], int] = positive) -> None:
        parser.add_argument(flag, type=kind, metavar="N", default=default, help=help)

    parser.add_argument("--output", type=Path, default=Path("Data/Sample"), help="folder to make")
    add("--seed", 0, "of the random numbers; another seed draws other people", any_seed)
    add("--train-clips", spec.num_train_clips, "training clips")
    add("--val-clips", spec.num_val_clips, "validation clips")
    add("--size", spec.size, "width and height of a frame in pixels", number(32, MAX_IMAGE_SIZE, int))
    add("--workers", available_cores(), "processes that draw")
    args = parser.parse_args(argv)
    spec = SampleSpec(num_train_clips=args.train_clips, num_val_clips=args.val_clips, size=args.size)
    with writing(args.output):
        root = draw_sample(args.output, seed=args.seed, workers=args.workers, progress=True, spec=spec)
    print(f"{root}: {spec.num_train_clips} training and {spec.num_val_clips} validation clips, seed {args.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
