"""Keeping the memory of one training step for the next, on a CPU under glibc.

By default glibc maps every large tensor anew and gives it back to the system when it is freed, so a step pays a page
fault for each 4 KiB of its activations, thousands of them, again and again. A GPU's allocator caches; this makes the
CPU's do the same.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 2**30
USERS_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """From now on, freed blocks of less than 1 GiB stay with this process; True where that could be set.

    Nothing happens on other C libraries, nor where the user has set malloc's environment variables or tunables. The
    price: the process keeps its peak of memory until it ends.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in USERS_CHOICES):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST) and libc.mallopt(M_TRIM_THRESHOLD, LARGEST))
