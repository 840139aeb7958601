"""Keeping freed blocks; in a process of its own, because it cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from elephas_fast import _core

FAULTS = """
import resource
import numpy as np
from elephas_fast import _core

def faults(size):
    for _ in range(3):
        np.empty(size, np.uint8)[::4096] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(size, np.uint8)[::4096] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

size = 40_000_000  # more than malloc keeps of itself
fresh = faults(size)
kept = _core.keep_blocks(size, 2 * size, one_arena=True)
print(kept, fresh, faults(size))
"""


def test_a_kept_block_has_no_fresh_pages() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=60, check=True)
    kept, fresh, again = done.stdout.split()
    if kept == "False":
        pytest.skip("this allocator has no such setting")
    assert int(again) < int(fresh) / 2, f"{fresh} page faults before, {again} after"


def test_a_size_is_a_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="size: expected bytes >= 1, got 0"):
        _core.keep_blocks(0, 1)
    with pytest.raises(ValueError, match="total: expected bytes >= size = 2, got 1"):
        _core.keep_blocks(2, 1)
