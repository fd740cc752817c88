"""Rows of many steps, drawn at once, so that an objective can look at them before they are trained on.

The mix is asked for all of them at the same place of the training; what it observes meanwhile counts from the next draw
on. Rows that were drawn and not yet given out are part of the state.
"""

from __future__ import annotations

from typing import Any

from warmstart.data.mix import MixState


class Ahead(MixState):
    """A mix whose rows come in draws of `rows` rows.

    Args:
        mix: where rows come from.
        rows: of a draw.
    """

    def __init__(self, mix: MixState, rows: int) -> None:
        self.mix, self._rows = mix, rows
        self._drawn: list[list[int]] = []  # never changed, only replaced: states share it
        self._place = 0

    def is_due(self, count: int) -> bool:
        """Whether fewer than `count` rows are left of what was drawn."""
        return len(self._drawn) - self._place < count

    def draw(self, progress: float = 0.0) -> list[tuple[int, int]]:
        """Draws, and says what: the rows that `next` will give, those that were left before first."""
        found = [[source, row] for source, row in self.mix.next(self._rows, progress)]
        self._drawn, self._place = self._drawn[self._place :] + found, 0
        return [(source, row) for source, row in self._drawn]

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        while self.is_due(count):
            self.draw(progress)
        self._place += count
        return [(source, row) for source, row in self._drawn[self._place - count : self._place]]

    def observe(self, values: dict[str, float]) -> None:
        self.mix.observe(values)

    def report(self) -> dict[str, float]:
        return self.mix.report()

    def state_dict(self) -> dict[str, Any]:
        return {"mix": self.mix.state_dict(), "drawn": self._drawn, "place": self._place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mix.load_state_dict(state["mix"])
        self._drawn, self._place = state["drawn"], int(state["place"])
