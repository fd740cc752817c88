"""Mixes: which row comes next. The state of a mix is saved with the run and restored bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from warmstart.part import Part


class MixState:
    """A started mix."""

    def next(self, count: int) -> list[tuple[int, int]]:
        """The next `count` rows as (source number, row number inside that source)."""
        raise NotImplementedError

    def observe(self, losses: dict[str, float]) -> None:
        """Feedback after an evaluation: held-out loss by source, nats per token. Most mixes ignore it."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values only."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class Mix(Part, room="mix"):
    """The contract of a mix."""

    def start(self, sizes: Sequence[int], *, seed: int) -> MixState:
        """A mix over sources that have `sizes` rows each."""
        raise NotImplementedError
