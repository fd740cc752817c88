"""Drop near-identical texts (a changed date, a missing footer): MinHash, locality-sensitive hashing, clusters.

A text is the set of its n-grams of words (or characters). Of `bands x rows_per_band` random hash functions each gives
its smallest value over that set; two texts agree in one such value with probability J, their Jaccard similarity. Texts
that agree in all values of at least one band are taken for copies, which happens with probability
`1 - (1 - J^rows_per_band)^bands`: 0.05 at J = 0.5, 0.56 at 0.7, 0.92 at 0.8, 0.9996 at 0.9 with the defaults, which are
those of FineWeb (14 bands of 8, 5-grams of words). Copies of copies are one cluster; its first row stays.

The trade-off: hashing every word once and all n-grams by arithmetic is fast, but an n-gram is known by 64 bits only
(false agreements are far rarer than MinHash's own noise). Memory of `fit`: 8 bytes x bands for each row (112 MB per
million rows), twice that while one band is sorted; 4 bytes x bands x rows_per_band more where `threshold` is set.

Broder, "On the resemblance and containment of documents" (1997). Signatures are rensa's, written in Rust.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import xxhash
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from warmstart.data.curate import Curation
from warmstart.data.curate.row_numbers import flags
from warmstart.data.steps import Columns, column, kept, size
from warmstart.errors import UserError

WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of an earlier word is lost


def ngram_hashes(texts: list[str], ngram: int, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the n-grams of each text, case and punctuation ignored.

    A text with fewer than `ngram` words has one n-gram: all of it.

    Args:
        unit: `words` or `characters`.

    Returns:
        uint64 `(all n-grams,)`, and int64 `(texts + 1,)` where those of each text begin.
    """
    numbers: dict[str, int] = {"": 0}
    hashes: list[int] = [0]  # of each different word, by its number; that of "" fills up short texts
    found: list[int] = []
    starts = [0]
    for text in texts:
        words: list[str] = WORD.findall(text.casefold()) or text.split()
        pieces = words if unit == "words" else list(" ".join(words))
        for piece in set(pieces).difference(numbers):
            numbers[piece] = len(hashes)
            hashes.append(xxhash.xxh3_64_intdigest(piece.encode()))
        found += map(numbers.__getitem__, pieces)
        found += [0] * (ngram - len(pieces))
        starts.append(len(found))
    units, ends = np.array(hashes, dtype=np.uint64)[np.array(found, dtype=np.int64)], np.array(starts)
    if len(units) < ngram:
        return units[:0], np.zeros(len(texts) + 1, dtype=np.int64)
    count = len(units) - ngram + 1
    grams = units[:count].copy()
    for place in range(1, ngram):
        grams = grams * MULTIPLIER + units[place : place + count]
    grams ^= grams >> np.uint64(31)
    inside = np.ones(count, dtype=bool)  # n-grams that would begin in one text and end in the next are none
    for place in range(1, ngram):
        crossing = ends[1:-1] - place
        inside[crossing[crossing < count]] = False
    return grams[inside], ends - np.arange(len(ends)) * (ngram - 1)


def signatures(
    texts: list[str], *, ngram: int = 5, unit: str = "words", hashes: int = 112, seed: int = 1
) -> np.ndarray:
    """MinHash signatures, uint32 `(texts, hashes)`: two texts agree in a place with probability J.

    Raises:
        UserError: rensa is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError:
        raise UserError("near-duplicates needs rensa: pip install 'warmstart[data]'") from None
    grams, starts = ngram_hashes(texts, ngram, unit)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams, starts, num_perm=hashes, seed=seed)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), hashes)


def band_hashes(signature: np.ndarray, bands: int) -> np.ndarray:
    """One number per band: uint32 `(texts, bands x rows)` -> uint64 `(texts, bands)`."""
    parts = signature.reshape(len(signature), bands, signature.shape[1] // bands).astype(np.uint64)
    result = np.zeros(parts.shape[:2], dtype=np.uint64)
    for place in range(parts.shape[2]):
        result = (result ^ parts[:, :, place]) * MULTIPLIER
        result ^= result >> np.uint64(29)
    return result


def later_copies(bands: np.ndarray, signature: np.ndarray | None = None, threshold: float = 0.0) -> np.ndarray:
    """Which texts repeat an earlier one, directly or by a chain of copies; ascending.

    Args:
        bands: uint64 `(texts, bands)`, in the order of reading.
        signature: uint32 `(texts, hashes)`; with it, texts of equal bands are copies only where a share of `threshold`
            of their signatures agrees with the band's first text, or with the one just before.
    """
    count = len(bands)
    edges: list[np.ndarray] = []
    for band in bands.T:
        order = np.argsort(band, kind="stable")  # equal bands stay in the order of reading
        ordered = band[order]
        begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        lengths = np.diff(np.concatenate([begins, [count]]))
        first = order[np.repeat(begins, lengths)]
        before = np.concatenate([order[:1], order[:-1]])
        repeats = np.flatnonzero(first != order)
        for other in [first] if signature is None else [first, before]:
            pairs = np.stack([other[repeats], order[repeats]])
            edges.append(pairs if signature is None else pairs[:, _agreement(signature, pairs) >= threshold])
    if not count:
        return np.zeros(0, dtype=np.int64)
    one, two = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, two)), shape=(count, count))
    _, cluster = connected_components(graph, directed=False)
    _, firsts = np.unique(cluster, return_index=True)
    repeated = np.ones(count, dtype=bool)
    repeated[firsts] = False
    return np.flatnonzero(repeated)


def _agreement(signature: np.ndarray, pairs: np.ndarray, block: int = 65536) -> np.ndarray:
    """The share of equal places of each pair, `(pairs,)`."""
    found = [
        (signature[pairs[0, start : start + block]] == signature[pairs[1, start : start + block]]).mean(axis=1)
        for start in range(0, pairs.shape[1], block)
    ]
    return np.concatenate(found) if found else np.zeros(0)


class NearDuplicates(Curation):
    """Keeps the first of each cluster of near-identical texts, in the order of reading."""

    type: Literal["near-duplicates"] = "near-duplicates"
    fits: ClassVar[bool] = True
    unit: Literal["words", "characters"] = Field("words", description="`characters` for text without spaces.")
    ngram: int = Field(5, ge=1, description="Words (or characters) per n-gram; about 20 for characters.")
    bands: int = Field(14, ge=1, description="More bands find less similar copies.")
    rows_per_band: int = Field(8, ge=1, description="More rows per band find only more similar copies.")
    threshold: float | None = Field(
        None, gt=0, le=1, description="Copies must have this similarity too, as estimated from whole signatures."
    )
    seed: int = Field(1, ge=0, lt=2**63, description="Chooses the hash functions.")

    def measure(self, columns: Columns) -> Columns:
        hashes = self.bands * self.rows_per_band
        found = signatures(column(columns, "text"), ngram=self.ngram, unit=self.unit, hashes=hashes, seed=self.seed)
        result: Columns = {"row": columns["row"], "bands": [row.tobytes() for row in band_hashes(found, self.bands)]}
        if self.threshold is not None:
            result["signature"] = [row.tobytes() for row in found]
        return result

    def fit(self, measured: Iterator[Columns]) -> np.ndarray:
        """The numbers of the rows that repeat an earlier one, ascending."""
        rows, bands, whole = [np.zeros(0, dtype=np.int64)], [], []
        for columns in measured:
            rows.append(np.array(columns["row"], dtype=np.int64))
            bands.append(b"".join(columns["bands"]))
            whole.append(b"".join(columns.get("signature", [])))
        numbers = np.concatenate(rows)
        matrix = np.frombuffer(b"".join(bands), dtype=np.uint64).reshape(len(numbers), self.bands)
        signature = None
        if self.threshold is not None:
            signature = np.frombuffer(b"".join(whole), dtype=np.uint32).reshape(len(numbers), -1)
        return numbers[later_copies(matrix, signature, self.threshold or 0.0)]

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        if not size(columns):
            return columns
        return kept(columns, [not flag for flag in flags(columns["row"], fitted)])
