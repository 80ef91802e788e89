"""Freed memory stays with the process, where the C library can do that."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Writes 64 MiB a dozen times and prints how many new pages that took after the first time.
PROGRAM = """
import resource, sys
import numpy as np
from Code.common.device import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    np.empty(64 << 20, np.uint8).fill(1)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no such setting")
def test_blocks_are_used_again_without_new_pages() -> None:
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, mode], cwd=ROOT, capture_output=True, check=True).stdout)
        for mode in ("keep", "default")
    )
    assert kept < 0.1 * usual
