"""Flatten the head of an entry distribution: no entry is expected to bring in more than t rows by itself (MetaCLIP).

`c[e]` rows hold entry `e`. Each of them may be kept on its account with probability `p[e] = t / max(c[e], t)`: always
for the tail (c <= t), rarely for a head. A row stays if one of its entries keeps it, so P(keep) = 1 - prod(1 - p[e])
over its entries; a row with a tail entry always stays, a row without entries never does. It is *not* "at most t per
entry": a head rides along with the other entries of its rows.

Whether a row stays is decided by one number in [0, 1) that is a hash of (seed, epoch, row id) alone. So the subset does
not depend on shards, order or a resume, and a loader may draw anew each epoch (`keeps` with another epoch; the on-line
variant, one look-up per text). The price of any such draw: the size of the subset is random, about +-sqrt(size).

For another domain or language carry over the *share of matches that are tail*, not t. In the paper's pool t = 20,000
leaves 6 %: that is the default here.

Source: "Demystifying CLIP Data", arXiv 2309.16671, section 3.3 and algorithm 1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from warmstart.errors import DataError

Counts = np.ndarray
"""(entries,) integers: how many rows hold each entry."""
DEFAULT_TAIL_SHARE = 0.06


def count(ids: Iterable[Sequence[int]], entries: int) -> Counts:
    """In how many rows each entry is.

    Args:
        ids: for each row the ids of its entries, each once.
        entries: how many entries there are.

    Raises:
        DataError: an id outside [0, entries).
    """
    counts = np.zeros(entries, np.int64)
    waiting: list[int] = []
    for row in ids:
        waiting.extend(row)
        if len(waiting) > 2**16:
            _add(counts, waiting)
            waiting = []
    _add(counts, waiting)
    return counts


def _add(counts: Counts, ids: list[int]) -> None:
    if not ids:
        return
    found = np.asarray(ids, np.int64)
    if found.min() < 0 or found.max() >= len(counts):
        wrong = int(found.min() if found.min() < 0 else found.max())
        raise DataError(f"there is no metadata entry {wrong}: ids go from 0 to {len(counts) - 1}")
    counts += np.bincount(found, minlength=len(counts))


def entry_probabilities(counts: Counts, threshold: float) -> np.ndarray:
    """`t / max(c, t)` for each entry, in (0, 1], in a new array. `threshold` may be infinite: all ones.

    Raises:
        DataError: the threshold is below 1.
    """
    _check_threshold(threshold)
    if math.isinf(threshold):
        return np.ones(len(counts))
    return threshold / np.maximum(counts, threshold)


def keep_probability(ids: Sequence[int], probabilities: np.ndarray | Sequence[float]) -> float:
    """P(keep) of a row with these entries: 1 - prod(1 - p), exact where the p are tiny.

    Raises:
        DataError: an id outside the probabilities.
    """
    for number in ids:
        if not 0 <= number < len(probabilities):
            raise DataError(f"there is no metadata entry {number}: ids go from 0 to {len(probabilities) - 1}")
    return either([float(probabilities[number]) for number in ids])


def either(probabilities: Sequence[float]) -> float:
    """The probability that at least one of independent events happens; 0 where there is none."""
    if any(p >= 1.0 for p in probabilities):
        return 1.0
    return -math.expm1(math.fsum(math.log1p(-p) for p in probabilities)) if probabilities else 0.0


def uniform(seed: int, epoch: int, row: str) -> float:
    """A number in [0, 1) for a row, the same wherever and whenever it is asked for."""
    text = f"{seed}\x1f{epoch}\x1f{row}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8, person=b"warmstart-keep").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def keeps(probability: float, seed: int, epoch: int, row: str) -> bool:
    """Whether a row stays that stays with this probability."""
    return uniform(seed, epoch, row) < probability


def balance(
    rows: Iterable[tuple[str, Sequence[int]]], probabilities: np.ndarray, *, seed: int, epoch: int = 0
) -> Iterator[bool]:
    """For each row (its id, the ids of its entries) whether it stays; inside of a loader with the epoch's number."""
    for row, ids in rows:
        yield keeps(keep_probability(ids, probabilities), seed, epoch, row)


def tail_share(counts: Counts, threshold: float) -> float:
    """The share of all matches that belong to entries with less than `threshold` matches.

    Raises:
        DataError: the threshold is below 1, or nothing matched.
    """
    _check_threshold(threshold)
    return float(counts[counts < threshold].sum() / _matches(counts))


def threshold_for_share(counts: Counts, share: float) -> float:
    """The threshold under which about this share of all matches lies: the count at which the cumulated sum of the
    sorted counts comes closest to it (at least 1). The opposite of `tail_share`, up to one distinct count.

    Raises:
        DataError: the share is not in [0, 1], or nothing matched.
    """
    if not 0 <= share <= 1:
        raise DataError(f"the tail share must be from 0 to 1, found {share}")
    ascending = np.sort(counts)
    distance = np.abs(np.cumsum(ascending) / _matches(counts) - share)
    return float(max(1, ascending[int(np.argmin(distance))]))


def _matches(counts: Counts) -> int:
    total = int(counts.sum())
    if not total:
        raise DataError("no row matches any entry of the metadata: there is nothing to balance")
    return total


def _check_threshold(threshold: float) -> None:
    if not threshold >= 1:
        raise DataError(f"the balancing threshold must be 1 or more, found {threshold}")


def expected(ids: Iterable[Sequence[int]], probabilities: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected number of rows after balancing, and (entries,) the expected number of rows of each entry."""
    counts = np.zeros(len(probabilities))
    size = 0.0
    for row in ids:
        keep = keep_probability(row, probabilities)
        size += keep
        counts[list(row)] += keep
    return size, counts


def entropy(counts: np.ndarray) -> float:
    """Of the entry histogram, in bits; 0 where nothing matched."""
    total = counts.sum()
    shares = counts[counts > 0] / total if total else np.ones(1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def gini(counts: np.ndarray) -> float:
    """Inequality of the counts of all entries, zeros included: 0 where all are equal, near 1 where one has all."""
    ascending = np.sort(np.asarray(counts, np.float64))
    total, n = ascending.sum(), len(ascending)
    if not total:
        return 0.0
    return float(2 * (np.arange(1, n + 1) * ascending).sum() / (n * total) - (n + 1) / n)


def shape(counts: np.ndarray) -> dict[str, float]:
    """An entry histogram in a few numbers: `entries`, `zero` (entries without a match), `matches`, `entropy` (bits),
    `gini` (over all entries), `max_over_median` (the median of the entries that match)."""
    found = counts[counts > 0]
    return {
        "entries": len(counts),
        "zero": len(counts) - len(found),
        "matches": float(counts.sum()),
        "entropy": entropy(counts),
        "gini": gini(counts),
        "max_over_median": float(found.max() / np.median(found)) if len(found) else 0.0,
    }


def report(counts: Counts, threshold: float, ids: Iterable[Sequence[int]] | None = None) -> dict[str, Any]:
    """What balancing at a threshold does to a pool; `counts` are the data card of the pool.

    Args:
        ids: the entries of each row; where given, `after` is the expected histogram and `expected_size` the expected
            number of rows.

    Returns:
        `threshold`, `head` (entries above the threshold), `head_share` (of all matches), `before` (see `shape`), and
        with `ids` also `after` and `expected_size`.
    """
    _check_threshold(threshold)
    heads = counts > threshold
    facts: dict[str, Any] = {
        "threshold": threshold,
        "head": int(heads.sum()),
        "head_share": float(counts[heads].sum() / max(int(counts.sum()), 1)),
        "before": shape(counts),
    }
    if ids is not None:
        size, after = expected(ids, entry_probabilities(counts, threshold))
        facts |= {"expected_size": size, "after": shape(after)}
    return facts
