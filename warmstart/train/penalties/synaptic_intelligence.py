"""Synaptic intelligence: weights that brought the loss down are pulled back, by what they did while they trained.

Every step adds gradient * movement to a weight's path: a share of the loss's change (negative where it falls), as the
line integral of the gradient along the way of the weights is the change of the loss. At a stage's end

    S += path / ((weight - weight at the start)^2 + damping)
    importance = min(-S, ceiling), and not below 0
    pull of the next stages = strength / 2 * sum_i importance_i * (weight_i - weight_i at the end)^2

The gradient is the one the optimizer takes: of the whole loss, penalties included, clipped. The movement is the real
one, whatever the optimizer. The published code leaves importances of weights that raised the loss negative, a pull away
from where they were; `below_zero` does so too.

The price: no pass of its own, but five tensors of each weight's shape, and one more while a step lasts.

Source: "Continual Learning Through Synaptic Intelligence" (arXiv 1703.04200); the settings of "On the Usage of
Continual Learning for Out-of-Distribution Generalization in Pre-trained Language Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from warmstart.objectives import Batch, Loss
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState
from warmstart.train.penalties.pull import Tensors, fitted, gradients_of, packed, quadratic_pull, snapshot, unpacked


def add_to_path(path: Tensors, gradient: Tensors, before: Tensors, after: Tensors) -> None:
    """Adds gradient * movement of one step to the path, in place: the loss's change, weight by weight.

    Example:
        In one's own loop::

            weights = dict(model.named_parameters())
            path = {name: torch.zeros_like(weight) for name, weight in snapshot(weights).items()}
            for batch in batches:
                loss_of(batch).backward()
                before = snapshot(weights)
                optimizer.step()
                add_to_path(path, gradients_of(weights), before, snapshot(weights))
                optimizer.zero_grad()
    """
    for name, one in gradient.items():
        path[name].addcmul_(one.to(path[name].dtype), after[name] - before[name])


class SynapticIntelligence(Penalty):
    """Pull weights back that brought earlier stages' losses down, as the path of training showed."""

    type: Literal["synaptic-intelligence"] = "synaptic-intelligence"
    once: ClassVar[bool] = True
    strength: Annotated[float, Field(ge=0)] = Field(10.0, description="lambda; the pull has half of it.")
    damping: Annotated[float, Field(gt=0)] = Field(
        0.1, description="epsilon: what is added to the square of a weight's whole movement."
    )
    ceiling: Annotated[float, Field(gt=0)] = Field(0.001, description="Largest importance.")
    below_zero: bool = Field(False, description="Keep importances below 0, as the published code does.")

    def start(self, ground: Ground) -> PenaltyState:
        return Synapses(self, ground)


class Synapses(PenaltyState):
    """The path of this stage, and what earlier ones left."""

    def __init__(self, settings: SynapticIntelligence, ground: Ground) -> None:
        self.settings = settings
        self._weights = dict(ground.weights())
        self._before: Tensors = {}
        self.begin = snapshot(self._weights)
        self.path = {name: torch.zeros_like(weight) for name, weight in self.begin.items()}
        self.total = {name: torch.zeros_like(weight) for name, weight in self.begin.items()}
        self.importance: Tensors = {}
        self.anchor: Tensors = {}

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        if self.settings.strength == 0 or not self.importance:
            return None
        return self.settings.strength / 2 * quadratic_pull(self._weights, self.importance, self.anchor)

    def before_update(self, moment: Moment) -> None:
        self._before = snapshot(self._weights)

    def after_update(self, moment: Moment) -> None:
        after = {name: weight.detach() for name, weight in self._weights.items()}
        add_to_path(self.path, gradients_of(self._weights), self._before, after)
        self._before = {}

    def finish(self) -> None:
        end = snapshot(self._weights)
        lowest = None if self.settings.below_zero else 0.0
        for name, path in self.path.items():
            self.total[name] += path / ((end[name] - self.begin[name]).square() + self.settings.damping)
            self.importance[name] = (-self.total[name]).clamp(min=lowest, max=self.settings.ceiling)
            self.anchor[name] = end[name]

    def tensors(self) -> dict[str, torch.Tensor]:
        return packed(self._groups())

    def _groups(self) -> dict[str, Tensors]:
        return {
            "begin": self.begin,
            "path": self.path,
            "total": self.total,
            "importance": self.importance,
            "anchor": self.anchor,
        }

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        for group in self._groups():
            setattr(self, group, unpacked(tensors, group, self._weights))

    def next_stage(self) -> None:
        """The old path is over; what is new in the model begins at zero."""
        for group in ("total", "importance", "anchor"):
            setattr(self, group, fitted(getattr(self, group), self._weights, "synaptic-intelligence"))
        self.begin = snapshot(self._weights)
        self.path = {name: torch.zeros_like(weight) for name, weight in self.begin.items()}
        self.total = {name: torch.zeros_like(weight) for name, weight in self.begin.items()} | self.total
