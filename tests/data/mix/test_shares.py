"""Mixes of constant shares: weighted, temperature, up-sample, replay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from warmstart.data.mix import Mix, Stock
from warmstart.errors import DataError

STOCK = Stock([100, 300, 600], ["law", "web", "code"])


def shares(settings: dict[str, Any], stock: Stock = STOCK) -> np.ndarray:
    mix: Any = TypeAdapter(Mix).validate_python(settings)
    return mix.shares(stock)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"type": "weighted"}, [1 / 3, 1 / 3, 1 / 3]),
        ({"type": "weighted", "weights": {"code": 0.2, "law": 0.5, "web": 0.3}}, [0.5, 0.3, 0.2]),
        ({"type": "weighted", "weights": [1, 3, 0], "normalise": True}, [0.25, 0.75, 0]),
        ({"type": "temperature", "temperature": 1}, [0.1, 0.3, 0.6]),
        ({"type": "temperature", "temperature": 1e9}, [1 / 3, 1 / 3, 1 / 3]),
        ({"type": "up-sample", "share": {"law": 0.4}}, [0.4, 0.2, 0.4]),
        ({"type": "up-sample", "share": {"law": 0.3, "web": 0.7}}, [0.3, 0.7, 0]),
        ({"type": "replay", "old": ["web"], "rate": 0.3}, [0.1, 0.3, 0.6]),
        ({"type": "replay", "old": ["law", "web"], "rate": 0.08}, [0.02, 0.06, 0.92]),
        ({"type": "replay", "old": ["law"], "rate": 0}, [0, 1 / 3, 2 / 3]),
    ],
)
def test_shares(settings: dict[str, Any], expected: list[float]) -> None:
    assert np.allclose(shares(settings), expected, atol=1e-9)


@given(sizes=st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(sum), temperature=st.floats(0.05, 100))
def test_temperature_keeps_the_order_of_sizes(sizes: list[int], temperature: float) -> None:
    found = shares({"type": "temperature", "temperature": temperature}, Stock(sizes))
    assert found.sum() == pytest.approx(1)
    assert list(np.argsort(sizes, kind="stable")) == list(np.argsort(found, kind="stable")) or len(set(found)) < len(
        set(sizes)
    )
    assert all(share == 0 for share, size in zip(found, sizes, strict=True) if size == 0)


def test_temperature_is_a_power_of_the_sizes() -> None:
    found = shares({"type": "temperature", "temperature": 1 / 0.7})
    assert found[2] / found[0] == pytest.approx(6**0.7)


def test_what_is_drawn_is_what_was_said() -> None:
    mix = TypeAdapter(Mix).validate_python({"type": "replay", "old": ["law"], "rate": 0.05})
    counts = Counter(source for source, _ in mix.start(STOCK, seed=2).next(1000))
    assert counts == {0: 50, 1: 317, 2: 633}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"type": "weighted", "weights": {"law": 0.5, "web": 0.4}}, "add up to 0.9, not to 1"),
        ({"type": "weighted", "weights": {"law": -0.5, "web": 1.5}}, "greater than or equal to 0"),
        ({"type": "weighted", "weights": [0, 0, 0], "normalise": True}, "all weights are 0"),
        ({"type": "weighted", "weights": {"law": float("nan"), "web": 1}}, "finite"),
        ({"type": "temperature", "temperature": 0}, "greater than 0"),
        ({"type": "up-sample", "share": {"law": 0.7, "web": 0.7}}, "add up to 1.4"),
        ({"type": "replay", "old": [], "rate": 0.1}, "at least 1"),
        ({"type": "replay", "old": ["law"], "rate": 1.1}, "less than or equal to 1"),
    ],
)
def test_bad_settings_are_told_at_once(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        shares(settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"type": "weighted", "weights": {"lew": 1.0}}, r"no source 'lew' \(did you mean 'law'\?\); sources: law, web"),
        ({"type": "weighted", "weights": {"law": 0.5, "web": 0.5}}, "no weight for source 'code'; give 0"),
        ({"type": "weighted", "weights": [0.5, 0.5]}, "2 weights for 3 sources"),
        ({"type": "up-sample", "share": {"lwa": 0.5}}, "no source 'lwa'"),
        ({"type": "replay", "old": ["webb"]}, r"did you mean 'web'\?"),
        ({"type": "replay", "old": ["law", "web", "code"]}, "0.95 of the rows are to be new ones"),
    ],
)
def test_settings_that_do_not_fit_the_sources(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        shares(settings)


def test_no_rows_for_a_share() -> None:
    with pytest.raises(DataError, match="no rows to draw from"):
        shares({"type": "temperature"}, Stock([0, 0]))
    with pytest.raises(DataError, match="no other source has rows"):
        shares({"type": "up-sample", "share": {"a": 0.5}}, Stock([3, 0], ["a", "b"]))
