"""Balancing: probabilities, the closed form, the draw, the thresholds."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.metadata_balance import (
    balance,
    count,
    entropy,
    entry_probabilities,
    expected,
    gini,
    keep_probability,
    report,
    shape,
    tail_share,
    threshold_for_share,
    uniform,
)
from warmstart.errors import DataError

counts_of = st.lists(st.integers(0, 10**6), min_size=1, max_size=40).map(np.array)
some_counts = counts_of.filter(lambda counts: counts.sum() > 0)
thresholds = st.integers(1, 10**6)


def pool(rows: int = 600, entries: int = 30, seed: int = 0) -> list[tuple[str, list[int]]]:
    """Rows with up to three entries whose counts fall steeply; some rows have none."""
    drawn = random.Random(seed)
    weights = [1 / (n + 1) ** 1.5 for n in range(entries)]
    return [
        (f"r{row}", sorted(set(drawn.choices(range(entries), weights, k=drawn.randrange(4))))) for row in range(rows)
    ]


@given(counts_of, thresholds)
def test_probabilities(counts: np.ndarray, threshold: int) -> None:
    before = counts.copy()
    p = entry_probabilities(counts, threshold)
    assert (p[counts <= threshold] == 1).all()
    heads = counts > threshold
    np.testing.assert_allclose(p[heads] * counts[heads], threshold, rtol=1e-12)
    assert ((p > 0) & (p <= 1)).all()
    np.testing.assert_array_equal(counts, before)


def test_an_infinite_threshold_keeps_everything() -> None:
    assert (entry_probabilities(np.array([0, 5, 10**9]), math.inf) == 1).all()


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=30))
def test_counts_rows_per_entry(ids: list[list[int]]) -> None:
    counts = count(ids, 10)
    assert counts.tolist() == [sum(entry in row for row in ids) for entry in range(10)]


def test_counts_in_portions_as_at_once() -> None:
    ids = [[row % 7, 7 + row % 2] for row in range(50_000)]  # more than one portion
    assert count(iter(ids), 9).sum() == 100_000
    assert count(iter(ids), 9)[7] == 25_000


@given(st.lists(st.floats(1e-9, 1.0), max_size=6))
def test_keep_probability_is_the_closed_form(p: list[float]) -> None:
    ids = list(range(len(p)))
    assert keep_probability(ids, p) == pytest.approx(1 - math.prod(1 - value for value in p), rel=1e-6, abs=1e-15)
    assert 0 <= keep_probability(ids, p) <= 1


def test_tiny_probabilities_stay_exact() -> None:
    assert keep_probability([0], [1e-17]) == pytest.approx(1e-17, rel=1e-12)  # 1 - (1 - p) would be 0


def test_tails_always_stay_and_rows_without_a_match_never_do() -> None:
    rows = pool()
    counts = count((ids for _, ids in rows), 30)
    p = entry_probabilities(counts, 10)
    assert (counts > 10).any()
    assert ((counts > 0) & (counts <= 10)).any()
    for seed in range(50):
        for (_, ids), kept in zip(rows, balance(rows, p, seed=seed), strict=True):
            if any(counts[entry] <= 10 for entry in ids):
                assert kept
            if not ids:
                assert not kept


def test_a_threshold_above_all_counts_keeps_all_that_match() -> None:
    rows = pool()
    counts = count((ids for _, ids in rows), 30)
    for threshold in (int(counts.max()), math.inf):
        kept = list(balance(rows, entry_probabilities(counts, threshold), seed=1))
        assert kept == [bool(ids) for _, ids in rows]


def test_a_head_keeps_about_the_threshold() -> None:
    """One entry per row: Binomial(c, t/c) rows are kept; the mean of 200 seeds lies within 3 standard errors of t."""
    c, t = 400, 60
    p = entry_probabilities(np.array([c]), t)
    sizes = [sum(balance(((f"{row}", [0]) for row in range(c)), p, seed=seed)) for seed in range(200)]
    error = math.sqrt(c * (t / c) * (1 - t / c) / 200)
    assert abs(np.mean(sizes) - t) < 3 * error
    assert np.var(sizes) == pytest.approx(t * (1 - t / c), rel=0.4)  # 200 seeds: about 4 standard errors of a variance


def test_the_draw_keeps_each_row_with_its_probability() -> None:
    """Also against the walk over the entries, one draw each, that the closed form replaces."""
    p = entry_probabilities(np.array([200, 50, 20, 5]), 10)
    draws = 3000
    generator = np.random.default_rng(0)
    for ids in ([0], [1], [2], [0, 1], [0, 1, 2], [0, 3]):
        keep = keep_probability(ids, p)
        error = 3 * math.sqrt(keep * (1 - keep) / draws) + 1e-12
        hashed = sum(next(balance([("a row", ids)], p, seed=5, epoch=epoch)) for epoch in range(draws)) / draws
        assert abs(hashed - keep) <= error
        walked = (generator.random((draws, len(ids))) < p[ids]).any(axis=1).mean()
        assert abs(walked - keep) <= error


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_shards_and_order_do_not_matter(random_: random.Random, shards: int) -> None:
    rows = pool(60)
    p = entry_probabilities(count((ids for _, ids in rows), 30), 3)
    whole = {row for (row, _), kept in zip(rows, balance(rows, p, seed=3, epoch=1), strict=True) if kept}
    mixed = list(rows)
    random_.shuffle(mixed)
    parts = [mixed[shard::shards] for shard in range(shards)]
    apart = {r for part in parts for (r, _), kept in zip(part, balance(part, p, seed=3, epoch=1), strict=True) if kept}
    assert apart == whole


def test_another_epoch_or_seed_is_another_draw() -> None:
    rows = pool()
    p = entry_probabilities(count((ids for _, ids in rows), 30), 5)
    draws = [tuple(balance(rows, p, seed=seed, epoch=epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 10))]
    assert len(set(draws)) == 4
    assert draws[0] == tuple(balance(rows, p, seed=0, epoch=0))
    assert uniform(1, 2, "3") != uniform(12, 3, "")  # the three are kept apart


def test_the_numbers_of_the_draw_are_uniform() -> None:
    drawn = np.array([uniform(0, 0, str(row)) for row in range(4000)])
    assert ((drawn >= 0) & (drawn < 1)).all()
    tenths = np.bincount((drawn * 10).astype(int), minlength=10)
    assert ((tenths - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, 0.1 %


@given(some_counts, thresholds)
def test_threshold_and_share_are_opposites(counts: np.ndarray, threshold: int) -> None:
    """Within one sorted step, which is one distinct count with all entries that have it."""
    share = tail_share(counts, threshold)
    again = threshold_for_share(counts, share)
    step = max(counts[counts == value].sum() for value in counts) / counts.sum()
    assert again >= 1
    assert abs(tail_share(counts, again) - share) <= step + 1e-12


def test_threshold_of_a_share_by_hand() -> None:
    counts = np.array([1, 90, 0, 3, 6])  # cumulated, sorted: 0, 1, 4, 10, 100
    before = counts.copy()
    assert [threshold_for_share(counts, share) for share in (0.0, 0.01, 0.05, 0.1, 1.0)] == [1, 1, 3, 6, 90]
    assert tail_share(counts, 6) == 0.04
    assert tail_share(counts, 7) == 0.10
    np.testing.assert_array_equal(counts, before)


def test_what_an_expected_histogram_is() -> None:
    ids = [ids for _, ids in pool()]
    counts = count(ids, 30)
    p = entry_probabilities(counts, 10)
    size, after = expected(ids, p)
    assert size == pytest.approx(sum(keep_probability(row, p) for row in ids))
    assert (after <= counts + 1e-9).all()
    tail = (counts > 0) & (counts <= 10)
    np.testing.assert_allclose(after[tail], counts[tail])
    assert (after[counts > 10] >= 10 - 1e-9).all()  # not "at most t": others bring heads along


def test_shape_by_hand() -> None:
    assert shape(np.array([0, 1, 1, 2])) == {
        "entries": 4,
        "zero": 1,
        "matches": 4.0,
        "entropy": 1.5,
        "gini": pytest.approx(0.375),
        "max_over_median": 2.0,
    }
    assert entropy(np.full(8, 5)) == 3.0
    assert gini(np.full(8, 5)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)
    assert entropy(np.zeros(3)) == gini(np.zeros(3)) == 0


def test_balancing_flattens_the_histogram() -> None:
    ids = [ids for _, ids in pool(2000)]
    facts = report(count(ids, 30), 20, ids)
    assert facts["after"]["entropy"] > facts["before"]["entropy"]
    assert facts["after"]["gini"] < facts["before"]["gini"]
    assert facts["after"]["max_over_median"] < facts["before"]["max_over_median"]
    assert facts["expected_size"] < sum(bool(row) for row in ids)
    assert facts["head"] == (count(ids, 30) > 20).sum()
    assert set(report(count(ids, 30), 20)) == {"threshold", "head", "head_share", "before"}


@pytest.mark.parametrize("threshold", [0, 0.5, -1, math.nan])
def test_thresholds_below_one_are_refused(threshold: float) -> None:
    for call in (entry_probabilities, tail_share, report):
        with pytest.raises(DataError, match="threshold must be 1 or more"):
            call(np.array([1, 2]), threshold)


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="no metadata entry 3"):
        count([[0, 3]], 3)
    with pytest.raises(DataError, match="no metadata entry -1"):
        count([[-1]], 3)
    for wrong in (2, -1):  # counts and probabilities of another metadata list
        with pytest.raises(DataError, match=f"no metadata entry {wrong}"):
            keep_probability([wrong], np.ones(2))
    with pytest.raises(DataError, match="nothing to balance"):
        threshold_for_share(np.zeros(3, np.int64), 0.1)
    with pytest.raises(DataError, match="from 0 to 1"):
        threshold_for_share(np.array([1, 2]), 1.5)
