"""The machine: its cores, its memory, and how freed memory is kept for the next tensors."""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import multiprocessing
import os
import platform
import shutil
import signal
import threading
from pathlib import Path

# mallopt(3), malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
INT_MAX = 2**31 - 1


def keep_freed_memory() -> bool:
    """From now on, freed memory stays with this process, up to 2 GiB beyond the highest block in use.

    By default glibc returns every block above some 32 MiB to the system when it is freed, and the next one costs page
    faults and zeroing: without that, a step of ResNet18 on 224 x 224 frames is 15 % faster
    (benchmarks/throughput.py). It has no effect on blocks that are already in use.

    Returns:
        Whether it had an effect; False if the C library is not glibc (macOS, Windows, musl).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1


def free_memory() -> int:
    """Bytes of memory that are free, file cache included; all that the machine or the container has if none says."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(OSError, IndexError):  # not Linux
        sizes.append(1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]))
    return min(sizes)


def free_shared_memory() -> int:
    """Free bytes of /dev/shm, through which processes pass tensors; Docker gives a container 64 MiB by default."""
    return shutil.disk_usage("/dev/shm").free


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_the_user() -> None:
    """Names the user `uid54321` if the user id has no name, for example under `docker run --user 54321`.

    Call it before torch is imported: the import asks for the name, and fails without one.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # depends on the system and the Python version
        os.environ["LOGNAME"] = f"uid{os.getuid()}" if hasattr(os, "getuid") else "user"


def as_worker() -> None:
    """To be called first in a worker process: it leaves Ctrl+C to its parent, and ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
