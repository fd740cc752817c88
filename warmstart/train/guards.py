"""Guards: what becomes of a step whose loss or gradient is not a number, or far from what it was.

A bad batch, a broken row or a rate that is a little too high can ruin in one step what took days. A guard looks at each
step's loss and at the norm of its gradient *before* the optimizer takes it:

    stop        end the run; weights, moments and the last saved state are untouched
    skip        pass the batch over: weights, moments and all that parts remember stay as they were
    roll-back   go back to the weights and moments of the last regular saved state; the data go on, so that the rows
                since that state, and the bad ones with them, are not trained on again
    clip        (a large gradient) scale it down to what is still ordinary

What was computed counts, whatever becomes of it: a step that is passed over is a step of the budget, with its tokens
and FLOPs, and the schedule and all random draws go on with it. So no step number ever comes twice, every run ends, and
a run that is killed anywhere makes the same decisions when it is resumed: they follow from what is in the saved state.

The price: to know before the update what the loss is, the processor waits for the accelerator at every step. The
default, `nan: stop` alone, does not wait: there the first bad step is noted on the device, and looked at before
anything is logged, evaluated or saved. On a CPU nothing is waited for.

Sources: going back about 100 steps and passing over 200 to 500 batches around a spike is what PaLM did by hand
(arXiv 2204.02311, section 5.1); skipping a step whose loss or gradient norm is several standard deviations above the
running mean is common in open pre-training since.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from warmstart.errors import UserError

Window = Annotated[int, Field(ge=8, description="Steps that are looked back on; silent until half of them are there.")]


class Spike(BaseModel):
    """A loss far above the last ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    deviations: Annotated[
        float, Field(gt=0, description="A loss is a spike where it is so many standard deviations above the mean.")
    ] = 6.0
    window: Window = 128
    then: Literal["skip", "roll-back"] = "skip"


class LargeGradient(BaseModel):
    """A gradient whose norm is far above the last ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    times: Annotated[
        float, Field(gt=1, description="A gradient is too large where its norm is so many times the median.")
    ] = 10.0
    window: Window = 128
    then: Literal["skip", "clip"] = Field("skip", description="clip: scale it to `times` the median.")


class Guard(BaseModel):
    """What becomes of a step whose loss or gradient is not a number, or far from what it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    nan: Literal["stop", "skip", "roll-back"] = Field(
        "stop", description="What to do where the loss or the gradient is not a finite number."
    )
    spike: Spike | None = Field(None, description="What to do where the loss jumps up; default: nothing.")
    gradient: LargeGradient | None = Field(None, description="What to do where the gradient does; default: nothing.")
    in_a_row: Annotated[int, Field(gt=0)] = Field(
        10, description="So many steps in a row may be passed over, or roll-backs to one state be made; then it stops."
    )
    pass_over: Annotated[int, Field(ge=0)] = Field(
        0, description="Batches that are left out after a roll-back, beside those since the saved state."
    )

    @property
    def watches(self) -> bool:
        """Whether anything but stopping may come of it."""
        return self.nan != "stop" or self.spike is not None or self.gradient is not None

    @property
    def rolls_back(self) -> bool:
        return self.nan == "roll-back" or (self.spike is not None and self.spike.then == "roll-back")


def loss_limit(losses: Sequence[float], deviations: float) -> float:
    """The largest loss that is no spike: so many standard deviations above the mean of earlier losses.

    Example:
        In one's own loop::

            if len(losses) >= 64 and loss > loss_limit(losses[-128:], 6):
                continue  # without optimizer.step()
    """
    mean = statistics.fmean(losses)
    return mean + deviations * math.sqrt(statistics.fmean((loss - mean) ** 2 for loss in losses))


def norm_limit(norms: Sequence[float], times: float) -> float:
    """The largest gradient norm that is still ordinary: so many times the median of earlier ones."""
    return times * statistics.median(norms)


Action = Literal["take", "clip", "skip", "roll-back", "stop"]
CAREFUL: tuple[Action, ...] = ("take", "clip", "skip", "roll-back", "stop")
"""From the least careful to the most."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a step, and why.

    Attributes:
        scale: what the gradient is to be multiplied with before it is taken.
    """

    action: Action
    why: str = ""
    scale: float = 1.0

    @property
    def taken(self) -> bool:
        return self.action in ("take", "clip")


TAKE = Verdict("take")


class Watch:
    """A guard at work: what it has seen, and how often it had to act.

    Args:
        lazily: only note a number that is not finite, on the device, and stop when `check` looks.
        agree: the largest of a number over all processes: they must all do the same.

    Attributes:
        counts: steps passed over, steps with a gradient that was scaled down, roll-backs.
        anchor: the step of the saved state that a roll-back goes to.
    """

    def __init__(self, guard: Guard, *, lazily: bool = False, agree: Callable[[float], float] = float) -> None:
        self.guard, self._lazily, self._agree = guard, lazily and not guard.watches, agree
        self.losses = deque[float](maxlen=guard.spike.window if guard.spike else 0)
        self.norms = deque[float](maxlen=guard.gradient.window if guard.gradient else 0)
        self.counts = {"skipped": 0, "clipped": 0, "rolled_back": 0}
        self.in_a_row = self._roll_backs_here = 0
        self.anchor: int | None = None
        self.last = TAKE
        self._noted: torch.Tensor | None = None

    def judge(self, step: int, loss: torch.Tensor, norm: torch.Tensor, largest: float | None = None) -> Verdict:
        """What becomes of step `step` (from 1), whose gradient has this norm before it is scaled down to `largest`."""
        if self._lazily:
            self._note(step, loss, norm)
            return TAKE
        value, length = float(loss), float(norm)
        self.last = self._agreed(self._judged(value, length, largest))
        if self.last.taken:
            self.in_a_row = 0
            self.losses.append(value)
            self.norms.append(length)
        elif self.last.action != "stop":
            self._count_in_a_row()
        self.counts["skipped"] += self.last.action == "skip"
        self.counts["clipped"] += self.last.action == "clip"
        self.counts["rolled_back"] += self.last.action == "roll-back"
        return self.last

    def check(self, step: int, advice: str, look: bool = False) -> None:
        """Ends the run where the guard said so.

        Args:
            step: the last step.
            look: also fetch what was noted on the device.

        Raises:
            UserError: the loss or the gradient is not a number, or too much was passed over.
        """
        if look and self._noted is not None and (noted := int(self._noted)):
            raise UserError(f"the loss or its gradient is not a finite number at step {noted}; {advice}")
        if self.last.action == "stop":
            raise UserError(f"{self.last.why} at step {step}; {advice}")

    def regular_state(self, step: int) -> None:
        """A state is about to be saved that roll-backs may go to."""
        self.anchor, self._roll_backs_here = step, 0

    def report(self) -> dict[str, float]:
        """For the log; empty where nothing but stopping can come of the guard."""
        return {f"guard/{name}": count for name, count in self.counts.items()} if self.guard.watches else {}

    def summary(self) -> str:
        """One line for people; empty where nothing happened."""
        words = {
            "skipped": "passed over",
            "clipped": "with a gradient that was scaled down",
            "rolled_back": "rolled back from",
        }
        found = [f"{count} {words[name]}" for name, count in self.counts.items() if count]
        return f"guard: of the steps, {', '.join(found)}" if found else ""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "counts": self.counts,
            "in_a_row": self.in_a_row,
            "roll_backs_here": self._roll_backs_here,
            "anchor": self.anchor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.take_over(state)
        self.counts = dict(state["counts"])
        self.in_a_row, self._roll_backs_here = state["in_a_row"], state["roll_backs_here"]
        self.anchor = state["anchor"]

    def take_over(self, state: dict[str, Any]) -> None:
        """Goes on, in a stage that carries on, with what the stage before saw; the counts are each stage's own."""
        self.losses = deque(state["losses"], maxlen=self.losses.maxlen)
        self.norms = deque(state["norms"], maxlen=self.norms.maxlen)

    def _judged(self, loss: float, norm: float, largest: float | None) -> Verdict:
        guard = self.guard
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return Verdict(guard.nan, f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is {norm}")
        if guard.spike is not None and _enough(self.losses):
            limit = loss_limit(self.losses, guard.spike.deviations)
            if loss > limit:
                return Verdict(guard.spike.then, f"the loss jumps to {loss:.4g} (ordinary: up to {limit:.4g})")
        if guard.gradient is not None and _enough(self.norms):
            limit = norm_limit(self.norms, guard.gradient.times)
            if norm > limit:
                why = f"the gradient's norm jumps to {norm:.4g} (ordinary: up to {limit:.4g})"
                left = norm if largest is None else min(norm, largest)  # of the norm, after the loop's own clipping
                return Verdict(guard.gradient.then, why, min(1.0, limit / left))
        return TAKE

    def _agreed(self, verdict: Verdict) -> Verdict:
        """The most careful of all processes' verdicts: numbers may differ by rounding where processors differ."""
        if not self.guard.watches:
            return verdict  # the sums of all processes: the same numbers, or no numbers, everywhere
        action = CAREFUL[int(self._agree(float(CAREFUL.index(verdict.action))))]
        if action == "take":
            return TAKE
        scale = -self._agree(-verdict.scale) if action == "clip" else 1.0
        return Verdict(action, verdict.why or "another process saw what this one did not", scale)

    def _count_in_a_row(self) -> None:
        """Counts, and stops where it has been too often."""
        self.in_a_row += 1
        rolls_back = self.last.action == "roll-back"
        self._roll_backs_here += rolls_back
        often = max(self.in_a_row, self._roll_backs_here if rolls_back else 0)
        if often > self.guard.in_a_row:
            before = f"{often - 1} roll-backs to one state" if rolls_back else f"{often - 1} steps passed over in a row"
            self.last = Verdict("stop", f"after {before} (train.guard.in_a_row), {self.last.why}")

    def _note(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Keeps the first step whose numbers are not finite, without waiting for the device."""
        if self._noted is None:
            self._noted = torch.zeros((), dtype=torch.int64, device=loss.device)
        bad = ~(torch.isfinite(loss.detach()) & torch.isfinite(norm.to(loss.device)))
        self._noted = torch.where(bad & (self._noted == 0), step, self._noted)


def _enough(values: deque[float]) -> bool:
    assert values.maxlen is not None
    return len(values) >= values.maxlen // 2
