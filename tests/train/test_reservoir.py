"""The memory: equal chances, a bounded size, no row twice, and the same after it was saved."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from continual import Words, ground_of
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from warmstart.errors import DataError, ModelError
from warmstart.objectives import Row
from warmstart.train.reservoir import Reservoir, check_still_fits, vocabulary_of


def row(number: int, length: int = 4) -> Row:
    return {"tokens": np.full(length, number), "documents": np.zeros(length, dtype=np.int64)}


def numbers(memory: Reservoir) -> list[int]:
    return [int(kept["tokens"][0]) for kept in memory.rows]


def filled(size: int, count: int, seed: int = 0) -> Reservoir:
    memory = Reservoir(size)
    memory.offer((row(n) for n in range(count)), np.random.default_rng(seed))
    return memory


def test_every_row_is_kept_with_the_same_chance() -> None:
    kept = np.zeros(50)
    for seed in range(2000):
        kept[numbers(filled(20, 50, seed))] += 1
    assert kept.sum() == 2000 * 20
    assert chisquare(kept).pvalue > 1e-3
    assert np.abs(kept / 2000 - 20 / 50).max() < 0.05


def test_200_of_1000() -> None:
    kept = np.zeros(1000)
    for seed in range(100):
        memory = filled(200, 1000, seed)
        assert len(memory) == len(set(numbers(memory))) == 200
        kept[numbers(memory)] += 1
    in_tens = kept.reshape(100, 10).sum(axis=1)  # places in the stream
    assert chisquare(in_tens).pvalue > 1e-3


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=40), st.integers(0, 9))
def test_never_larger_and_never_twice(size: int, stream: list[int], seed: int) -> None:
    memory = Reservoir(size)
    generator = np.random.default_rng(seed)
    for number in stream:
        memory.offer([row(number)], generator)
        assert len(memory) <= size
    assert len(set(numbers(memory))) == len(memory) == min(size, len(set(stream)))
    assert set(numbers(memory)) <= set(stream)


def test_saved_and_loaded_it_goes_on_as_if_nothing_happened() -> None:
    whole, cut = filled(5, 9), Reservoir(5)
    cut.load({name: tensor.clone() for name, tensor in whole.tensors().items()}, whole.offered)
    for memory in (whole, cut):
        memory.offer((row(n) for n in range(7, 30)), np.random.default_rng(1))
    assert numbers(whole) == numbers(cut)
    assert whole.offered == cut.offered
    assert whole.tensors()["tokens"].dtype == torch.int32
    assert Reservoir(5).tensors() == {}


def test_drawn_rows_are_the_offered_ones_and_all_come_before_one_comes_again() -> None:
    memory = filled(4, 4)
    drawn = memory.drawn(10, np.random.default_rng(0))
    assert sorted(int(found["tokens"][0]) for found in drawn[:4]) == [0, 1, 2, 3]
    assert [int(found["tokens"][0]) for found in drawn[:4]] == [int(found["tokens"][0]) for found in drawn[4:8]]
    assert drawn[0]["tokens"].dtype == np.int64
    assert set(drawn[0]) == set(row(0))


def test_rows_of_which_only_some_have_context() -> None:
    memory = Reservoir(3)
    memory.offer([row(0), row(1) | {"context": np.array([True, False, False, False])}], np.random.default_rng(0))
    again = Reservoir(3)
    again.load(memory.tensors(), memory.offered)
    assert [found["context"].tolist() for found in again.rows] == [[False] * 4, [True, False, False, False]]


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"'documents' has the shape \(4,\) in it, \(5,\) in the row offered"):
        filled(3, 2).offer([{"documents": np.zeros(5)}], np.random.default_rng(0))
    with pytest.raises(DataError, match="keeps rows of arrays; the column 'text' is str"):
        filled(3, 2).offer([{"text": "a"}], np.random.default_rng(0))


def test_a_memory_of_other_words_or_lengths() -> None:
    tokens = ground_of(torch.nn.Linear(1, 1), rows=(), tokenizer=Words("a", "b"))
    check_still_fits("x", [filled(3, 2)], vocabulary_of(Words("a", "b")), tokens)
    with pytest.raises(ModelError, match="x: remembered rows are ids of another tokenizer"):
        check_still_fits("x", [filled(3, 2)], vocabulary_of(Words("b", "a")), tokens)
    longer = dataclasses.replace(tokens, rows=lambda: iter([row(0, 8)]))
    with pytest.raises(DataError, match="x: remembered rows have 4 tokens, those of this stage 8"):
        check_still_fits("x", [Reservoir(2), filled(3, 2)], vocabulary_of(Words("a", "b")), longer)


def test_the_docstrings_loop() -> None:
    steps = [[row(2 * n), row(2 * n + 1)] for n in range(4)]
    names = run_example(Reservoir, Reservoir=Reservoir, steps=steps, generator=np.random.default_rng(0))
    assert sorted(int(found["tokens"][0]) for found in names["old"]) == list(range(8))
