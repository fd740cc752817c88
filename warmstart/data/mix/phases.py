"""Shares that change at given points of a stage: web text first, the best sources at the end.

All phases draw from the same shuffled orders: a row that a phase has drawn does not come back in the next one before
its source's epoch ends. A change at the *boundary* of two stages needs nothing of this: each stage has a mix of its own
(and draws anew).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.drawing import Drawing, WhenDry, in_proportion
from warmstart.data.mix.proportional import Proportional
from warmstart.data.mix.replay import Replay
from warmstart.data.mix.temperature import Temperature
from warmstart.data.mix.up_sample import UpSample
from warmstart.data.mix.weighted import Weighted
from warmstart.errors import StateError, nearest

KINDS = ("proportional", "weighted", "temperature", "up-sample", "replay")


def _by_name(value: Any) -> Any:
    """A bare name is a part without settings, as everywhere."""
    settings = {"type": value} if isinstance(value, str) else value
    if isinstance(settings, dict) and settings.get("type") not in KINDS:
        found = settings.get("type")
        raise ValueError(f"a phase cannot be '{found}'{nearest(str(found), KINDS)}; it is one of {', '.join(KINDS)}")
    return settings


PhaseMix = Annotated[
    Annotated[Proportional | Weighted | Temperature | UpSample | Replay, Field(discriminator="type")],
    BeforeValidator(_by_name),
]


class Phase(BaseModel):
    """A mix and the end of its time."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="The share of the budget at which it ends.")
    mix: PhaseMix

    def shares(self, stock: Stock) -> np.ndarray:
        if isinstance(self.mix, Proportional):
            return in_proportion(stock, range(len(stock.sizes)))
        return self.mix.shares(stock)


class Phases(Mix):
    """One mix after another inside a stage, by the share of the budget that is used."""

    type: Literal["phases"] = "phases"
    phases: Annotated[list[Phase], Field(min_length=1)] = Field(description="In order; the last one ends at 1.")
    when_dry: WhenDry = Field(
        "repeat", description="As of the other mixes; that of a phase's own mix is not looked at."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Phases:
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)):
            raise ValueError(f"each phase must end after the one before, found until: {', '.join(map(str, ends))}")
        if ends[-1] != 1:
            raise ValueError(f"the last phase must end at 1, found until: {ends[-1]:g}")
        return self

    def start(self, stock: Stock, *, seed: int) -> MixState:
        return _Phased(self, stock, seed)


class _Phased(MixState):
    def __init__(self, mix: Phases, stock: Stock, seed: int) -> None:
        self._ends = [phase.until for phase in mix.phases]
        self._shares = [phase.shares(stock) for phase in mix.phases]  # all now: errors come before training
        self._phase = 0
        self._drawing = Drawing(stock, self._shares[0], seed=seed, when_dry=mix.when_dry)
        for shares in reversed(self._shares):  # a source without rows is an error now, whichever phase wants it
            self._drawing.set_shares(shares)

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        phase = next((n for n, end in enumerate(self._ends) if progress < end), len(self._ends) - 1)
        if phase != self._phase:
            self._phase = phase
            self._drawing.set_shares(self._shares[phase])
        return self._drawing.next(count, progress)

    def report(self) -> dict[str, float]:
        return self._drawing.report() | {"phase": float(self._phase)}

    def state_dict(self) -> dict[str, Any]:
        return self._drawing.state_dict() | {"phase": self._phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        phase = state.get("phase")
        if not isinstance(phase, int) or not 0 <= phase < len(self._shares):
            raise StateError(f"mix: the saved phase must be a number below {len(self._shares)}, found {phase!r}")
        self._phase = phase
        self._drawing.set_shares(self._shares[phase])
        self._drawing.load_state_dict(state)
