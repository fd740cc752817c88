"""Mixes: which row comes next. The state of a mix is saved with the run and restored bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.part import Part

if TYPE_CHECKING:
    from warmstart.train.trial import Trials


@dataclass(frozen=True)
class Stock:
    """What there is to draw from.

    Attributes:
        sizes: rows (blocks) of each source.
        names: what recipes and metrics call each source.
        scores: one number per row of each source, or `None` for a source whose documents have no score.
    """

    sizes: Sequence[int]
    names: Sequence[str] = ()
    scores: Sequence[np.ndarray | None] = ()


class MixState:
    """A started mix."""

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        """The next `count` rows as (source number, row number inside that source).

        Args:
            progress: the share of the stage's budget that is used, 0 to 1; what curricula go by.
        """
        raise NotImplementedError

    def observe(self, values: dict[str, float]) -> None:
        """Feedback after an evaluation: all its values; `validation/<source>/loss` is a source's held-out loss, nats
        per token. Most mixes ignore it."""

    def report(self) -> dict[str, float]:
        """Numbers for the log, e.g. the present share of each source (`mix/<source>`) or epochs over it."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """JSON values only."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class Mix(Part, room="mix"):
    """The contract of a mix."""

    def settle(self, trials: Trials) -> Mix:
        """The mix with numbers in the place of settings that must be measured first (a graph of skills, say).

        Called once before the stage trains, and its answer is kept with the run: a resumed run does not measure
        again. What the trials cost counts in the stage's budget.

        Args:
            trials: `trials.run(steps=..., mix=...)` trains from the stage's starting weights for a few steps, throws
                the result away and tells the evaluation before and after.

        Raises:
            DataError: the settings do not fit the sources.
        """
        return self

    def start(self, stock: Stock, *, seed: int) -> MixState:
        """A mix over the rows of some sources.

        Raises:
            DataError: the settings do not fit the sources (a name that is none of them, nothing to draw from).
        """
        raise NotImplementedError
