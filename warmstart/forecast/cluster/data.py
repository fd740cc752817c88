"""Bytes and seconds of prepared tokens.

Blocks lie in plain arrays (warmstart/data/batch/blocks.py) and are mapped. Every process draws, reads and collates the
rows of the whole step, and takes its own part of them: that is why nothing depends on how many processes there are,
and it is work that does not shrink when processes are added.
"""

from __future__ import annotations

from warmstart.forecast.cluster.machine import Rates


def bytes_per_token(length: int, vocabulary: int, *, context: bool = False) -> int:
    """On the disk, and read for every token trained on: its id, its document, its place; with headers before documents
    also a mark."""
    small = 2 if length <= 2**15 - 1 else 4
    return (2 if vocabulary <= 2**16 else 4) + 2 * small + (1 if context else 0)


def collate_seconds(rows: int, length: int, rates: Rates) -> float:
    """Of each process, for the rows of the whole step; nothing else happens in the meantime."""
    return rows * length / rates.collate


def prepare_seconds(tokens: float, rates: Rates) -> float:
    """Tokenising and packing, which the first process does while the others wait."""
    return tokens / rates.tokenise
