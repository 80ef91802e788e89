"""A loss that is no number any more: found without waiting for the device in every step, named with its clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from Code.training import distributed
from Code.training.errors import TrainingDivergedError

CHECKED_STEPS = 32  # the device is waited for once in so many steps
NAMED_CLIPS = 64  # at most, in the error


class RecentLosses:
    """The losses of the last steps, left on the device, and which clips they are of.

    Args:
        epoch: counted from 1.
        names: of the training set's clips.
    """

    def __init__(self, epoch: int, names: Sequence[str]) -> None:
        self.epoch, self.names = epoch, names
        self.kept: list[tuple[int, Tensor, Tensor]] = []

    def add(self, step: int, loss: Tensor, clips: Tensor) -> None:
        """Takes in a step: its number from 1, its loss (a scalar), the places of its clips, int64 [B].

        Raises:
            TrainingDivergedError: see `check`, which is called now and then.
        """
        self.kept.append((step, loss.detach(), clips))
        if len(self.kept) > CHECKED_STEPS:
            self.check()

    def check(self, model: nn.Module | None = None) -> None:
        """Looks at all losses since the last time; all processes have to do it after the same step.

        Args:
            model: its weights are looked at too: the last step may have spoilt them with a loss that was finite.

        Raises:
            TrainingDivergedError: in all processes, naming the step and the clips of its whole batch.
        """
        if not self.kept:
            return
        fine = torch.stack([loss for _, loss, _ in self.kept]).isfinite()  # [steps]
        spoilt = fine.logical_not().any()
        if model is not None:
            whole = torch.stack([weights.detach().isfinite().all() for weights in model.parameters()])
            spoilt |= whole.all().logical_not()
        if distributed.total(spoilt.float()).item() == 0:
            self.kept = self.kept[-1:]
            return
        losses_fine = fine.tolist()
        at = losses_fine.index(False) if False in losses_fine else len(losses_fine)
        step, _, clips = self.kept[min(at, len(losses_fine) - 1)]
        mine = (at == len(losses_fine), step, [self.names[clip] for clip in clips.tolist()] if self.names else [])
        self._raise(distributed.gather_objects(mine))

    def _raise(self, reports: list[tuple[bool, int, list[str]]]) -> None:
        """Of all processes' (loss was finite, step, clips), names the earliest."""
        finite, first = min((finite, step) for finite, step, _ in reports)
        names = list(dict.fromkeys(name for *found, clips in reports if found == [finite, first] for name in clips))
        what = "the weights are not finite after step" if finite else "the loss is not finite in step"
        more = f" and {len(names) - NAMED_CLIPS} more" if len(names) > NAMED_CLIPS else ""
        clips = f", with the clips {', '.join(names[:NAMED_CLIPS])}{more}" if names else ""
        raise TrainingDivergedError(
            f"epoch {self.epoch}: {what} {first}{clips}; start again with a smaller --lr, or with --precision fp32"
        )
