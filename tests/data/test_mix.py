"""The shuffled order and the proportional mix."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.mix import Stock
from warmstart.data.mix.order import Order
from warmstart.data.mix.proportional import Proportional
from warmstart.errors import DataError, StateError


@given(size=st.integers(1, 600), seed=st.integers(0, 2**63 - 1))
def test_order_is_a_permutation(size: int, seed: int) -> None:
    order = Order(size, seed)
    assert sorted(order[place] for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [4, 64, 65, 1024, 1025, 4096])
def test_order_at_the_edges_of_its_domain(size: int) -> None:
    assert sorted(Order(size, 5)[place] for place in range(size)) == list(range(size))


def test_order_of_a_huge_corpus_is_computed_place_by_place() -> None:
    order = Order(10**13, seed=1)
    assert len({order[place] for place in range(1000)}) == 1000
    assert order[10**13 - 1] < 10**13
    with pytest.raises(IndexError):
        order[10**13]


def test_order_looks_random() -> None:
    """Neighbours do not stay neighbours, halves mix, every number comes first equally often (chi-square)."""
    found = np.array([Order(2000, 3)[place] for place in range(2000)])
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.1
    assert abs((found[:1000] < 1000).mean() - 0.5) < 0.06
    firsts = Counter(Order(10, seed)[0] for seed in range(2000))
    assert sum((firsts[number] - 200) ** 2 / 200 for number in range(10)) < 30  # 9 degrees of freedom


def test_every_block_once_an_epoch_in_a_new_order() -> None:
    mix = Proportional().start(Stock([5, 0, 7]), seed=3)
    first, second = mix.next(12), mix.next(12)
    every = [(0, row) for row in range(5)] + [(2, row) for row in range(7)]
    assert sorted(first) == sorted(second) == every
    assert first != second
    assert Proportional().start(Stock([5, 0, 7]), seed=3).next(12) == first
    assert Proportional().start(Stock([5, 0, 7]), seed=4).next(12) != first


@given(before=st.integers(0, 40), step=st.integers(1, 9))
def test_resume_at_any_place(before: int, step: int) -> None:
    whole = Proportional().start(Stock([5, 7]), seed=3)
    for _ in range(before):
        whole.next(step)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = Proportional().start(Stock([5, 7]), seed=3)
    resumed.next(3)  # whatever it did before does not matter
    resumed.load_state_dict(state)
    assert [resumed.next(4) for _ in range(6)] == [whole.next(4) for _ in range(6)]
    assert resumed.state_dict() == whole.state_dict()


def test_bad_mixes() -> None:
    with pytest.raises(DataError, match="no rows"):
        Proportional().start(Stock([0, 0]), seed=1)
    with pytest.raises(StateError, match="whole number"):
        Proportional().start(Stock([3]), seed=1).load_state_dict({"place": "3"})
