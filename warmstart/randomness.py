"""All randomness is a pure function of (seed, purpose, ...): nothing depends on what was drawn before.

That is what makes a resumed run bit-identical without saving generators: step 731 of stage 1 draws the same masks
whether or not the process was killed at step 730.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for a purpose, e.g. `derive_seed(recipe_seed, "stage", 0, "step", 12, "collate")`."""
    text = "\x1f".join([str(seed), *(str(p) for p in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for a purpose."""
    return np.random.Generator(np.random.Philox(derive_seed(seed, *purpose)))


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU torch generator for a purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's random state at a seed, and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
