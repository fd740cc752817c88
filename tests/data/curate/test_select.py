"""Budgets: prefixes in the order of the score, no document twice, no more than one document over."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.curate.select import Select, shares, take, take_divided
from warmstart.errors import DataError

stock = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=30)
orders = st.sampled_from(["highest", "lowest", "middle", "random"])


def arrays(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, sizes, groups = np.array(rows).T
    return scores.astype(float), sizes.astype(float), groups


@given(stock, st.floats(0.01, 1), orders)
def test_a_budget_is_reached_by_its_last_document(rows: list[tuple[int, int, int]], share: float, order: Any) -> None:
    scores, sizes, _ = arrays(rows)
    budget = share * sizes.sum()
    taken = take(scores, sizes, budget, order)
    assert len(set(taken)) == len(taken) > 0
    total = sizes[taken].sum()
    assert total - sizes[taken[-1]] < budget * (1 + 1e-9)
    assert total > budget * (1 - 1e-9)
    if order == "lowest":
        assert (np.diff(scores[taken]) >= 0).all()
        assert scores[taken].tolist() == sorted(scores)[: len(taken)]
    if order == "highest":
        assert scores[taken].tolist() == sorted(scores, reverse=True)[: len(taken)]
    if order == "middle":  # what is left out on either side differs by no more than two documents
        places = np.argsort(scores, kind="stable")
        inside = np.flatnonzero(np.isin(places, taken))
        assert inside.tolist() == list(range(inside[0], inside[-1] + 1))
        low, high = sizes[places[: inside[0]]].sum(), sizes[places[inside[-1] + 1 :]].sum()
        assert abs(low - high) <= 2 * sizes.max()


@given(stock, st.floats(0.01, 1), orders, st.sampled_from(["proportional", "equal"]))
def test_a_divided_budget_gives_each_group_a_prefix_of_its_part(
    rows: list[tuple[int, int, int]], share: float, order: Any, division: Any
) -> None:
    scores, sizes, groups = arrays(rows)
    budget = share * sizes.sum()
    taken = take_divided(scores, sizes, budget, groups, order, division)
    assert len(set(taken)) == len(taken)
    total = sizes[taken].sum()
    assert budget * (1 - 1e-9) < total < budget * (1 + 1e-9) + sizes.max()
    names, place = np.unique(groups, return_inverse=True)
    parts = shares(np.bincount(place, weights=sizes), budget, division)
    for name, part in zip(names, parts, strict=True):
        inside = np.flatnonzero(groups == name)
        own = [number for number in taken if groups[number] == name]
        everything = inside[take(scores[inside], sizes[inside], sizes[inside].sum(), order)]
        if order != "middle":
            assert own == everything[: len(own)].tolist()
        assert abs(sizes[own].sum() - part) <= 2 * sizes.max()


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8), st.floats(0.01, 1), st.sampled_from(["proportional", "equal"])
)
def test_shares_add_up_and_stay_inside(totals: list[int], share: float, division: Any) -> None:
    amounts = np.array(totals, dtype=float)
    found = shares(amounts, share * amounts.sum(), division)
    assert found.sum() == pytest.approx(share * amounts.sum())
    assert (found <= amounts * (1 + 1e-9)).all()
    if division == "equal":  # nobody who has more to give gives less than another
        open_ = found < amounts * (1 - 1e-9)
        assert not open_.any() or found[open_].min() >= found.max() * (1 - 1e-9)


def test_a_budget_larger_than_the_corpus_is_refused() -> None:
    with pytest.raises(DataError, match="budget of 7 is more than the 6"):
        take(np.zeros(2), np.array([3.0, 3.0]), 7)
    step = Select.model_validate({"budget": {"documents": 9}})
    with pytest.raises(DataError, match=r"select: the budget of 9 is more than the 5 that there are \(9 documents"):
        step.fit(iter([step.measure(ROWS)]))


ROWS: dict[str, Any] = {
    "text": ["aaaa", "b", "ccc ccc", "dd", "é" * 4],
    "score": [0.5, 0.1, 0.9, 0.3, 0.2],
    "source": ["x", "x", "y", "y", "y"],
    "id": list("12345"),
    "row": [3, 5, 6, 8, 9],
}


def chosen(settings: dict[str, Any], rows: dict[str, Any] = ROWS, borders: list[int] | None = None) -> list[int]:
    step = Select.model_validate(settings)
    cuts = [0, *sorted(borders or []), len(rows["text"])]
    batches = [{key: values[a:b] for key, values in rows.items()} for a, b in pairwise(cuts)]
    fitted = step.fit(iter([step.measure(batch) for batch in batches]))
    return [row for batch in batches for row in step.apply(batch, fitted)["row"]]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"budget": {"documents": 2}}, [3, 6]),
        ({"budget": {"documents": 2}, "order": "lowest"}, [5, 9]),
        ({"budget": {"documents": 1}, "order": "middle"}, [8]),
        ({"budget": {"characters": 8}}, [3, 6]),
        ({"budget": {"characters": 7}}, [6]),
        ({"budget": {"share": 0.5}, "order": "lowest"}, [3, 5, 8, 9]),
        ({"budget": {"tokens": 2}, "order": "lowest"}, [5, 9]),
        ({"budget": {"documents": 2}, "per": "source", "division": "equal"}, [3, 6]),
        ({"budget": {"documents": 4}, "per": "source", "division": "equal"}, [3, 5, 6, 8]),
        ({"budget": {"documents": 2}, "by": "row"}, [8, 9]),
        ({"budget": {"share": 1}, "order": "random"}, [3, 5, 6, 8, 9]),
    ],
)
def test_what_is_kept(settings: dict[str, Any], rows: list[int]) -> None:
    assert chosen(settings) == rows


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), orders, st.sampled_from([None, "source"]), st.integers(1, 5))
def test_batches_change_nothing(borders: list[int], order: Any, per: str | None, count: int) -> None:
    part = {"budget": {"documents": count}, "order": order, "per": per}
    found = chosen(part, borders=borders)
    assert found == chosen(part) == sorted(found)
    assert len(found) == count


def test_random_is_another_choice_for_another_seed_and_needs_no_score() -> None:
    rows = {"text": ["a"] * 50, "row": list(range(50)), "source": ["s"] * 50, "id": [str(n) for n in range(50)]}
    one, two = (chosen({"budget": {"documents": 25}, "order": "random", "seed": seed}, rows) for seed in (0, 1))
    assert one != two
    assert len(one) == len(two) == 25


def test_rows_without_a_score_are_told() -> None:
    step = Select.model_validate({"budget": {"documents": 1}})
    with pytest.raises(DataError, match="no row has a number in the column 'score'"):
        step.fit(iter([step.measure({**ROWS, "score": [None] * 5})]))
    some = {**ROWS, "score": [0.5, None, 0.9, "high", float("nan")]}
    fitted = step.fit(iter([step.measure(some)]))
    assert fitted.tolist() == [6]
    with pytest.raises(DataError, match="column 'score' must hold a number, no value"):
        step.apply(some, fitted)
    with pytest.raises(DataError, match="no row has a value in the column 'genre'"):
        chosen({"budget": {"documents": 1}, "per": "genre"})
    with pytest.raises(ValueError, match="exactly one of documents, characters, tokens, share"):
        Select.model_validate({"budget": {"documents": 1, "share": 0.5}})
