"""Evaluators: (model, tokenizer) -> {name: value}."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from warmstart.part import Part

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared
    from warmstart.objectives import Objective


@dataclass
class Subject:
    """What an evaluator is given: the model and what it was trained with.

    Attributes:
        also: further held-out sets by name (`evaluate.also`); their metrics are called `<name>/...`.
        start: the weights at the stage's beginning, on the CPU, where an evaluator needs them.
    """

    model: nn.Module
    tokenizer: Any
    objective: Objective
    data: Prepared
    seed: int
    precision: str = "fp32"
    also: dict[str, Prepared] = field(default_factory=dict)
    start: dict[str, torch.Tensor] | None = None


class Evaluator(Part, room="evaluate"):
    """The contract of an evaluator. Values are plain floats; names look like `validation/loss`."""

    needs_start: ClassVar[bool] = False
    """Whether the weights at the stage's beginning must be kept for it (they stand in the stage's folder)."""

    def evaluate(self, subject: Subject) -> dict[str, float]:
        raise NotImplementedError
