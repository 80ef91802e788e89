"""The state of an epoch that is under way: what it takes to resume it between two steps, and its recent losses.

The random states of an epoch derive from (seed, epoch, process) at its first step. From there on, dropout and
augmentation draw from running generators, so their states are kept, too: an epoch that is resumed at step k ends
exactly as if it had never been interrupted.
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

from ..common.errors import TrainingDivergedError
from ..data.loaders import Batch
from ..network.checkpoints import CheckpointError
from . import distributed


class EpochState:
    """One epoch of this process.

    Attributes:
        epoch: counted from 1.
        step: steps done so far.
        steps: steps of the whole epoch.
        sums: float32 [2] on the device: loss times samples, and correct samples.
        samples, frames: that this process has trained on.
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

    @torch.no_grad()
    def add(self, loss: Tensor, logits: Tensor, batch: Batch) -> None:
        """Counts a step.

        Args:
            loss: a scalar.
            logits: float [B, C].
            batch: of the step; labels on the device.

        Raises:
            TrainingDivergedError: now and then, see `RecentLosses`.
        """
        labels, frames = batch["labels"], batch["frames"]
        truth = labels if labels.ndim == 1 else labels.argmax(dim=1)
        self.sums += torch.stack([loss.detach() * len(labels), (logits.argmax(dim=1) == truth).sum()])
        self.samples += len(labels)
        self.frames += frames.shape[0] * frames.shape[1]
        self.step += 1
        self.losses.add(self.step, loss, batch["clips"])

    @property
    def seconds(self) -> float:
        """Time in the steps of the epoch, before and after an interruption."""
        return self._seconds + (0 if self._since is None else time.perf_counter() - self._since)

    def begin(self, seed: int, device: torch.device, steps: int) -> None:
        """Sets all random states for the next step: from the seed for the first one, else as they were."""
        self.sums, self.steps = self.sums.to(device), steps
        if self._random is not None:
            try:
                restore_random(self._random, self.generator, device)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise CheckpointError(
                    f"the checkpoint's random states cannot be restored ({' '.join(str(error).split())[:200]}); "
                    "start a new run"
                ) from None
            self._random = None
        else:
            rank = distributed.world().rank
            state = (rank << 52) + (seed << 20) + self.epoch
            if self.step:  # another number of processes began it: their random states fit none of these
                state = int(np.random.default_rng([state, self.step]).integers(2**62))
            random.seed(state)
            np.random.seed(state % 2**32)
            torch.manual_seed(state)  # dropout
            self.generator.manual_seed(state)  # augmentation
            # The loader once drew a number here. Without this line old seeds would give other dropout.
            torch.empty((), dtype=torch.int64).random_()
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """The state of this process, as plain data and tensors on the CPU."""
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
    def resumed(cls, position: dict[str, Any], names: Sequence[str] = ()) -> EpochState:
        """The epoch of a checkpoint, at the step where it was interrupted.

        Args:
            position: "epoch", its "steps", and under "processes" the `state` of each process. With another number
                of processes the sums are still right, but dropout and augmentation are drawn from new states.
        """
        states, world = position["processes"], distributed.world()
        epoch_state = cls(position["epoch"], names)
        epoch_state.steps = position["steps"]
        same = len(states) == world.size
        mine = states[world.rank if same else 0]
        epoch_state.step, epoch_state.lr = mine["step"], mine["lr"]
        epoch_state._seconds = mine["seconds"]
        if same:
            epoch_state.sums, epoch_state._random = mine["sums"].clone(), mine["random"]
            epoch_state.samples, epoch_state.frames = mine["samples"], mine["frames"]
        elif world.is_main:
            epoch_state.sums = torch.stack([state["sums"] for state in states]).sum(dim=0)
            epoch_state.samples = sum(state["samples"] for state in states)
            epoch_state.frames = sum(state["frames"] for state in states)
        return epoch_state


def capture_random(generator: torch.Generator, device: torch.device) -> dict[str, Any]:
    """The states of all random generators of this process, as plain data and tensors.

    Args:
        generator: of augmentation.
        device: if it is a CUDA device, its state is included.
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
    """Restores the states of `capture_random`; a CUDA state is ignored on another device."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    generator.set_state(state["augmentation"])


def joint_position(epoch_state: EpochState) -> dict[str, Any]:
    """The states of all processes, which a checkpoint keeps of an epoch that is under way.

    All processes have to call it, after the same step.
    """
    states: list[Tensor | dict[str, Any]] = distributed.gather_objects(epoch_state.state())
    return {"epoch": epoch_state.epoch, "steps": epoch_state.steps, "processes": states}


CHECKED_STEPS = 32  # between two checks, which wait for the device
NAMED_CLIPS = 64  # at most, in an error


class RecentLosses:
    """The losses of the last steps, which stay on the device, and the clips of these steps.

    It finds a loss that is not finite without waiting for the device in every step.

    Args:
        epoch: counted from 1.
        names: of the clips of the training set.
    """

    def __init__(self, epoch: int, names: Sequence[str]) -> None:
        self.epoch, self.names = epoch, names
        self.kept: list[tuple[int, Tensor, Tensor]] = []

    def add(self, step: int, loss: Tensor, clips: Tensor) -> None:
        """Adds a step: its number, from 1; its loss, a scalar; the indices of its clips, int64 [B].

        Raises:
            TrainingDivergedError: see `check`, which is called every `CHECKED_STEPS` steps.
        """
        self.kept.append((step, loss.detach(), clips))
        if len(self.kept) > CHECKED_STEPS:
            self.check()

    def check(self, model: nn.Module | None = None) -> None:
        """Checks all losses since the last call. All processes have to call it after the same step.

        Args:
            model: its weights are checked, too: the last step may have spoiled them although its loss was finite.

        Raises:
            TrainingDivergedError: in all processes; names the step and the clips of its whole batch.
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
        """Names the earliest of the reports (loss was finite, step, clips) of all processes."""
        finite, first = min((finite, step) for finite, step, _ in reports)
        names = list(dict.fromkeys(name for *found, clips in reports if found == [finite, first] for name in clips))
        what = "the weights are not finite after step" if finite else "the loss is not finite in step"
        more = f" and {len(names) - NAMED_CLIPS} more" if len(names) > NAMED_CLIPS else ""
        clips = f", with the clips {', '.join(names[:NAMED_CLIPS])}{more}" if names else ""
        raise TrainingDivergedError(
            f"epoch {self.epoch}: {what} {first}{clips}; start again with a smaller --lr, or with --precision fp32"
        )
