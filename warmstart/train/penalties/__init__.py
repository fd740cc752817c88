"""Penalties: what is added to the loss of a step: a teacher's opinion, a pull towards old weights, old rows.

A penalty is a part; what it remembers while a training goes on is its state (`start`). The loop calls the state's hooks
at fixed places of every step and knows nothing else about it:

    loss             while the loss of a micro-batch is made: more to minimise, with a gradient
    aside            before a step: a batch beside the step's own, whose gradient it needs; so its FLOPs are known
    before_update    the step's gradient stands in `weight.grad`, before it is clipped
    after_update     the optimizer has moved the weights
    seen             the rows of the step, after it
    finish           the stage's budget is used: what a later stage must know of this one

A state is saved with the training, and handed to the next stage that has a penalty of the same name: that is how
importances and memories survive from one stage to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.objectives import Batch, Loss, Objective, Row
from warmstart.part import Part


@dataclass(frozen=True)
class Ground:
    """What a penalty's state stands on: the training it accompanies.

    Attributes:
        model, extra: the model that trains and the objective's own modules (None where it has none).
        seed: for this penalty in this stage alone.
        batch_size: rows of a training step, over all processes.
        rows: all training rows of the stage in the order of the data, each source after the other.
        batch_of: rows to a batch on the device, as a training step makes it; the second argument, any words and
            numbers, is what its masks are drawn from.
    """

    model: PreTrainedModel
    tokenizer: Any
    objective: Objective
    extra: nn.Module | None
    device: torch.device
    precision: str
    seed: int
    batch_size: int
    rows: Callable[[], Iterator[Row]]
    batch_of: Callable[[Sequence[Row], tuple[Any, ...]], Batch]

    def loss(self, batch: Batch) -> Loss:
        """The objective's loss of a batch under the model."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.objective.loss_without_logits(self.model, batch, self.extra)

    def weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights that train, with their names."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def gradient(self, batch: Batch, weights: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
        """The gradient of the objective's loss of a batch, by the weights' names; zero where the loss has none.

        The model computes it in evaluation mode (without dropout, so that all processes get the same one). Modes,
        random states and `weight.grad` are left as they were.
        """
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.enable_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(self.seed)  # an objective may draw on the device
                found = torch.autograd.grad(self.loss(batch).total, list(weights.values()), allow_unused=True)
        finally:
            for module, mode in modes.items():
                module.training = mode
        pairs = zip(weights.items(), found, strict=True)
        return {name: torch.zeros_like(weight) if g is None else g for (name, weight), g in pairs}


@dataclass(frozen=True)
class Moment:
    """When something happens: the step about to be taken, counted from the beginning of the training (over stages that
    carry on), and the share of its budget that is used, 0 to 1; for `loss` also which of the step's micro-batches, over
    all processes, it is called for."""

    step: int
    progress: float
    piece: int = 0
    pieces: int = 1

    def before(self, end: float | None) -> bool:
        """Whether this is before `end`: a share of the budget (below 1), a number of steps, or never (None)."""
        if end is None:
            return True
        return self.progress < end - 1e-9 if end < 1 else self.step < end


class PenaltyState:
    """What a penalty remembers. Every hook may be left out."""

    needs_logits = False
    """Whether `loss` looks at `Loss.logits`: they are kept only then."""

    def active(self, moment: Moment) -> bool:
        """Whether the penalty has a say in this step; steps in which the same ones have cost the same FLOPs."""
        return True

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        """More to minimise beside `loss.total`: a scalar in nats per target, with a gradient; None for nothing.

        It is called for every micro-batch, and the results are weighted like the micro-batches' losses: with weights
        that add up to one. `loss.parts` is for what the log should show. It is also called once when a step's FLOPs
        are measured, so that it must change nothing that is saved.
        """
        return None

    def aside(self, moment: Moment) -> Batch | None:
        """A batch whose gradient (`Ground.gradient`) `before_update` will take in this step; its FLOPs are counted.

        It is asked for several times in a step, so that it follows from what is remembered and the moment alone.
        """
        return None

    def before_update(self, moment: Moment) -> None:
        """The step's gradient, this penalty's included, stands in `weight.grad`. Nothing that is saved changes here: a
        guard may still pass the step over, and then no other hook follows."""

    def after_update(self, moment: Moment) -> None:
        """The weights have moved; their gradients are still there."""

    def seen(self, rows: Sequence[Row]) -> None:
        """The rows of the step that was taken."""

    def finish(self) -> None:
        """The stage is over. The FLOPs of what is computed here are shown beside those of training, and the next stage
        of the recipe pays for them."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that changes and is a tensor."""
        return {}

    def values(self) -> dict[str, Any]:
        """Everything else that changes, as JSON takes it."""
        return {}

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Goes on from what was saved."""

    def next_stage(self) -> None:
        """After `load` of a finished stage's state: another stage begins."""


class Penalty(Part, room="penalties"):
    """The contract of a penalty."""

    once: ClassVar[bool] = False
    """Whether a stage may have it only once: two of it would count the same twice."""
    with_shares: ClassVar[bool] = False
    """Whether it works where every process has only its share of the weights (`train.shard`)."""

    def start(self, ground: Ground) -> PenaltyState:
        """The state at the beginning of a training.

        Raises:
            UserError: this penalty cannot accompany this training.
        """
        raise NotImplementedError
