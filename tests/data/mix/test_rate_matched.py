"""The old mixture with its web text replaced: what the stability-gap card says must hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from warmstart.data.mix import Mix, Stock
from warmstart.data.mix.rate_matched import apportioned, rate_matched_mixture
from warmstart.errors import DataError

LLAMA = {
    "cc": 0.67,
    "c4": 0.15,
    "github": 0.045,
    "wikipedia": 0.045,
    "books": 0.045,
    "arxiv": 0.025,
    "stackexchange": 0.02,
}
NAMES = ["medicine", "github", "wikipedia", "books", "arxiv", "stackexchange", "cc"]
STOCK = Stock([1000, 400, 30, 500, 600, 700, 900], NAMES)


def mix(**more: Any) -> Any:
    settings = {"type": "rate-matched", "rates": LLAMA, "replace": ["cc", "c4"], "by": "medicine", **more}
    return TypeAdapter(Mix).validate_python(settings)


def test_the_domain_takes_the_share_of_what_it_replaces() -> None:
    shares = rate_matched_mixture(LLAMA, ["cc", "c4"], "medicine")
    assert shares["medicine"] == pytest.approx(0.82)
    assert set(shares) == set(NAMES) - {"cc"}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("refresh", ["fixed", "per-epoch"])
def test_an_epoch_keeps_the_rates(refresh: str) -> None:
    rows = mix(refresh=refresh).start(STOCK, seed=1).next(1000)
    counts = Counter(NAMES[source] for source, _ in rows)
    assert counts["medicine"] == 820
    assert counts["cc"] == 0, "no row of a replaced source is left, although the source is there"
    for name in set(NAMES) - {"medicine", "cc"}:
        assert abs(counts[name] / 1000 - LLAMA[name]) < 0.001


def test_fixed_epochs_are_the_same_rows_in_another_order() -> None:
    state = mix(refresh="fixed").start(STOCK, seed=1)
    first, second = state.next(1000), state.next(1000)
    assert Counter(first) == Counter(second)
    assert first != second


def test_each_epoch_draws_its_own_rows_of_the_domain_and_the_same_replay() -> None:
    state = mix(refresh="per-epoch").start(STOCK, seed=1)
    first, second, third = (Counter(state.next(1000)) for _ in range(3))

    def split(epoch: Counter[tuple[int, int]]) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
        domain = Counter({row: n for row, n in epoch.items() if row[0] == 0})
        return domain, epoch - domain

    assert split(first)[1] == split(second)[1] == split(third)[1]
    assert split(first)[0] != split(second)[0]
    unseen = {(0, row) for row in range(1000)} - set(split(first)[0])
    assert len(unseen) == 180
    assert unseen <= set(split(second)[0]), "what the first epoch left out comes first"
    times = Counter(split(first)[0] + split(second)[0] + split(third)[0])
    assert max(times.values()) - min(times.values()) <= 1


def test_a_small_source_is_repeated_evenly() -> None:
    counts = Counter(row for row in mix().start(STOCK, seed=1).next(1000) if row[0] == 2)  # 45 draws of 30 rows
    assert set(counts.values()) == {1, 2}
    assert len(counts) == 30


def test_epochs_have_the_size_that_was_asked_for() -> None:
    state = mix(epoch=200).start(STOCK, seed=1)
    assert Counter(s for s, _ in state.next(200)) == {0: 164, 1: 9, 2: 9, 3: 9, 4: 5, 5: 4}
    assert state.report()["epochs"] == 1
    assert state.report()["mix/medicine"] == pytest.approx(0.82)


@given(parts=st.lists(st.integers(0, 30), min_size=1, max_size=7).filter(sum), total=st.integers(0, 200))
def test_apportioning_loses_nothing(parts: list[int], total: int) -> None:
    shares = [part / sum(parts) for part in parts]
    counts = apportioned(shares, total)
    assert sum(counts) == total
    assert all(abs(count - share * total) < 1 for count, share in zip(counts, shares, strict=True))


def test_bad_rates() -> None:
    with pytest.raises(ValidationError, match=r"add up to 0\.5, not to 1"):
        TypeAdapter(Mix).validate_python({"type": "rate-matched", "rates": {"cc": 0.5}, "by": "medicine"})
    with pytest.raises(ValidationError, match=r"no rate of 'c44' \(did you mean 'c4'\?\)"):
        mix(replace=["c44"])
    with pytest.raises(DataError, match=r"no source 'medicin'.*did you mean 'medicine'"):
        mix(by="medicin").start(STOCK, seed=1)
    with pytest.raises(DataError, match="no source 'github'"):
        mix().start(Stock([5], ["medicine"]), seed=1)
    with pytest.raises(DataError, match="source 'arxiv' has no rows"):
        mix().start(Stock([1000, 1, 1, 1, 0, 1, 1], NAMES), seed=1)
