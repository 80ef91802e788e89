"""How the C library hands memory to a CPU's tensors.

By default glibc gives every block above some 32 MiB back to the system when it is freed, and takes new pages for the
next one: each step of a training then spends its time on page faults, and on zeroing memory that it overwrites.
Keeping the blocks makes a step of ResNet18 on 224 x 224 frames 15 % faster (benchmarks/throughput.py).
"""

from __future__ import annotations

import ctypes
import platform

# mallopt(3), malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
INT_MAX = 2**31 - 1


def keep_freed_memory() -> bool:
    """From now on, freed blocks stay with this process, up to 2 GiB beyond its highest block in use.

    To be called before the work: blocks that are in use already are given back as ever.

    Returns:
        Whether the C library took it; False where it is not glibc (macOS, Windows, musl): nothing changes there.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1
