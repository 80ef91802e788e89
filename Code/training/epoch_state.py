"""Where a training stands inside an epoch: steps done, sums so far, and the random numbers still to come.

An epoch's first state derives from (seed, epoch, process) alone. Inside the epoch dropout and augmentation draw
from running generators, whose states are kept here with everything else that the next step depends on, so that
an epoch which is taken up at step k ends as if it had never been left.

A loss that is no number any more: found without waiting for the device in every step, named with its clips.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from Code.common.errors import TrainingDivergedError
from Code.training import distributed


class EpochProgress:
    """One epoch of this process.

    Attributes:
        epoch: counted from 1.
        step: how many steps are done.
        steps: of the whole epoch.
        sums: float32 [2] on the device: loss times samples, samples that were right.
        samples, frames: seen by this process.
        lr: of the last step.
        generator: of augmentation, on the CPU.
        losses: of the last steps.
    """

    def __init__(self, epoch: int, names: Sequence[str] = ()) -> None:
        self.epoch, self.step, self.steps = epoch, 0, 0
        self.sums = torch.zeros(2)
        self.samples = self.frames = 0
        self.lr = math.nan
        self.generator = torch.Generator()
        self.losses = RecentLosses(epoch, names)
        self._seconds = 0.0
        self._since: float | None = None
        self._random: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Spent in the epoch's steps, before an interruption and after it."""
        return self._seconds + (0 if self._since is None else time.perf_counter() - self._since)

    def begin(self, seed: int, device: torch.device, steps: int) -> None:
        """Sets all random states to what the next step needs: seeded at the first one, else as they were."""
        self.sums, self.steps = self.sums.to(device), steps
        if self._random is not None:
            restore_random(self._random, self.generator, device)
            self._random = None
        else:
            rank = distributed.world().rank
            state = (rank << 52) + (seed << 20) + self.epoch
            if self.step:  # left by another number of processes, whose random states are not this one's
                state = int(np.random.default_rng([state, self.step]).integers(2**62))
            random.seed(state)
            np.random.seed(state % 2**32)
            torch.manual_seed(state)  # dropout
            self.generator.manual_seed(state)  # augmentation
            # The loader once drew a number here; without it a seed would mean other dropout than it did.
            torch.empty((), dtype=torch.int64).random_()
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Everything of this process, as plain data and tensors on the CPU."""
        return {
            "step": self.step,
            "sums": self.sums.detach().cpu().clone(),
            "samples": self.samples,
            "frames": self.frames,
            "lr": self.lr,
            "seconds": self.seconds,
            "random": capture_random(self.generator, self.sums.device),
        }

    @classmethod
    def taken_up(cls, position: dict[str, Any], names: Sequence[str] = ()) -> EpochProgress:
        """The epoch of a checkpoint, where it was left.

        Args:
            position: "epoch", its "steps", and under "processes" each process's `state`. With another number of
                processes than then the sums are right still, but dropout and augmentation are drawn anew.
        """
        states, world = position["processes"], distributed.world()
        progress = cls(position["epoch"], names)
        progress.steps = position["steps"]
        same = len(states) == world.size
        mine = states[world.rank if same else 0]
        progress.step, progress.lr = mine["step"], mine["lr"]
        progress._seconds = mine["seconds"]
        if same:
            progress.sums, progress._random = mine["sums"].clone(), mine["random"]
            progress.samples, progress.frames = mine["samples"], mine["frames"]
        elif world.is_main:
            progress.sums = torch.stack([state["sums"] for state in states]).sum(dim=0)
            progress.samples = sum(state["samples"] for state in states)
            progress.frames = sum(state["frames"] for state in states)
        return progress


def capture_random(generator: torch.Generator, device: torch.device) -> dict[str, Any]:
    """The states of all random generators of this process, as plain data and tensors.

    Args:
        generator: of augmentation.
        device: a CUDA device's own state is kept too.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "augmentation": generator.get_state(),
    }


def restore_random(state: dict[str, Any], generator: torch.Generator, device: torch.device) -> None:
    """Puts `capture_random`'s states back; a CUDA state has no use on another device."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    generator.set_state(state["augmentation"])


def joined(progress: EpochProgress) -> dict[str, Any]:
    """What a checkpoint keeps of an epoch that is under way: the states of all processes.

    All of them have to call it, after the same step.
    """
    states: list[Tensor | dict[str, Any]] = distributed.gather_objects(progress.state())
    return {"epoch": progress.epoch, "steps": progress.steps, "processes": states}


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
