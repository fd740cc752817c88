"""A-GEM: no step may raise the loss on remembered rows, to first order.

At every stage's end a random sample of its rows is kept. In later stages every step computes a reference gradient on a
few of them, the same number of each earlier stage; where the step's gradient g points against it, the part against it
is taken away:

    if g . g_ref < 0:   g <- g - (g . g_ref) / |g_ref|^2 * g_ref

so that g . g_ref = 0 after it. The gradients are those of all weights that train, as one vector; clipping comes after.
GEM proper keeps one constraint for every earlier stage and solves a quadratic program; A-GEM is its average, at the
price of one gradient.

The reference is computed in evaluation mode (see `Ground.gradient`). The price: a forward and backward pass over
`batch` rows in every step, and one more gradient in memory. FLOPs of both passes are counted.

Source: "Efficient Lifelong Learning with A-GEM" (arXiv 1812.00420); the settings of "On the Usage of Continual Learning
for Out-of-Distribution Generalization in Pre-trained Language Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from warmstart.objectives import Batch
from warmstart.randomness import numpy_generator
from warmstart.train.gradients import Gradients, GradientState
from warmstart.train.penalties import Ground, Moment
from warmstart.train.reservoir import Reservoir, check_still_fits, vocabulary_of


def project(gradient: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor]) -> bool:
    """Takes the part of a gradient that points against a reference away, in place; whether there was one.

    Args:
        gradient, reference: by the weights' names, one vector together. A reference of zero changes nothing.

    Example:
        In one's own loop, after `loss.backward()` and before clipping::

            weights = dict(model.named_parameters())
            reference = dict(zip(weights, torch.autograd.grad(loss_of(old_batch), list(weights.values()))))
            project({name: weight.grad for name, weight in weights.items()}, reference)
    """
    along = sum(float((g.double() * reference[name].double()).sum()) for name, g in gradient.items())
    square = sum(float(r.double().square().sum()) for r in reference.values())
    if along >= 0 or square == 0:
        return False
    for name, g in gradient.items():
        g.sub_(reference[name].to(g.dtype), alpha=along / square)
    return True


class AGem(Gradients):
    """Averaged gradient episodic memory: take away what would raise the loss on remembered rows."""

    type: Literal["a-gem"] = "a-gem"
    rows: Annotated[int, Field(gt=0)] = Field(250, description="Rows that are remembered of each stage.")
    batch: Annotated[int, Field(gt=0)] = Field(
        6, description="Rows of the reference gradient; shared equally by the earlier stages, at least one of each."
    )

    def start(self, ground: Ground) -> GradientState:
        return Episodes(self, ground)


class Episodes(GradientState):
    """What is remembered of each earlier stage."""

    def __init__(self, settings: AGem, ground: Ground) -> None:
        self.settings, self._ground = settings, ground
        self._weights = dict(ground.weights())
        self.memories: list[Reservoir] = []
        self._vocabulary = vocabulary_of(ground.tokenizer)

    def active(self, moment: Moment) -> bool:
        return bool(self.memories)

    def aside(self, moment: Moment) -> Batch | None:
        """The same number of rows of every earlier stage."""
        generator = numpy_generator(self._ground.seed, "draw", moment.step)
        each = max(1, self.settings.batch // len(self.memories))
        rows = [row for memory in self.memories for row in memory.drawn(each, generator)]
        return self._ground.batch_of(rows, ("old", moment.step))

    def before_update(self, moment: Moment) -> None:
        batch = self.aside(moment)
        assert batch is not None
        for weight in self._weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradient = {name: weight.grad for name, weight in self._weights.items() if weight.grad is not None}
        project(gradient, self._ground.gradient(batch, self._weights))

    def finish(self) -> None:
        memory = Reservoir(self.settings.rows)
        memory.offer(self._ground.rows(), numpy_generator(self._ground.seed, "offer", len(self.memories)))
        self.memories.append(memory)

    def tensors(self) -> dict[str, torch.Tensor]:
        found = ((number, memory.tensors()) for number, memory in enumerate(self.memories))
        return {f"{number}/{column}": tensor for number, columns in found for column, tensor in columns.items()}

    def values(self) -> dict[str, Any]:
        return {"offered": [memory.offered for memory in self.memories], "vocabulary": self._vocabulary}

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        self.memories = []
        for number, offered in enumerate(values["offered"]):
            memory = Reservoir(self.settings.rows)
            mine = f"{number}/"
            memory.load({k[len(mine) :]: tensor for k, tensor in tensors.items() if k.startswith(mine)}, offered)
            self.memories.append(memory)
        check_still_fits("gradients a-gem", self.memories, values["vocabulary"], self._ground)
