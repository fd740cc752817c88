"""Elastic weight consolidation: weights that the old data's loss is sensitive to are pulled back to where they were.

At the end of every stage the importance of a weight is the mean square of its gradient over the stage's rows (the
diagonal of the empirical Fisher information, with the true labels). Later stages add

    strength * sum over earlier stages k, sum_i F_k,i * (weight_i - weight_k,i)^2

`squares: batch` squares the gradients of whole batches, as the published code does. That is smaller than the Fisher
information by about the batch size, so that `strength` is tied to the batch size; it is the default because it costs
one backward pass per batch, and because the published strengths go with it. `squares: row` squares every row's own.

The sum over earlier stages is one pull: F (w - a)^2 + G (w - b)^2 = (F + G) (w - c)^2 + const, c the mean of a and b
weighted by F and G. So `separate`, which keeps every stage, needs two tensors of each weight's shape, however many
stages there were. `online` keeps only the last weights as the anchor, and multiplies what was important before by
`decay`.

The price: a forward and backward pass over the rows (or `batches` of them) at each stage's end, and the two tensors.

Source: "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796); online: "Progress & Compress" (arXiv
1805.06370); the settings of "On the Usage of Continual Learning for Out-of-Distribution Generalization in Pre-trained
Language Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from warmstart.objectives import Batch, Loss, Row
from warmstart.randomness import numpy_generator
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState
from warmstart.train.penalties.pull import Tensors, fitted, packed, quadratic_pull, snapshot, unpacked
from warmstart.train.reservoir import Reservoir


def mean_squares(gradients: Iterable[Mapping[str, torch.Tensor]]) -> Tensors:
    """The mean over gradients of their squares, by the weights' names; empty where there are none.

    Example:
        In one's own loop, when a task is over::

            weights = dict(model.named_parameters())
            importance = mean_squares(
                dict(zip(weights, torch.autograd.grad(loss_of(batch), list(weights.values())))) for batch in batches
            )
            anchor = snapshot(weights)  # see `quadratic_pull` for what becomes of the two
    """
    sums: Tensors = {}
    count = 0
    for gradient in gradients:
        count += 1
        for name, one in gradient.items():
            square = one.detach().float().square()
            sums[name] = sums[name].add_(square) if name in sums else square
    return {name: total.div_(count) for name, total in sums.items()}


def merged(
    importance: torch.Tensor, anchor: torch.Tensor, more: torch.Tensor, there: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pulls on the same weights as one.

    Returns:
        The sum of the importances, the anchor of both, and the constant between the two pulls' sum and the one pull.
    """
    total = importance + more
    share = torch.where(total > 0, more / total.clamp(min=torch.finfo(total.dtype).tiny), 1.0)
    apart = there - anchor
    return total, anchor + share * apart, (importance * share * apart.square()).sum()


class Ewc(Penalty):
    """Elastic weight consolidation: pull weights that old losses are sensitive to back to where they were."""

    type: Literal["ewc"] = "ewc"
    once: ClassVar[bool] = True
    strength: Annotated[float, Field(ge=0)] = Field(0.3, description="lambda, without a half.")
    mode: Literal["separate", "online"] = Field(
        "separate", description="separate: every stage pulls to its own end; online: all to the last stage's end."
    )
    decay: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="online: what earlier importances are multiplied by at each stage's end."
    )
    squares: Literal["batch", "row"] = Field(
        "batch", description="Whose gradients are squared: batches of the training's size, or single rows."
    )
    batches: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Measure on so many random batches (rows); null: on all of the stage."
    )

    def start(self, ground: Ground) -> PenaltyState:
        return Consolidation(self, ground)


class Consolidation(PenaltyState):
    """What mattered so far, and where it was."""

    def __init__(self, settings: Ewc, ground: Ground) -> None:
        self.settings, self._ground = settings, ground
        self._weights = dict(ground.weights())
        self.importance: Tensors = {}
        self.anchor: Tensors = {}
        self.constant = 0.0

    def active(self, moment: Moment) -> bool:
        return self.settings.strength > 0 and bool(self.importance)

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        pull = quadratic_pull(self._weights, self.importance, self.anchor)
        return self.settings.strength * (pull + self.constant)

    def finish(self) -> None:
        found = mean_squares(self._ground.gradient(batch, self._weights) for batch in self._batches())
        here = snapshot(self._weights)
        online = self.settings.mode == "online"
        for name, importance in found.items():
            before = self.importance.get(name)
            if before is None:
                self.importance[name], self.anchor[name] = importance, here[name]
            elif online:
                self.importance[name], self.anchor[name] = self.settings.decay * before + importance, here[name]
            else:
                self.importance[name], self.anchor[name], constant = merged(
                    before, self.anchor[name], importance, here[name]
                )
                self.constant += float(constant)

    def _batches(self) -> Iterator[Batch]:
        """The stage's rows in batches of the training's size, or one by one; all of them, or a random sample."""
        size = self._ground.batch_size if self.settings.squares == "batch" else 1
        rows: Iterable[Row] = self._ground.rows()
        if self.settings.batches is not None:
            sample = Reservoir(self.settings.batches * size)
            sample.offer(rows, numpy_generator(self._ground.seed, "importance"))
            rows = sample.rows
        left = iter(rows)
        number = 0
        while chunk := list(islice(left, size)):
            yield self._ground.batch_of(chunk, ("importance", number))
            number += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        return packed({"importance": self.importance, "anchor": self.anchor})

    def values(self) -> dict[str, Any]:
        return {"constant": self.constant}

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        self.importance = unpacked(tensors, "importance", self._weights)
        self.anchor = unpacked(tensors, "anchor", self._weights)
        self.constant = values["constant"]

    def next_stage(self) -> None:
        self.importance = fitted(self.importance, self._weights, "ewc")
        self.anchor = fitted(self.anchor, self._weights, "ewc")
