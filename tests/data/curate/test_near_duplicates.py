"""Near-duplicates: similarity as MinHash estimates it, clusters, and the part."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.curate.near_duplicates import (
    NearDuplicates,
    band_hashes,
    later_copies,
    ngram_hashes,
    signatures,
)
from warmstart.data.curate.row_numbers import flags

pytest.importorskip("rensa")


def words(generator: random.Random, count: int) -> list[str]:
    return ["".join(generator.choices("abcdefghij", k=5)) for _ in range(count)]


def near_copy(text: list[str], generator: random.Random, changes: int) -> list[str]:
    copy = list(text)
    for place in generator.sample(range(len(copy)), changes):
        copy[place] = f"new{place}"
    return copy


def jaccard(one: str, two: str, ngram: int) -> float:
    def grams(text: str) -> set[tuple[str, ...]]:
        split = text.split()
        return set(zip(*(split[place:] for place in range(ngram)), strict=False))

    return len(grams(one) & grams(two)) / len(grams(one) | grams(two))


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=6), st.integers(1, 4))
def test_ngrams_of_each_text_are_those_of_the_text_alone(texts: list[str], ngram: int) -> None:
    grams, starts = ngram_hashes(texts, ngram, "words")
    for number, text in enumerate(texts):
        alone, _ = ngram_hashes([text], ngram, "words")
        assert grams[starts[number] : starts[number + 1]].tolist() == alone.tolist()
        count = len(text.split())
        assert len(alone) == max(1, count - ngram + 1)
        split = text.split()
        distinct = {tuple(split[place : place + ngram]) for place in range(max(1, count - ngram + 1))}
        assert len(set(alone.tolist())) == len(distinct)


def test_case_and_punctuation_do_not_count_but_words_do() -> None:
    grams, starts = ngram_hashes(["One, two; THREE!", "one two three", "two one three"], 2, "words")
    one, two, three = (grams[starts[n] : starts[n + 1]].tolist() for n in range(3))
    assert one == two != three
    assert ngram_hashes(["???"], 2, "words")[0].tolist() != ngram_hashes(["!!!"], 2, "words")[0].tolist()


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_signatures_estimate_jaccard(unit: str) -> None:
    generator = random.Random(0)
    text = words(generator, 200)
    for changes in (2, 10, 30):
        pair = [" ".join(text), " ".join(near_copy(text, generator, changes))]
        one, two = signatures(pair, ngram=3, unit=unit, hashes=4096)
        if unit == "words":
            assert abs((one == two).mean() - jaccard(*pair, ngram=3)) < 0.04
        else:
            grams, starts = ngram_hashes(pair, 3, unit)
            sets = set(grams[: starts[1]].tolist()), set(grams[starts[1] :].tolist())
            assert abs((one == two).mean() - len(sets[0] & sets[1]) / len(sets[0] | sets[1])) < 0.04


def test_a_band_is_equal_exactly_where_all_its_rows_are() -> None:
    generator = np.random.default_rng(0)
    signature = generator.integers(0, 3, (400, 4), dtype=np.uint32)
    bands = band_hashes(signature, 2)
    for number in range(2):
        rows = signature[:, 2 * number : 2 * number + 2]
        equal_rows = (rows[:, None] == rows[None]).all(axis=2)
        assert ((bands[:, None, number] == bands[None, :, number]) == equal_rows).all()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_clusters_are_those_of_a_written_out_union(pairs: list[tuple[int, int]]) -> None:
    bands = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
    cluster = list(range(len(pairs)))
    for _ in pairs:  # the smallest number spreads along every shared band until nothing changes
        for one in range(len(pairs)):
            for two in range(len(pairs)):
                if any(a == b for a, b in zip(pairs[one], pairs[two], strict=True)):
                    cluster[one] = cluster[two] = min(cluster[one], cluster[two])
    assert later_copies(bands).tolist() == [number for number, first in enumerate(cluster) if number != first]


def test_a_threshold_refuses_what_only_shares_a_band() -> None:
    signature = np.arange(30, dtype=np.uint32).reshape(3, 10)
    signature[1, :9] = signature[0, :9]
    signature[2, :2] = signature[0, :2]
    bands = band_hashes(signature, 5)
    assert later_copies(bands).tolist() == [1, 2]
    assert later_copies(bands, signature, 0.8).tolist() == [1]
    assert later_copies(bands, signature, 0.95).tolist() == []


def planted(count: int, copies: int, changes: int) -> tuple[list[str], list[bool]]:
    """Texts of 150 words and, after them, near-copies of the first of them."""
    generator = random.Random(3)
    texts = [words(generator, 150) for _ in range(count)]
    near = [near_copy(texts[n], generator, changes) for n in range(copies)]
    return [" ".join(text) for text in texts + near], [False] * count + [True] * copies


def run(step: NearDuplicates, texts: list[str], borders: list[int]) -> list[int]:
    rows: dict[str, list[Any]] = {"text": texts, "row": list(range(0, 2 * len(texts), 2))}
    cuts = [0, *sorted(borders), len(texts)]
    batches = [{key: values[a:b] for key, values in rows.items()} for a, b in pairwise(cuts)]
    fitted = step.fit(iter([step.measure(batch) for batch in batches]))
    return [row for batch in batches for row in step.apply(batch, fitted)["row"]]


def test_planted_copies_are_found_and_nothing_else() -> None:
    texts, copied = planted(60, 30, changes=2)
    assert run(NearDuplicates(), texts, []) == [2 * n for n in range(90) if not copied[n]]
    assert run(NearDuplicates(threshold=0.7), texts, []) == [2 * n for n in range(90) if not copied[n]]
    assert len(run(NearDuplicates(threshold=0.99), texts, [])) == 90


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 24), max_size=6))
def test_batches_change_nothing(borders: list[int]) -> None:
    texts, _ = planted(15, 9, changes=9)
    step = NearDuplicates(bands=20, rows_per_band=4)
    assert run(step, texts, borders) == run(step, texts, [])


def test_no_rows_at_all() -> None:
    step = NearDuplicates()
    assert step.fit(iter([])).tolist() == []
    assert flags([3], np.zeros(0, dtype=np.int64)) == [False]
    assert signatures([]).shape == (0, 112)


@given(st.sets(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_flags_say_what_is_among(among: set[int], rows: list[int]) -> None:
    assert flags(rows, np.array(sorted(among), dtype=np.int64)) == [row in among for row in rows]
