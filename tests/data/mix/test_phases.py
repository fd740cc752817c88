"""Shares that change inside a stage."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from warmstart.data.mix import Mix, Stock
from warmstart.errors import DataError

STOCK = Stock([40, 60], ["web", "law"])


def phases(*given: dict[str, Any], **more: Any) -> Any:
    return TypeAdapter(Mix).validate_python({"type": "phases", "phases": list(given), **more})


TWO = phases(
    {"until": 0.5, "mix": {"type": "weighted", "weights": {"web": 0.9, "law": 0.1}}},
    {"mix": {"type": "up-sample", "share": {"law": 0.8}}},
)


def test_each_phase_has_its_shares_and_rows_do_not_come_again() -> None:
    state = TWO.start(STOCK, seed=1)
    first = [row for n in range(5) for row in state.next(6, n / 10)]
    second = [row for n in range(5, 10) for row in state.next(4, n / 10)]
    assert Counter(s for s, _ in first) == {0: 27, 1: 3}
    assert Counter(s for s, _ in second) == {0: 4, 1: 16}
    assert len(set(first + second)) == 50, "the second phase goes on where the first one stopped"
    assert state.report()["phase"] == 1
    assert state.report()["mix/law"] == 0.8


def test_resume_before_at_and_after_the_change() -> None:
    whole = TWO.start(STOCK, seed=1)
    rows = [whole.next(3, n / 10) for n in range(10)]
    for stop in (4, 5, 6):
        part = TWO.start(STOCK, seed=1)
        for n in range(stop):
            part.next(3, n / 10)
        state = json.loads(json.dumps(part.state_dict()))
        again = TWO.start(STOCK, seed=1)
        again.load_state_dict(state)
        assert [again.next(3, n / 10) for n in range(stop, 10)] == rows[stop:]


def test_a_bare_name_is_a_mix() -> None:
    mix = phases({"until": 0.2, "mix": "proportional"}, {"mix": "weighted"})
    assert mix.start(STOCK, seed=0).report()["mix/web"] == 0.4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"until": 0.5, "mix": "weighted"}], "last phase must end at 1, found until: 0.5"),
        ([{"until": 0.5, "mix": "weighted"}, {"until": 0.4, "mix": "weighted"}], "end after the one before"),
        ([{"mix": "curriculum"}], "a phase cannot be 'curriculum'"),
        ([{"mix": "wieghted"}], r"did you mean 'weighted'\?"),
        ([], "at least 1"),
    ],
)
def test_bad_phases(given: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        phases(*given)


def test_a_later_phase_that_does_not_fit_is_told_before_training() -> None:
    mix = phases({"until": 0.5, "mix": "weighted"}, {"mix": {"type": "replay", "old": ["wbe"]}})
    with pytest.raises(DataError, match="did you mean 'web'"):
        mix.start(STOCK, seed=1)
    mix = phases(
        {"until": 0.5, "mix": {"type": "weighted", "weights": {"web": 1, "law": 0}}}, {"mix": {"type": "weighted"}}
    )
    with pytest.raises(DataError, match="source 'law' has no rows"):
        mix.start(Stock([3, 0], ["web", "law"]), seed=1)
