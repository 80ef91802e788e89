"""Training with several processes: `torchrun --nproc_per_node N Demo_AFEW_Attention.py ...`.

Without torchrun, or with one process, every function here does nothing or returns its argument, so callers need not
check. The processes communicate through NCCL on GPUs and through gloo on CPUs. All of them have the same number of
batches. An error in one of them ends it with its message, and torchrun ends the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..common.device import World, world
from ..common.errors import UsageError, WorkerError

T = TypeVar("T")


@contextlib.contextmanager
def processes(device: str) -> Iterator[World]:
    """Joins the processes that torchrun started, on `--device`. In the block only the main one prints.

    Raises:
        UsageError: the device cannot be shared among them.
        WorkerError: another process is gone.
    """
    if world().size == 1:
        yield world()
        return
    chosen = device_of_process(device, world().local_rank)
    on_gpu = chosen.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=torch.device(chosen) if on_gpu else None)
    with contextlib.ExitStack() as stack:
        if not world().is_main:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        try:
            yield world()
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise WorkerError("another process of this training has ended; see its message above") from error
            raise
    dist.destroy_process_group()  # not after an error: the other processes may never get here


def device_of_process(device: str, local_rank: int) -> str:
    """The device of one of several processes on a machine: a GPU each, or the CPU.

    Raises:
        UsageError: there are fewer GPUs than processes, or all would use the same one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: all processes would share it; with torchrun use --device cuda or auto")
    if device != "cuda":
        return device
    if local_rank >= torch.cuda.device_count():
        raise UsageError(f"--nproc_per_node: more processes than the {torch.cuda.device_count()} GPUs of this machine")
    return f"cuda:{local_rank}"


def barrier() -> None:
    """Waits until all processes are here."""
    if world().size > 1:
        dist.barrier()


def from_main(value: T) -> T:
    """The value, any that can be pickled, that the main process has."""
    box: list[Any] = [value]
    if world().size > 1:
        dist.broadcast_object_list(box)
    return box[0]


def wrapped(model: nn.Module) -> nn.Module:
    """The model as a training step calls it: gradients are averaged over the processes.

    Initial weights are those of the main process. Running batch-norm statistics stay separate, see `share_buffers`.
    """
    if world().size == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def share_buffers(model: nn.Module) -> None:
    """Copies the running batch-norm statistics of the main process, which are evaluated and saved, to all others."""
    if world().size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def total(values: Tensor) -> Tensor:
    """The sum over all processes of a tensor of any shape, in place."""
    if world().size > 1:
        dist.all_reduce(values)
    return values


def gather_rows(rows: Tensor, counts: list[int]) -> Tensor:
    """The rows of all processes in the order of their ranks, [sum of counts, D]; `rows`: [counts[rank], D]."""
    if world().size == 1:
        return rows
    padded = rows.new_zeros(max(counts), rows.shape[1])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([block[:count] for block, count in zip(gathered, counts, strict=True)])
