"""Riemannian walk: weights that are sensitive, or that brought the loss down for little movement, are pulled back.

Two importances, each scaled by its largest value over all weights, so that their sum lies between 0 and 2:

    F      a running mean of squared gradients: F = share * g^2 + (1 - share) * F
    score  every `every` steps: fall of the loss / (F / 2 * movement^2 + machine epsilon), summed over the stage, then
           averaged with what earlier stages left
    P      F / max F + relu(score) / max score
    pull   strength * sum_i P_i * (weight_i - weight_i at the end of the last stage)^2

g is the gradient without this penalty. The published code computes it by a second forward and backward pass over the
batch, in evaluation mode. Here it is what stands in the weights less the pull's own gradient, which is known exactly:
the same number up to rounding where the model has no dropout and no other penalty accompanies the training; with
dropout it is the gradient of the training's own draw, with other penalties that of the loss with theirs. It costs no
pass.

The price: seven tensors of each weight's shape, and two more while a step lasts.

Source: "Riemannian Walk for Incremental Learning" (arXiv 1801.10112); the settings of "On the Usage of Continual
Learning for Out-of-Distribution Generalization in Pre-trained Language Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from warmstart.objectives import Batch, Loss
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState
from warmstart.train.penalties.pull import Tensors, fitted, gradients_of, packed, quadratic_pull, snapshot, unpacked

EPSILON = torch.finfo(torch.float32).eps


def walk_importance(fisher: Tensors, score: Tensors) -> Tensors:
    """F / max F + relu(score) / max score, by the weights' names: between 0 and 2. The maxima are over all weights.

    Example:
        In one's own loop, with running means of squared gradients and scores::

            importance = walk_importance(fisher, score)
            loss = loss_of(batch) + 0.1 * quadratic_pull(weights, importance, anchor)
    """
    most = max(float(f.max()) for f in fisher.values())
    best = max(float(s.max()) for s in score.values())
    return {
        name: (f / most if most > 0 else torch.zeros_like(f))
        + (score[name].relu() / best if best > 0 else torch.zeros_like(f))
        for name, f in fisher.items()
    }


class RWalk(Penalty):
    """Riemannian walk: pull weights back by their sensitivity and by what the loss fell for their movement."""

    type: Literal["rwalk"] = "rwalk"
    once: ClassVar[bool] = True
    strength: Annotated[float, Field(ge=0)] = Field(0.1, description="lambda.")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="alpha: the newest squared gradient's share in the running mean."
    )
    every: Annotated[int, Field(gt=0)] = Field(2, description="Steps between updates of the score.")

    def start(self, ground: Ground) -> PenaltyState:
        return Walk(self, ground)


class Walk(PenaltyState):
    """The walk of this stage, and what earlier ones left."""

    def __init__(self, settings: RWalk, ground: Ground) -> None:
        self.settings = settings
        self._weights = dict(ground.weights())
        self._gradient: Tensors = {}
        self._before: Tensors = {}
        self.steps = 0
        self.checkpoint = snapshot(self._weights)
        self.fisher, self.fall, self.walked = self._zeros(), self._zeros(), self._zeros()
        self.score: Tensors = {}
        self.importance: Tensors = {}
        self.anchor: Tensors = {}

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        if self.settings.strength == 0 or not self.importance:
            return None
        return self.settings.strength * quadratic_pull(self._weights, self.importance, self.anchor)

    def before_update(self, moment: Moment) -> None:
        self._before = snapshot(self._weights)
        self._gradient = gradients_of(self._weights)
        for name, gradient in self._gradient.items():
            if name in self.importance:
                apart = self._before[name] - self.anchor[name]
                gradient -= 2 * self.settings.strength * self.importance[name] * apart

    def after_update(self, moment: Moment) -> None:
        share = self.settings.share
        for name, gradient in self._gradient.items():
            self.fisher[name].mul_(1 - share).addcmul_(gradient, gradient, value=share)
            self.fall[name].addcmul_(gradient, self._weights[name].detach() - self._before[name], value=-1)
        self.steps += 1
        if self.steps % self.settings.every == 0:
            for name, weight in self._weights.items():
                moved = weight.detach() - self.checkpoint[name]
                self.walked[name] += self.fall[name] / (self.fisher[name] / 2 * moved.square() + EPSILON)
                self.fall[name].zero_()
            self.checkpoint = snapshot(self._weights)
        self._gradient, self._before = {}, {}

    def finish(self) -> None:
        for name, walked in self.walked.items():
            self.score[name] = (self.score[name] + walked) / 2 if name in self.score else walked.clone()
        fisher = {name: self.fisher[name] for name in self.walked}
        found = walk_importance(fisher, {name: self.score[name] for name in self.walked})
        self.importance |= found
        self.anchor |= snapshot(self._weights)

    def tensors(self) -> dict[str, torch.Tensor]:
        return packed(self._groups())

    def values(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def _groups(self) -> dict[str, Tensors]:
        return {
            "checkpoint": self.checkpoint,
            "fisher": self.fisher,
            "fall": self.fall,
            "walked": self.walked,
            "score": self.score,
            "importance": self.importance,
            "anchor": self.anchor,
        }

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        for group in self._groups():
            setattr(self, group, unpacked(tensors, group, self._weights))
        self.steps = values["steps"]

    def next_stage(self) -> None:
        """The old walk is over; what is new in the model begins at zero."""
        for group in ("fisher", "score", "importance", "anchor"):
            setattr(self, group, fitted(getattr(self, group), self._weights, "rwalk"))
        self.fisher = self._zeros() | self.fisher
        self.fall, self.walked, self.steps = self._zeros(), self._zeros(), 0
        self.checkpoint = snapshot(self._weights)

    def _zeros(self) -> Tensors:
        return {name: torch.zeros_like(weight) for name, weight in snapshot(self._weights).items()}
