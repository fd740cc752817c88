"""Rows drawn ahead: the same rows in the same order, known before they come."""

from __future__ import annotations

import json

from warmstart.data.mix import Stock
from warmstart.data.mix.ahead import Ahead
from warmstart.data.mix.proportional import Proportional


def started(rows: int = 6) -> Ahead:
    return Ahead(Proportional().start(Stock([7, 5]), seed=3), rows)


def test_what_was_said_is_what_comes() -> None:
    plain, ahead = Proportional().start(Stock([7, 5]), seed=3), started()
    for _ in range(5):
        assert ahead.is_due(2)
        said = ahead.draw()
        come = [row for _ in range(3) for row in ahead.next(2)]
        assert said == come == plain.next(6)


def test_it_draws_by_itself_and_keeps_what_is_left() -> None:
    plain, ahead = Proportional().start(Stock([7, 5]), seed=3), started()
    assert [row for count in (4, 4, 9, 1) for row in ahead.next(count)] == plain.next(18)
    assert ahead.is_due(1)
    ahead.next(4)
    assert not ahead.is_due(2)
    assert ahead.is_due(3)
    assert ahead.draw()[:2] == ahead.next(2)


def test_it_goes_on_where_it_was() -> None:
    whole, cut = started(), started()
    rows = [whole.next(4) for _ in range(9)]
    found = []
    for step in range(9):
        if step in (1, 4, 5):
            saved = json.loads(json.dumps(cut.state_dict()))
            cut = started()
            cut.load_state_dict(saved)
        found.append(cut.next(4))
    assert found == rows
    before = cut.state_dict()
    ahead = cut.next(4)
    cut.load_state_dict(before)
    assert cut.next(4) == ahead
