"""A metadata list made of what is at hand: WordNet names, frequent words, word pairs that belong together (MetaCLIP).

Words are those that the matcher sees (`metadata_matching.spacing`, cut at single spaces), so an entry that was taken
from a corpus occurs there exactly as often as it was counted. The published thresholds (words seen 100 times,
pointwise mutual information of 30 bits) fit an encyclopedia; with a smaller corpus give budgets, which take the best so
many. Order and ties are settled by sorting: the same input gives the same list on every machine.
"""

from __future__ import annotations

import itertools
import math
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from warmstart.data.curate.metadata_matching import spacing
from warmstart.errors import DataError

WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")


def words_of(text: str) -> list[str]:
    """The words that a matcher sees in a text, punctuation marks among them."""
    return [word for word in spacing(text).split(" ") if word]


def is_entry(text: str) -> bool:
    """Whether a string can be an entry: neither empty nor a single punctuation mark."""
    return bool(text) and not (len(text) == 1 and text in string.punctuation)


def wordnet_names(folder: Path | str, *, all_lemmas: bool = False) -> list[str]:
    """Names from the database files of WordNet (`data.noun`, ...), sorted, each once, spaces for underscores.

    Args:
        all_lemmas: every lemma of a synset; default: its first, which names it, as in the paper.

    Raises:
        DataError: the files are not there.
    """
    names: set[str] = set()
    for file in WORDNET_FILES:
        path = Path(folder) / file
        try:
            lines = path.read_text(encoding="latin-1").split("\n")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); a folder with {WORDNET_FILES}") from None
        for line in lines:
            if line and not line.startswith(" "):  # the licence at the top is indented
                # offset, file, kind, number of lemmas (hexadecimal), then lemma and sense number, and so on
                fields = line.split(" ")
                lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                names.update(_lemma(lemma) for lemma in (lemmas if all_lemmas else lemmas[:1]))
    return sorted(name for name in names if is_entry(name))


def _lemma(field: str) -> str:
    """`galore(ip)` carries an adjective's position."""
    return field.split("(")[0].replace("_", " ")


def unigram_counts(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words_of(text))
    return counts


def bigram_counts(texts: Iterable[str]) -> Counter[str]:
    """How often each pair of words occurs as an entry `w1 w2`, one space between them in the spaced text."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pairs_of(text))
    return counts


def pairs_of(text: str) -> Iterator[str]:
    """The pairs of words with exactly one space between them."""
    words = spacing(text)[1:-1].split(" ")
    return (f"{first} {second}" for first, second in itertools.pairwise(words) if first and second)


def frequent_words(unigrams: Counter[str], *, at_least: int = 100, most: int | None = None) -> list[str]:
    """Words by falling count (ties by spelling): those seen `at_least` times, and not more than `most`."""
    found = [(-count, word) for word, count in unigrams.items() if count >= at_least and is_entry(word)]
    return [word for _, word in sorted(found)[:most]]


def mutual_information(pair: int, first: int, second: int, total: int) -> float:
    """log2(c12 N / (c1 c2)): how much more often, in bits, than if the words had nothing to do with each other."""
    return math.log2(pair * total / (first * second))


def connected_pairs(
    bigrams: Counter[str],
    unigrams: Counter[str],
    *,
    at_least: int = 1,
    most: int | None = None,
    information: float | None = None,
) -> list[str]:
    """Pairs by falling mutual information (ties by spelling).

    Args:
        at_least: leave out rarer pairs, whose mutual information is an accident.
        most: not more than so many; the budget that replaces a threshold on a small corpus.
        information: the smallest mutual information in bits (the paper's is 30).
    """
    total = unigrams.total()
    found = []
    for pair, count in bigrams.items():
        first, second = pair.split(" ")
        if count < at_least or not (is_entry(first) and is_entry(second)):
            continue
        bits = mutual_information(count, unigrams[first], unigrams[second], total)
        if information is None or bits >= information:
            found.append((-bits, pair))
    return [pair for _, pair in sorted(found)[:most]]


def build_metadata(*groups: Iterable[str], budget: int | None = None) -> list[str]:
    """The groups one after another without repeats, empty strings and single punctuation marks, cut at the budget."""
    found: dict[str, None] = {}
    for group in groups:
        found.update((entry, None) for entry in group if is_entry(entry))
    return list(found)[:budget]


def read_metadata(path: Path | str) -> list[str]:
    """The entries of a text file, one a line; white space at the ends of a line does not count.

    Raises:
        DataError: no such file, not UTF-8, or an empty line.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").split("\n")]
    except OSError as error:
        raise DataError(f"metadata {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"metadata {path}: not valid UTF-8 (byte {error.start})") from None
    if lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line:
            raise DataError(f"metadata {path}, line {number}: an empty entry")
    return lines
