"""A random order of `n` numbers that needs no memory: any place of it is computed from (seed, place) alone.

A Feistel network permutes the numbers below a power of four; numbers at or above `n` are sent through again
until they fall below it (cycle walking), which leaves a permutation of exactly 0..n-1. So the state of an
endless shuffled stream is one integer, resume is exact at any place, and a corpus of 10^10 blocks costs as
little as one of ten.

`grain` (MapDataset.shuffle) does the same in C++. We do not use it here because this file replaces seven
further packages and half a second of import (with a warning where jax is missing), its shuffle stops at
2^32 rows, and its seed of epoch e is seed + e, so that neighbouring seeds share their orders; ours are
hashed.

Source: the construction is that of J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA
2002.
"""

from __future__ import annotations

from warmstart.randomness import derive_seed

ROUNDS = 6
MASK = (1 << 64) - 1


class Order:
    """A permutation of 0..size-1; `order[place]` is the number at that place.

    Args:
        size: how many numbers, at least 1.
        seed: orders of different seeds are unrelated.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"an order needs at least one number, not {size}")
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)  # bits per half; the domain is 4 ** half >= size
        self._keys = [derive_seed(seed, "order", number) for number in range(ROUNDS)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.size:
            raise IndexError(f"place {place} of an order of {self.size}")
        value = self._permute(place)
        while value >= self.size:  # the domain is at most 4 times the size: fewer than 4 rounds on average
            value = self._permute(value)
        return value

    def _permute(self, value: int) -> int:
        """One pass of the network: invertible whatever the round function is."""
        half, low = self._half, (1 << self._half) - 1
        left, right = value >> half, value & low
        for key in self._keys:
            left, right = right, left ^ (_scramble(right ^ key) & low)
        return (left << half) | right


def _scramble(value: int) -> int:
    """A 64-bit mixing function (multiply and xor-shift): every output bit depends on every input bit."""
    value = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93 & MASK
    value = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93 & MASK
    return value ^ (value >> 32)
