"""Averages the weights of several networks that were trained from the same starting weights.

    python -m Code.recipes.blend ONE.pth.tar OTHER.pth.tar --output BOTH.pth.tar

Wortsman et al., "Model soups", ICML 2022, arXiv 2203.05482. Unlike an ensemble, the result is as fast as one network.
The networks must have started from the same file (`--pretrained`), with the same classes and the same `--balance`. The
statistics of batch normalization are averaged like weights.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.commandline import run_script, script_parser
from ..common.files import writing
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically, with_weights
from ..network.prior import Balance
from ..network.weights import plain_weights


def blended(checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last checkpoint, with the mean of all weights, and without the state that resuming needs.

    Raises:
        CheckpointError: the networks differ in shape, in classes or in balance.
    """
    last = checkpoints[-1]
    parts = [plain_weights(checkpoint) for checkpoint in checkpoints]
    shapes = [{name: value.shape for name, value in part.items()} for part in parts]
    if any(shape != shapes[-1] for shape in shapes):
        raise CheckpointError("the networks have different shapes")
    if any(checkpoint.get("labels") != last.get("labels") for checkpoint in checkpoints):
        raise CheckpointError("the networks have different classes")
    balances = {Balance.of(checkpoint.get("recipe")) for checkpoint in checkpoints}
    if len(balances) > 1:
        raise CheckpointError("their --balance differs; change it with `python -m Code.recipes.change_prior`")
    weights = {}
    for name, value in last["state_dict"].items():
        same: list[Tensor] = [part[name.removeprefix("module.")] for part in parts]
        weights[name] = torch.stack([one.float() for one in same]).mean(dim=0).to(value.dtype)
    return with_weights(last, weights)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.recipes.blend")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="networks with the same starting weights; labels and recipe are taken from the last one",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the file to write")
    args = parser.parse_args(argv)
    try:
        content = blended([read_checkpoint(path) for path in args.files])
    except CheckpointError as error:
        raise CheckpointError(f"{', '.join(map(str, args.files))}: {error}") from None
    with writing(args.output):
        save_atomically(content, args.output)
    print(f"wrote {args.output}: the mean of {len(args.files)} networks")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
