"""What processes that load data have in common."""

from __future__ import annotations

import signal


def leave_stopping_to_the_parent(worker: int) -> None:
    """A DataLoader's `worker_init_fn`: signals that ask a whole group of processes to stop are the parent's affair.

    It finishes its step, for which it needs its workers, and they end with it; one that ended by itself would be
    an error in the middle of a step.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
