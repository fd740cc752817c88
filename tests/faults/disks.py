"""Disks that are full, files that may not grow, calls that fail."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kills import at_disk_call


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system in memory of `size` bytes at `place`; what it yields changes its size.

    The test is skipped where the machine does not let us mount one.
    """
    place.mkdir(parents=True)
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], stderr=subprocess.DEVNULL
    )
    if not mounted:
        pytest.skip("cannot mount a small file system here")
    try:
        yield lambda to: subprocess.run(["mount", "-o", f"remount,size={to}", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def files_may_not_exceed(size: int) -> Callable[[], None]:
    """Every write that would make a file larger stops half-way (EFBIG), in whichever library it happens."""

    def arm() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return arm


def call_fails(number: int, code: int) -> Callable[[], None]:
    """The n-th fsync, rename or replace of the process fails with an error of the operating system."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return at_disk_call(number, fail)
