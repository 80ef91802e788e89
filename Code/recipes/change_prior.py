"""Changes the prior of a trained classifier: how likely it takes each class to be before it sees a face.

    python -m Code.recipes.change_prior pretrain_model/FILE.pth.tar --balance 1 --floor 0.02 --output NEW.pth.tar

`--balance 1` removes the class shares of the training set (all classes equally likely), `--balance 0` restores them.
Only the bias of the classifier changes. The file must have its `class_shares`, as those of Pretrain_FERPlus.py do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.commandline import from_zero, number, run_script, script_parser
from ..common.files import check_outputs, writing
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically, with_weights
from ..network.prior import Balance
from ..network.weights import stored_classifier


def with_balance(checkpoint: Mapping[str, Any], wanted: Balance, shares: Tensor) -> dict[str, Any]:
    """A checkpoint with another prior, which its recipe says. Its accuracy was that of the old prior, and is left out.

    Args:
        checkpoint: a frame classifier of the published format, or a run's.
        wanted: the balance of the result.
        shares: float [C], how often its training set showed each class.

    Raises:
        CheckpointError: it has no classifier of as many classes, or its training set lacks a class whose share is to
            be taken out or restored.
    """
    weights = dict(checkpoint["state_dict"])
    names = [name for name in stored_classifier(checkpoint) if name.endswith(".bias")]
    if not names or any(weights[name].shape != shares.shape for name in names):
        raise CheckpointError(f"no classifier of {len(shares)} classes")
    recipe = checkpoint.get("recipe")
    change = Balance.of(recipe).offset(shares) - wanted.offset(shares)
    if not torch.isfinite(change).all():
        absent = int((shares <= 0).sum())
        raise CheckpointError(f"{absent} of {len(shares)} classes have the share 0; choose a --floor above 0")
    for name in names:
        weights[name] = (weights[name].float() + change).to(weights[name].dtype)
    changed = {**(recipe if isinstance(recipe, Mapping) else {})}
    changed |= {"balance": str(wanted.tau), "balance_floor": str(wanted.floor)}
    return {**with_weights(checkpoint, weights), "recipe": changed, "class_shares": shares.tolist()}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.recipes.change_prior")
    parser.add_argument("file", type=Path, metavar="FILE", help="the file of a classifier")
    balance_help = "how much of the class shares to keep out: 0 nothing, 1 all"
    parser.add_argument("--balance", type=from_zero, default=1.0, metavar="TAU", help=balance_help)
    parser.add_argument(
        "--floor", type=number(0, 1), default=0.0, metavar="S", help="rarer classes count as this share"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the file to write")
    args = parser.parse_args(argv)
    check_outputs([args.output], [args.file])
    checkpoint = read_checkpoint(args.file)
    shares = torch.tensor(checkpoint.get("class_shares", ()), dtype=torch.float32)
    if not len(shares):
        raise CheckpointError(f"{args.file}: has no class_shares, from which its prior could be changed")
    try:
        content = with_balance(checkpoint, Balance(args.balance, args.floor), shares)
    except CheckpointError as error:
        raise CheckpointError(f"{args.file}: {error}") from None
    with writing(args.output):
        save_atomically(content, args.output)
    print(f"wrote {args.output}: balance {args.balance:g}, floor {args.floor:g}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
