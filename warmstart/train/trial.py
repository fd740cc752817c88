"""Trials: short trainings from a stage's starting weights, thrown away once they have told what they were for.

Before a stage trains, something may have to be measured: which learning rate suits these weights and data, how much one
source helps another. A trial trains a copy of the starting weights for a few steps and says what that did. Trials are
deterministic, and all trials of a stage see the same rows in the same order where they use the same mix, so that they
can be compared pair by pair.

The price is compute, and it is counted: training, and the evaluations that the trial was asked for.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from warmstart.errors import UserError
from warmstart.objectives import Batch, Loss
from warmstart.randomness import derive_seed
from warmstart.train.compute import FlopMeter, Key, batch_key
from warmstart.train.guards import Guard
from warmstart.train.loop import Training
from warmstart.train.precision import autocast

if TYPE_CHECKING:
    from warmstart.data.mix import Mix
    from warmstart.data.prepare import Prepared
    from warmstart.recipe_stage import Stage
    from warmstart.train.schedules import Schedule


@dataclass(frozen=True)
class Trial:
    """What a short training did.

    Attributes:
        before: all evaluation values at the starting weights (`validation/loss`, `validation/<source>/loss`, ...); they
            are measured once for all trials of a stage.
        after: the same after the steps; both are empty where no evaluation was asked for.
        losses: the training loss of each step, nats per target. A trial whose loss is no longer a finite number stops.
        ahead: the mean loss at the end on the rows that would come next, without training on them; nan where not asked.
        flops: what the trial cost.
    """

    before: dict[str, float]
    after: dict[str, float]
    losses: list[float]
    ahead: float
    flops: float

    @property
    def diverged(self) -> bool:
        """The loss became infinite or no number."""
        return not all(math.isfinite(loss) for loss in self.losses)


class Trials:
    """The trials of one stage.

    Args:
        model: the stage's starting weights, on the CPU; never changed.
        stage: the stage, with a learning rate that is a number unless every trial is given one.
        data: the stage's prepared data.
        seed, number: the recipe's seed and the stage's number: what all randomness follows from.

    Attributes:
        source_names: what mixes and metrics call the sources, in their order.
        flops: what all trials so far cost together.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, stage: Stage, data: Prepared, *, seed: int, number: int
    ) -> None:
        self.source_names: list[str] = list(data.source_names)
        self.flops = 0.0
        self._model, self._tokenizer, self._stage, self._data = model, tokenizer, stage, data
        self._seed = derive_seed(seed, "stage", number, "trials")
        self._meter = FlopMeter()
        self._before: dict[str, float] | None = None

    def run(
        self,
        *,
        steps: int,
        mix: Mix | None = None,
        learning_rate: float | None = None,
        schedule: Schedule | None = None,
        evaluate: bool = True,
        ahead: int = 0,
    ) -> Trial:
        """Trains a copy of the starting weights and throws it away.

        Args:
            steps: optimizer steps, at least 1; the schedule runs over them.
            mix: which rows; default: the stage's mix.
            learning_rate, schedule: default: the stage's.
            evaluate: run the stage's evaluators before (once for all trials) and after.
            ahead: batches whose mean loss is taken after the last step, without training on them.

        Raises:
            ValueError: fewer than one step.
            DataError: the mix does not fit the sources.
        """
        if steps < 1:
            raise ValueError(f"a trial needs at least one step, not {steps}")
        spent = self.flops
        loop = self._training(steps, mix, learning_rate, schedule)
        if evaluate and self._before is None:
            self._before = self._evaluated(loop)
        losses: list[float] = []
        while len(losses) < steps and (not losses or math.isfinite(losses[-1])):
            loss, _ = loop.step()
            assert loss is not None
            losses.append(float(loss.total) if loop.watch.last.taken else math.nan)
        self.flops += loop.counts.flops
        after = self._evaluated(loop) if evaluate else {}
        mean = self._mean_loss_ahead(loop, ahead) if ahead else math.nan
        trial = Trial(dict(self._before or {}) if evaluate else {}, after, losses, mean, self.flops - spent)
        return loop.processes.agreed(trial)

    def steps_of_budget(self) -> int | None:
        """About how many steps the stage's budget is; None for a budget in seconds, which cannot be known."""
        budget = self._stage.budget
        assert budget is not None
        if budget.unit in ("steps", "seconds"):
            return int(budget.amount) if budget.unit == "steps" else None
        loop = self._training(1, None, 1.0, None)
        batch = loop.collate(loop.next_rows())
        choice = loop.settings.trainable.choose(0, 0, loop.model)
        each = (
            float(loop.tokens_of(batch)) if budget.unit == "tokens" else loop.cost.of_step(batch, choice, loop.moment())
        )
        return int(budget.amount / max(each, 1.0))

    def _training(
        self, steps: int, mix: Mix | None, learning_rate: float | None, schedule: Schedule | None
    ) -> Training:
        from warmstart.recipe_stage import Budget

        stage = self._stage
        assert stage.data is not None
        rate = learning_rate if learning_rate is not None else stage.train.learning_rate
        if not isinstance(rate, float):
            raise UserError("a trial needs a learning rate, and the stage's is not known yet")
        # Compiling takes longer than a trial; and a rate that needs a guard is not the one to choose.
        changes: dict[str, Any] = {"learning_rate": rate, "compile": False, "guard": Guard()}
        if schedule is not None:
            changes["schedule"] = schedule
        short = stage.model_copy(
            update={
                "carry_on": False,
                "budget": Budget(steps=steps),
                "train": stage.train.model_copy(update=changes),
                "data": stage.data if mix is None else stage.data.model_copy(update={"mix": mix}),
            }
        )
        nowhere = Path(tempfile.gettempdir()) / "warmstart-trial"  # a trial writes nothing
        loop = Training(
            copy.deepcopy(self._model), self._tokenizer, short, self._data, seed=self._seed, number=0, folder=nowhere
        )
        loop.cost.meter = self._meter
        return loop

    def _evaluated(self, loop: Training) -> dict[str, float]:
        """All evaluation values of a trial's model; the compute counts."""
        values: dict[str, float] = {}

        def forward() -> None:
            values.update(loop.evaluate())

        self.flops += self._measured(("evaluation",), forward, values) * loop.processes.count
        return values

    def _mean_loss_ahead(self, loop: Training, batches: int) -> float:
        """Per target, over the rows of so many further batches; every process computes all of it."""
        loop.model.eval()
        nats, targets = 0.0, 0
        size = loop.settings.batch_size // loop.settings.accumulate
        for _ in range(batches * loop.settings.accumulate):
            rows = [loop.data.train[source][row] for source, row in loop.mix.next(size, 1.0)]
            batch = {name: tensor.to(loop.device) for name, tensor in loop.collate(rows).items()}
            found: list[Loss] = []

            def forward(batch: Batch = batch, found: list[Loss] = found) -> None:
                with torch.no_grad(), autocast(loop.device.type, loop.precision):
                    found.append(loop.objective.loss_without_logits(loop.model, batch, loop.extra))

            self.flops += self._measured(("ahead", *batch_key(batch)), forward, found) * loop.processes.count
            nats += float(found[0].total) * int(found[0].targets)
            targets += int(found[0].targets)
            loop.counts.step += 1  # the next batch has masks of its own
        return nats / max(targets, 1)

    def _measured(self, key: Key, forward: Callable[[], None], filled: Any) -> float:
        """Runs `forward`, which fills `filled`, exactly once and says what it cost in FLOPs."""
        cost = self._meter.measure_forward(key, forward)
        if not filled:  # the cost was known from before, so that nothing was run
            forward()
        return cost
