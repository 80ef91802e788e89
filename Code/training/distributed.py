"""Several processes that train one network: `torchrun --nproc_per_node N Demo_AFEW_Attention.py ...`.

Without torchrun, or with one process, every function here does nothing or hands back what it got, so that
callers need not ask. Processes talk through NCCL on GPUs and through gloo on CPUs.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from Code.common.errors import LostProcessError, ProjectError, UsageError

T = TypeVar("T")
# The others wait this long for one of them, which may be decoding a whole data set into the cache.
PATIENCE = timedelta(hours=2)


# What c10d's backends say when the process at the other end is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused", "Socket Timeout")


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: 0 for the main process, the only one that prints and writes.
        size: how many processes there are, on all machines.
        local_rank, local_size: the same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0


def world() -> World:
    """This process's place; a world of one outside `processes`."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
    )


@contextlib.contextmanager
def processes(device: str) -> Iterator[World]:
    """Joins the processes that torchrun started; only the main one prints from here on.

    Args:
        device: the value of `--device`.

    Raises:
        UsageError: if the device cannot be shared among them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World()
        return
    chosen = device_of_process(device, int(os.environ["LOCAL_RANK"]))
    on_gpu = chosen.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=torch.device(chosen) if on_gpu else None
    )
    with contextlib.ExitStack() as stack:
        if dist.get_rank():
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        try:
            yield world()
        except RuntimeError as error:
            if isinstance(error, ProjectError) or not _is_lost_process(error):
                raise
            raise LostProcessError(
                "a process that this one worked with is gone (killed, out of memory, or ended by an error: see above)"
            ) from error
    # Not after an error: there the others may never come to say goodbye.
    _talk.cache_clear()
    dist.destroy_process_group()


def device_of_process(device: str, local_rank: int) -> str:
    """`--device` for one of several processes of a machine: a GPU each, or the CPU.

    Raises:
        UsageError: if there are fewer GPUs than processes, or all would use the same one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: all processes would share it; with torchrun use --device cuda or auto")
    if device != "cuda":
        return device
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"--nproc_per_node: more processes than the {torch.cuda.device_count()} GPUs of this machine; "
            "start one process per GPU"
        )
    return f"cuda:{local_rank}"


def _is_lost_process(error: RuntimeError) -> bool:
    """Whether an error means that another process has died."""
    return isinstance(error, dist.DistError) or any(words in str(error) for words in _GONE)


def barrier() -> None:
    """Waits until all processes have come here."""
    if world().size > 1:
        dist.barrier()


@contextlib.contextmanager
def local_main_first() -> Iterator[None]:
    """The first process of each machine runs the block before the others do: it prepares, they find it done."""
    first = world().local_rank == 0
    if not first:
        barrier()
    try:
        yield
    finally:  # also when the block fails: the others then meet the same error by themselves
        if first:
            barrier()


def from_main(make: Callable[[], T]) -> T:
    """What `make` returns in the main process, which alone calls it; it must be picklable."""
    if world().size == 1:
        return make()
    box: list[Any] = [make() if world().is_main else None]
    dist.broadcast_object_list(box)
    return box[0]


def gather_objects(mine: T) -> list[T]:
    """Every process's object, in the order of their ranks, in all of them; they must be picklable."""
    if world().size == 1:
        return [mine]
    box: list[Any] = [None] * world().size
    dist.all_gather_object(box, mine, group=_talk())
    return box


@functools.cache
def _talk() -> dist.ProcessGroup:
    """A group of all processes that talks over the network and never waits for a GPU."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


class Agreement:
    """What to do next, agreed on by all processes without waiting: what is said at one step is answered at the next.

    All of them have to ask equally often.
    """

    def __init__(self) -> None:
        self._said: Tensor | None = None
        self._under_way: dist.Work | None = None

    def ask(self, wish: int) -> int:
        """The highest wish of all processes, in one alone its own, in several those of the last time."""
        if world().size == 1:
            return wish
        answer = self._answer()
        self._said = torch.tensor([wish])
        self._under_way = dist.all_reduce(self._said, dist.ReduceOp.MAX, group=_talk(), async_op=True)
        return answer

    def settle(self, wish: int) -> int:
        """The highest wish of all processes, of now and of the last time; waits for them."""
        return max(self.ask(wish), self._answer()) if world().size > 1 else wish

    def _answer(self) -> int:
        if self._said is None or self._under_way is None:
            return 0
        self._under_way.wait()
        answer, self._said = int(self._said), None
        return answer


def agree_on_error(check: Callable[[], None]) -> None:
    """The main process checks something; what it finds wrong all processes raise."""

    def found() -> Exception | None:
        try:
            check()
        except UsageError as error:
            return error
        return None

    error = from_main(found)
    if error is not None:
        raise error


def wrapped(model: nn.Module) -> nn.Module:
    """The model as a step calls it: gradients are averaged over the processes, starting weights are the main one's.

    Running batch-norm statistics stay apart, see `share_buffers`.
    """
    if world().size == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the main one's running batch-norm statistics.

    They have no influence on training steps; what is evaluated and saved are the main process's.
    """
    if world().size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def total(values: Tensor) -> Tensor:
    """The sum over all processes, in all of them; in place."""
    if world().size > 1:
        dist.all_reduce(values)
    return values


def gather_rows(rows: Tensor, counts: list[int]) -> Tensor:
    """Rows of all processes, in the order of their ranks, in all of them.

    Args:
        rows: [counts[rank], D] of this process, of one type everywhere.
        counts: rows of every process.

    Returns:
        [sum of counts, D].
    """
    if world().size == 1:
        return rows
    padded = rows.new_zeros(max(counts), rows.shape[1])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([block[:count] for block, count in zip(gathered, counts, strict=True)])
