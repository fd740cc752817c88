"""Evaluators: (model, tokenizer) -> {name: value}."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
    """

    model: nn.Module
    tokenizer: Any
    objective: Objective
    data: Prepared
    seed: int
    precision: str = "fp32"
    also: dict[str, Prepared] = field(default_factory=dict)


class Evaluator(Part, room="evaluate"):
    """The contract of an evaluator. Values are plain floats; names look like `validation/loss`."""

    def evaluate(self, subject: Subject) -> dict[str, float]:
        raise NotImplementedError
