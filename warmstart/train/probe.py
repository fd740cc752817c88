"""`learning_rate: probe`: a peak learning rate for these weights on these data, by measurement.

Everybody who continues a model asks which rate to use, and is told a number that suited another model. The probe
trains from the stage's starting weights for a few steps at one rate after the other, each time with a short warm-up and
a decay to 0, and asks how well the result predicts the rows that would come next (training rows that no trial has
trained on: the held-out side is not looked at). It starts at `start`, walks by factors of 4 in the direction that gets
better, and then looks at the two neighbours half-way: five to seven trials. All trials see the same rows, so that even
small differences between them mean something. A trial that diverges counts as infinitely bad.

Of rates whose losses differ by less than `tie` it takes the highest: in whole runs half the best rate cost two to three
times as much as twice the best rate, because the decay repairs what a high rate breaks (docs/log.md).

The price: `share` of the stage's budget, which the stage pays; more where the budget is so small (below some 2,300
steps) that trials would be shorter than `min_steps`. The limit: a short trial answers for a short run. It cannot see
what happens thousands of steps later; docs/log.md says how far it was off where that could be checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from warmstart.errors import UserError
from warmstart.train.schedules.shapes import Linear

if TYPE_CHECKING:
    from warmstart.train.trial import Trials

COARSE = 4.0
FINE = 2.0


@dataclass(frozen=True)
class Found:
    """What a probe chose.

    Attributes:
        learning_rate: the rate that was chosen.
        losses: the loss of each rate that was tried (inf: it diverged), in the order of the rates.
        steps: steps of each trial.
    """

    learning_rate: float
    losses: dict[float, float]
    steps: int

    @property
    def reason(self) -> str:
        """One line, e.g. `6 trials of 12 steps ended at 0.0005: 4.0123, 0.001: 3.9512, 0.002: 4.2031`."""
        rates = list(self.losses)
        place = rates.index(self.learning_rate)
        shown = ", ".join(f"{rate:.3g}: {self.losses[rate]:.4f}" for rate in rates[max(0, place - 1) : place + 2])
        return f"{len(rates)} trials of {self.steps} steps ended at {shown}"


def choose(losses: dict[float, float], tie: float) -> float:
    """The highest of the rates whose loss is at most `tie` above the lowest."""
    lowest = min(losses.values())
    return max(rate for rate, loss in losses.items() if loss <= lowest + tie)


def search(loss_at: Callable[[float], float], start: float, low: float, high: float) -> dict[float, float]:
    """Losses around the best rate: walks from `start` by factors of 4 while it gets better, then looks half-way.

    Args:
        loss_at: the loss of a rate; anything that is not finite counts as infinite.
        low, high: the walk does not leave this range.

    Returns:
        The loss of every rate that was tried, in the order of the rates.
    """
    losses: dict[float, float] = {}

    def look(rate: float) -> float:
        if not low <= rate <= high:
            return math.inf
        if rate not in losses:
            loss = loss_at(rate)
            losses[rate] = loss if math.isfinite(loss) else math.inf
        return losses[rate]

    def best() -> float:
        return min(losses, key=lambda rate: (losses[rate], rate))

    look(start)
    centre = start
    while (
        math.isinf(losses[centre]) and centre / COARSE >= low
    ):  # even the first rate diverges: down to where none does
        centre /= COARSE
        look(centre)
    while True:
        # below first: it cannot diverge, and where it is better already nothing above needs to be tried
        if look(centre / COARSE) >= losses[centre]:
            look(centre * COARSE)
        if best() == centre:
            break
        centre = best()
    centre = best()
    look(centre / FINE)
    look(centre * FINE)
    return dict(sorted(losses.items()))


class Probe(BaseModel):
    """Pick the peak learning rate by short trials from the stage's starting weights, on its own data."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["probe"] = "probe"
    share: Annotated[float, Field(gt=0, lt=1, description="The share of the stage's budget that trials may use.")] = (
        0.05
    )
    start: Annotated[float, Field(gt=0, description="The first rate that is tried.")] = 1e-3
    low: Annotated[float, Field(gt=0, description="The lowest rate that is tried.")] = 1e-6
    high: Annotated[float, Field(gt=0, description="The highest rate that is tried.")] = 1e-1
    tie: Annotated[
        float, Field(ge=0, description="Losses that differ by less, in nats per target, are not told apart.")
    ] = 0.02
    min_steps: Annotated[int, Field(ge=4, description="No trial is shorter than this, whatever the share.")] = 16

    def measure(self, trials: Trials) -> Found:
        """Runs the trials.

        Raises:
            UserError: every rate diverges.
        """
        total = trials.steps_of_budget()
        expected = 6.5  # trials, of which each costs its steps and an eighth for looking ahead
        steps = max(self.min_steps, int(self.share * total / (expected * 1.125)) if total else 0)

        def loss_at(rate: float) -> float:
            trial = trials.run(
                steps=steps,
                learning_rate=rate,
                schedule=Linear(warmup=0.2, floor=0.0),
                evaluate=False,
                ahead=max(2, steps * 3 // 8),  # three forward passes cost one step: an eighth of the steps
            )
            return math.inf if trial.diverged else trial.ahead

        losses = search(loss_at, self.start, self.low, self.high)
        if not any(math.isfinite(loss) for loss in losses.values()):
            raise UserError(
                f"train.learning_rate: the probe diverged at every rate from {min(losses):g} on; lower 'low'"
            )
        return Found(choose(losses, self.tie), losses, steps)

    def facts(self, found: Found) -> dict[str, Any]:
        """For `settled.json`: JSON values."""
        finite = {f"{rate:.6g}": loss if math.isfinite(loss) else None for rate, loss in found.losses.items()}
        return {"reason": found.reason, "steps": found.steps, "losses": finite}
