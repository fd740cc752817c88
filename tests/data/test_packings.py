"""The packings `complete` and `best-fit`: what is in which block, and that nothing is lost or doubled but by policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.batch import Block, Packing, Tokens
from warmstart.data.batch.best_fit import BestFit, best_fit_decreasing
from warmstart.data.batch.complete import Complete

PADDING = 10**6
# (length, of which context) of each document
shapes = st.lists(st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, min(n, 6)))), max_size=40)


def documents_of(sizes: list[tuple[int, int]]) -> list[Tokens]:
    """Documents whose tokens are all different, so that each says where it comes from."""
    return [Tokens(np.arange(n) + 100 * number, context) for number, (n, context) in enumerate(sizes)]


def check_block(block: Block, documents: list[Tokens], length: int) -> dict[int, list[int]]:
    """Boundaries, positions and context flags are right; the pieces' places in their documents, by document."""
    assert all(len(row) == length for row in (block.tokens, block.documents, block.positions, block.context))
    real = block.documents >= 0
    assert not (np.diff(real.astype(int)) > 0).any(), "padding comes last"
    assert (block.tokens[~real] == PADDING).all()
    assert not block.context[~real].any()
    assert (block.documents[real] == block.tokens[real] // 100).all()
    places = block.tokens[real] % 100
    front = np.array([documents[number].context for number in block.documents[real]])
    assert (block.context[real] == (places < front)).all()
    found: dict[int, list[int]] = {}
    for number, place, position in zip(block.documents[real], places, block.positions[real], strict=True):
        piece = found.setdefault(int(number), [])
        assert position == len(piece), "positions count from 0 in each piece"
        piece.append(int(place))
    changes = np.flatnonzero(np.diff(block.documents[real]))
    assert len(changes) == max(len(found) - 1, 0), "each document is in one stretch"
    return found


@settings(deadline=None)
@given(sizes=shapes, length=st.integers(1, 16))
def test_complete_begins_every_block_with_a_document_and_ends_it_full(
    sizes: list[tuple[int, int]], length: int
) -> None:
    documents = documents_of(sizes)
    blocks = list(Complete().pack(iter(documents), length, PADDING))
    seen: list[int] = []
    for block in blocks:
        assert (block.documents >= 0).all(), "exactly `length` tokens"
        for number, places in check_block(block, documents, length).items():
            assert places == list(range(len(places))), "every piece begins where its document begins"
            assert len(places) == len(documents[number]) or block.documents[-1] == number, "only the last one is cut"
            seen.append(number)
    assert seen == sorted(set(seen)), "no document goes on in a later block, all are in order"
    # what is missing: documents without tokens, and those of the last, unfilled block
    last = max(seen, default=-1)
    assert set(range(last + 1)) - set(seen) == {n for n in range(last + 1) if not len(documents[n])}
    assert sum(len(document) for document in documents[last + 1 :]) < length


@settings(deadline=None)
@given(sizes=shapes, length=st.integers(1, 16), window=st.integers(1, 5))
def test_best_fit_cuts_only_what_is_longer_than_a_block(sizes: list[tuple[int, int]], length: int, window: int) -> None:
    documents = documents_of(sizes)
    blocks = list(BestFit(window=window).pack(iter(documents), length, PADDING))
    tokens: Counter[int] = Counter()
    pieces: Counter[int] = Counter()
    for block in blocks:
        assert (block.documents >= 0).any(), "no block of padding alone"
        for number, places in check_block(block, documents, length).items():
            assert places == list(range(places[0], places[0] + len(places)))
            assert places[0] % length == 0
            pieces[number] += 1
        tokens.update(block.tokens[block.documents >= 0].tolist())
    assert tokens == Counter(int(token) for document in documents for token in document.ids), "every token once"
    assert all(pieces[number] == -(-len(document) // length) for number, document in enumerate(documents))


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 20), max_size=60))
def test_best_fit_decreasing_never_overfills_and_wastes_little(lengths: list[int]) -> None:
    bins = best_fit_decreasing(lengths, 20)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    assert all(0 <= sum(lengths[item] for item in items) <= 20 for items in bins)
    sums = [sum(lengths[item] for item in items) for items in bins]
    # A bin was opened for an item that fitted into none before it: no two bins' items go into one.
    assert all(first + second > 20 for first, second in combinations(sums, 2))


def test_best_fit_takes_the_bin_with_the_least_room() -> None:
    # 7 and 6 open two bins with room 3 and 4; 3 fits both and must take the room of 3, so that 4 still fits
    assert best_fit_decreasing([6, 7, 3, 4], 10) == [[0, 3], [1, 2]]
    assert best_fit_decreasing([5, 5, 5], 10) == [[0, 1], [2]]
    assert best_fit_decreasing([], 10) == []


def test_padding_is_little_where_documents_are_short_and_windows_long() -> None:
    draw = np.random.default_rng(0)
    documents = [Tokens(np.arange(n)) for n in draw.geometric(1 / 50, size=6000)]
    share = {}
    for window in (4, 256):
        blocks = list(BestFit(window=window).pack(iter(documents), 128, 0))
        share[window] = sum(int((block.documents < 0).sum()) for block in blocks) / (128 * len(blocks))
    assert share[256] < 0.005
    assert share[4] > 2 * share[256]  # what a short window costs


@pytest.mark.parametrize("packing", [Complete(), BestFit(window=2)])
def test_packings_are_lazy(packing: Packing) -> None:
    read = 0

    def endless() -> Iterator[Tokens]:
        nonlocal read
        while True:
            read += 1
            yield Tokens(np.arange(5))

    blocks = packing.pack(endless(), 8, padding=0)
    first = next(blocks)
    assert first.positions[:5].tolist() == [0, 1, 2, 3, 4]
    assert read < 10
