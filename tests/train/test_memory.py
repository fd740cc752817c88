"""Freed memory stays with the process: a second step of the same size takes no page faults."""

import platform
import resource
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from warmstart.train.memory import keep_freed_memory
print(keep_freed_memory())
for step in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(4 * 2**20) for _ in range(8)]  # 16 MiB each
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def steps(**environment: str) -> tuple[str, int]:
    run = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    kept, faults = run.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is tuned")
def test_memory_is_kept_unless_the_user_has_chosen_otherwise():
    pages = 8 * 16 * 2**20 // resource.getpagesize()
    kept, faults = steps()
    assert kept == "True"
    assert faults < pages / 100
    kept, faults = steps(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert kept == "False"
    assert faults > pages / 2
