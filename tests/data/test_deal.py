"""Dealing texts to ranks: a permutation, sorted, balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.batch.deal import descending, snake, stride

both = pytest.mark.parametrize("deal", [stride, snake])


@st.composite
def steps(draw):
    ranks, each = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return ranks, draw(st.lists(st.integers(1, 512), min_size=ranks * each, max_size=ranks * each))


@both
@given(steps())
def test_a_deal_is_a_permutation_of_equal_sorted_hands(deal, step):
    ranks, lengths = step
    hands = deal(lengths, ranks)
    assert sorted(text for hand in hands for text in hand) == list(range(len(lengths)))
    assert {len(hand) for hand in hands} == {len(lengths) // ranks}
    for hand in hands:
        of_hand = [lengths[text] for text in hand]
        assert of_hand == sorted(of_hand, reverse=True)


@both
@given(st.lists(st.integers(1, 512), min_size=1, max_size=20))
def test_one_rank_only_sorts(deal, lengths):
    assert deal(lengths, 1) == [descending(lengths)]
    assert [lengths[text] for text in descending(lengths)] == sorted(lengths, reverse=True)


@both
@given(steps())
def test_ranks_differ_by_at_most_the_longest_less_the_shortest(deal, step):
    ranks, lengths = step
    tokens = [sum(lengths[text] for text in hand) for hand in deal(lengths, ranks)]
    assert max(tokens) - min(tokens) <= max(lengths) - min(lengths)
    mean_length = sum(lengths) / len(lengths)
    each = len(lengths) // ranks
    assert max(tokens) / (sum(tokens) / ranks) <= 1 + max(lengths) / (mean_length * each) + 1e-9


def test_the_stride_deals_in_one_direction_and_the_snake_back_and_forth():
    lengths = [1, 2, 3, 4, 5, 6]
    assert stride(lengths, 2) == [[5, 3, 1], [4, 2, 0]]
    assert snake(lengths, 2) == [[5, 2, 1], [4, 3, 0]]


def test_equal_lengths_stay_in_their_order():
    assert descending([2, 5, 2, 5]) == [1, 3, 0, 2]


@both
def test_uneven_deals_are_errors(deal):
    with pytest.raises(ValueError, match="7 texts cannot be dealt evenly to 2"):
        deal([1] * 7, 2)


def test_balance_of_eight_ranks_with_real_proportions():
    """8 ranks x 56 texts, log-normal lengths up to 512 with mean 233: the largest rank's tokens over the mean."""
    draw = np.random.default_rng(0)
    found = {"none": [], "stride": [], "snake": [], "stride squared": []}
    for _ in range(50):
        lengths = np.clip(draw.lognormal(np.log(210), 0.7, 8 * 56), 10, 512).astype(int).tolist()
        squares = [length**2 for length in lengths]
        plain = [list(range(rank * 56, rank * 56 + 56)) for rank in range(8)]
        deals = {"none": plain, "stride": stride(lengths, 8), "snake": snake(lengths, 8)}
        for name, hands in deals.items():
            found[name].append(_largest(hands, lengths))
        found["stride squared"].append(_largest(deals["stride"], squares))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert 1.07 < means["none"] < 1.15
    assert 1.008 < means["stride"] < 1.025
    assert means["snake"] < 1.003
    assert 1.015 < means["stride squared"] < 1.04


def _largest(hands: list[list[int]], cost: list[int]) -> float:
    sums = [sum(cost[text] for text in hand) for hand in hands]
    return max(sums) / (sum(sums) / len(sums))
